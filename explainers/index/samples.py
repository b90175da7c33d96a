"""How an index finds its pictures again. Free of torch."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from explainers import records
from explainers.cache import digest
from explainers.errors import ImageError
from explainers.images import File, Picture, Sample
from explainers.images.folder import shown
from explainers.images.picture import USUAL, Reading
from explainers.results import descendants
from explainers.settings import settings


@dataclass(frozen=True)
class Upload(Sample):
    """A picture that a person uploaded, held in memory: an index of it holds its digest, never its pixels."""

    picture: Picture

    def read(self, reading: Reading = USUAL) -> Picture:
        """Give the picture; how it is read was chosen when it was uploaded."""
        return replace(self.picture, label=self.label)


def write_sample(sample: Sample) -> str:
    """Describe as JSON how to find a sample again."""
    return json.dumps(describe(sample))


def name_samples(samples: tuple[Sample, ...]) -> str:
    """Name samples, changed files anew; the same ones of the server are asked about at every run of a page."""
    private = any(isinstance(one, Upload) for one in samples)  # which nothing may hold when its session has ended
    return _name(samples) if private else _name_public(samples)


@lru_cache(maxsize=32)
def _name_public(samples: tuple[Sample, ...]) -> str:
    return _name(samples)


def _name(samples: tuple[Sample, ...]) -> str:
    return digest(*map(write_sample, samples), *(str(one.stamp) for one in samples if isinstance(one, File)))


def read_sample(text: str, uploads: Mapping[str, Picture], anywhere: bool = False) -> Sample:
    """Find a sample by its description, an upload among the session's pictures by digest.

    A description may have been written by anybody: it names one of the kinds of samples that there are, and files only
    in folders whose pictures this process shows, unless they may be ``anywhere``. Raises ImageError.
    """
    try:
        entry = json.loads(text)
        kind, given = known_kinds()[entry["kind"]], plain(entry)
        if kind is Upload:
            given["picture"] = find_upload(given["picture"], uploads)
        sample: Sample = records.restore(kind, given)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ImageError(
            "The index names a picture of an unknown kind, or in a way that is none. Build the index again."
        ) from error
    if isinstance(sample, File) and not (anywhere or is_shown(sample.path)):
        raise ImageError(
            f"The index names a picture that is not here: {sample.name} lies outside of the folders that this server "
            "shows. Build the index again."
        )
    return sample


def known_kinds() -> dict[str, type[Sample]]:
    """The kinds of samples that there are, by where they are defined; nothing is imported because an index names it."""
    import sample_models  # noqa: F401  # defines some

    return {name_kind(kind): kind for kind in descendants(Sample)}


def name_kind(kind: type[Any]) -> str:
    """Name a kind by where it is defined."""
    return f"{kind.__module__}:{kind.__qualname__}"


def find_upload(digest: str, uploads: Mapping[str, Picture]) -> Picture:
    """Find one of the session's own pictures by its digest; raises ImageError."""
    if digest not in uploads:
        raise ImageError("The picture was uploaded in a session that has ended. Upload it again.")
    return uploads[digest]


def is_shown(path: Path) -> bool:
    """Whether a file lies in a folder whose pictures this process shows, wherever links lead."""
    places = [place for place in (settings().data, *shown) if place]
    return any(path.resolve().is_relative_to(place.resolve()) for place in places)


def plain(value: Any) -> Any:
    """Leave of a description the values of fields."""
    if isinstance(value, list):
        return [plain(item) for item in value]
    if not isinstance(value, dict):
        return value
    for wrapper in ({"path"}, {"upload"}, {"kind", "fields"}):
        if value.keys() == wrapper:
            return plain(value[min(wrapper)])
    return {name: plain(item) for name, item in value.items()}


def describe(value: Any) -> Any:
    """Write what a sample consists of as plain values."""
    if isinstance(value, Picture):
        return {"upload": value.digest}
    if isinstance(value, Path):
        return {"path": str(value)}
    if is_dataclass(value):
        finding = [field.name for field in fields(value) if field.metadata.get("finds", True)]
        return {"kind": name_kind(type(value)), "fields": {name: describe(getattr(value, name)) for name in finding}}
    return [describe(item) for item in value] if isinstance(value, tuple) else value


@dataclass(frozen=True)
class StoredSamples:
    """The samples of an index by row, made when they are asked for, see ``read_sample``."""

    descriptions: Sequence[str]
    uploads: Mapping[str, Picture]
    anywhere: bool = False

    def __len__(self) -> int:
        return len(self.descriptions)

    def __getitem__(self, row: int) -> Sample:
        return read_sample(self.descriptions[row], self.uploads, self.anywhere)
