"""Files as they arrive: counted while they do, refused where too much is held already, and never on disk."""

from __future__ import annotations

import logging
import os
import re
import tempfile
from contextlib import suppress

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartParser
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from streamlit.runtime import get_instance

from components import holdings
from components.belongings import register
from explainers.errors import LimitError
from explainers.folders import MEMORY, PrivateFolder, remove_leftovers

#: Where browsers put and remove files: the session's name, and the file's.
UPLOAD = re.compile(r"/_stcore/upload_file/([^/]+)/([^/]+)$")

_log = logging.getLogger(__name__)
#: The server's folder for temporary files, which goes with it.
_folders: list[PrivateFolder] = []


class Arrivals:
    """Looks after every file that a browser sends: its session is registered at the first byte."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        keep_in_memory()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a file arrive, or be removed."""
        place = UPLOAD.search(scope["path"]) if scope["type"] == "http" else None
        if place is None or scope["method"] not in ("PUT", "DELETE"):
            await self.app(scope, receive, send)
            return
        arrival = Arrival(place[1], place[2], Headers(scope=scope).get("content-length", ""), receive)
        try:
            with suppress(ClientDisconnect):  # who sends has gone, and it is no fault of the server's
                await self.app(scope, arrival.receive, send)
        finally:
            arrival.end()


class Arrival:
    """One file on its way from a browser: ``claimed`` are the bytes that are counted as its session's by now."""

    def __init__(self, session: str, file: str, length: str, receive: Receive) -> None:
        self.session, self.file, self.hear = session, file, receive
        self.length = int(length) if length.isascii() and length.isdigit() else 0
        self.claimed = 0

    async def receive(self) -> Message:
        """Hear the next part, and count it; refuses the file, with a sentence for its page, if that is too much.

        Streamlit asks for the first part once it knows that the session is there and the request is no forgery.
        """
        if not self.claimed:
            register(self.session)
            self.claim(max(self.length, holdings.RECORD))  # what is too large is refused before it comes
            holdings.budget().release(self.claimed - holdings.RECORD, self.session)
            self.claimed = holdings.RECORD
        message = await self.hear()
        self.claim(len(message.get("body", b"")))
        return message

    def claim(self, amount: int) -> None:
        """Count bytes; raises HTTPException."""
        try:
            holdings.claim(amount, self.session)
        except LimitError as error:
            holdings.refuse_file(self.session, str(error))
            raise HTTPException(413, str(error)) from None
        self.claimed += amount

    def end(self) -> None:
        """Count what is kept of the file from now on; that goes with its session, even if that has ended meanwhile."""
        holdings.keep_file(self.session, self.file, self.claimed)
        if get_instance().uploaded_file_mgr.get_files(self.session, [self.file]):
            register(self.session)


def keep_in_memory() -> None:
    """Have the server write no file to disk as it arrives, nor anything else that is there for a while only.

    Raises SettingError if there is no place for that.
    """
    # What arrives is bounded by the budget, and counted once only as long as it is not written to a file as well.
    MultiPartParser.spool_max_size = 2**62
    remove_leftovers()
    if MEMORY is None:
        _log.warning("This system has no folder in memory (/dev/shm): what libraries write for a while goes to disk.")
    if not _folders:
        _folders.append(PrivateFolder())
        tempfile.tempdir = os.environ["TMPDIR"] = _folders[0].name
