"""How an index finds its pictures again. Free of torch."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any

from explainers.cache import digest
from explainers.errors import ImageError
from explainers.images import File, Picture, Sample
from explainers.images.picture import USUAL, Reading

#: Where the kinds of samples are defined; an index that names others is refused.
PACKAGES = ("explainers", "sample_models")


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


def read_sample(text: str, uploads: Mapping[str, Picture]) -> Sample:
    """Find a sample by its description, an upload among the session's pictures by digest; raises ImageError."""
    sample: Sample = find(json.loads(text), uploads)
    return sample


def describe(value: Any) -> Any:
    """Write what a sample consists of as plain values."""
    if isinstance(value, Picture):
        return {"upload": value.digest}
    if isinstance(value, Path):
        return {"path": str(value)}
    if is_dataclass(value):
        kind = f"{type(value).__module__}:{type(value).__qualname__}"
        finding = [field.name for field in fields(value) if field.metadata.get("finds", True)]
        return {"kind": kind, "fields": {name: describe(getattr(value, name)) for name in finding}}
    return [describe(item) for item in value] if isinstance(value, tuple) else value


def find(value: Any, uploads: Mapping[str, Picture]) -> Any:
    """Make what ``describe`` described."""
    if isinstance(value, list):
        return tuple(find(item, uploads) for item in value)
    if not isinstance(value, dict):
        return value
    if "path" in value:
        return Path(value["path"])
    if "upload" in value:
        if value["upload"] not in uploads:
            raise ImageError("The picture was uploaded in a session that has ended. Upload it again.")
        return uploads[value["upload"]]
    module, _, name = value["kind"].partition(":")
    if module.partition(".")[0] not in PACKAGES:
        raise ImageError(f"The index names a picture of the unknown kind {value['kind']}. Build the index again.")
    kind = getattr(import_module(module), name)
    return kind(**{field: find(item, uploads) for field, item in value["fields"].items()})


@dataclass(frozen=True)
class StoredSamples:
    """The samples of an index by row, made when they are asked for."""

    descriptions: Sequence[str]
    uploads: Mapping[str, Picture]

    def __len__(self) -> int:
        return len(self.descriptions)

    def __getitem__(self, row: int) -> Sample:
        return read_sample(self.descriptions[row], self.uploads)
