"""Streamlit's sessions from outside of a run: found, drawn anew, emptied, tidied.

Streamlit offers no way to do so, hence the looks behind its public face; all of them are in this file. A session's runs
begin and end on the server's event loop, so what must not happen beside a run is done there.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from streamlit import runtime
from streamlit.runtime import Runtime
from streamlit.runtime.app_session import AppSession

#: How long the event loop may take to get to something, in seconds.
PATIENCE = 30.0


def is_served() -> bool:
    """Whether pages are run by a server, and not one page by itself, where something stands in a server's place."""
    return runtime.exists() and type(runtime.get_instance()) is Runtime


def find_session(session: str) -> AppSession | None:
    """Find a session whose browser is connected."""
    info = runtime.get_instance()._session_mgr.get_active_session_info(session) if is_served() else None
    return info.session if info else None


def is_connected(session: str) -> bool:
    """Whether a session's browser is connected."""
    return runtime.exists() and runtime.get_instance().is_active_session(session)


def redraw(app: AppSession) -> None:
    """Have a page drawn anew, as if its browser had asked for that."""
    app._call_soon_on_event_loop(lambda: app.request_rerun(None))


def at_rest(app: AppSession, act: Callable[[AppSession], Any]) -> bool:
    """Do something with a session while nothing of it runs; tells whether it was, which is not so during a run."""
    done: Future[bool] = Future()

    def look() -> None:
        try:
            resting = app._scriptrunner is None
            if resting:
                act(app)
            done.set_result(resting)
        except Exception as error:  # for who waits in the other thread, where it is raised
            done.set_exception(error)

    app._call_soon_on_event_loop(look)
    return done.result(PATIENCE)


def stop(app: AppSession) -> None:
    """Have a run end at its next word to the page."""
    app._call_soon_on_event_loop(app.request_script_stop)


def read_state(app: AppSession) -> dict[str, Any]:
    """What code has kept for a session, by name."""
    return app.session_state.filtered_state


def empty(app: AppSession) -> None:
    """Forget all that a session keeps: what code kept, what widgets say and call, and parts that can be drawn alone.

    It finds "emptied" in its state at its next run.
    """
    app.session_state.clear()
    app.session_state._new_widget_state.widget_metadata.clear()
    app._fragment_storage.clear()
    app.session_state["emptied"] = True


def tidy(app: AppSession) -> None:
    """Forget what a session keeps of the run before the last one, and what widgets call that are no longer drawn."""
    state = app.session_state
    widgets = state._new_widget_state
    for key in (*state._new_session_state, *widgets.states):
        state._old_state.pop(key, None)
    for gone in set(widgets.widget_metadata) - set(widgets.states) - set(state._old_state):
        del widgets.widget_metadata[gone]


def drop_files(session: str) -> None:
    """Remove a session's uploaded files, and what it sent that is no part of a page."""
    server = runtime.get_instance()
    server.uploaded_file_mgr.remove_session_files(session)
    server.media_file_mgr.clear_session_refs(session)
    server.media_file_mgr.remove_orphaned_files()
    server.dataframe_source_mgr.clear_all_for_session(session)
