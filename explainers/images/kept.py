"""Pictures of the server that were read, kept for everybody as far as there is room."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict

from explainers.errors import ImageError
from explainers.images.folder import Sample
from explainers.images.picture import Picture
from explainers.settings import settings

#: For how many seconds a picture that could not be read is not tried again, and how many of them are known.
UNTRIED, REFUSED = 300.0, 1000


class Kept:
    """Pictures by their samples, up to as many bytes as the settings allow; those not asked for longest go first."""

    def __init__(self) -> None:
        self._pictures: OrderedDict[Sample, Picture] = OrderedDict()
        self._refused: dict[Sample, tuple[float, str]] = {}
        self._lock = threading.Lock()

    def read(self, sample: Sample) -> Picture:
        """Give a picture, read if it is not kept; raises ImageError, for a while without trying again."""
        with self._lock:
            if sample in self._pictures:
                self._pictures.move_to_end(sample)
                return self._pictures[sample]
            until, reason = self._refused.get(sample, (0.0, ""))
        if time.monotonic() < until:
            raise ImageError(reason)
        try:
            picture = sample.read()
        except ImageError as error:
            self._refuse(sample, str(error))
            raise
        self._keep(sample, picture)
        return picture

    def _refuse(self, sample: Sample, reason: str) -> None:
        with self._lock:
            self._refused[sample] = time.monotonic() + UNTRIED, reason
            while len(self._refused) > REFUSED:
                del self._refused[next(iter(self._refused))]

    def _keep(self, sample: Sample, picture: Picture) -> None:
        with self._lock:
            self._pictures[sample] = picture
            while self._pictures and self.nbytes > settings().picture_cache:
                self._pictures.popitem(last=False)

    @property
    def nbytes(self) -> int:
        """How many bytes the pictures take that are kept."""
        return sum(picture.nbytes for picture in self._pictures.values())
