"""Samples of an index as tiles."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from functools import partial

from components.prototypes.family import Family
from components.session import open_picture
from components.tiles import Tile, caption_of, encode_once, name_sample
from explainers.errors import ImageError
from explainers.images import Picture
from explainers.info import ModelInfo


def make_samples(family: Family, rows: Sequence[int]) -> list[Tile]:
    """Draw samples as the model sees them; files that have gone since are left out."""
    found = []
    for row in rows:
        with suppress(ImageError):
            found.append(draw_sample(family, row))
    return found


def draw_sample(family: Family, row: int) -> Tile:
    """Draw a sample with what it is labelled and what the model says; raises ImageError."""
    picture, one = open_picture(family.index.samples[row]), family.index.table.iloc[row]
    said = family.name(int(one["predicted"]))
    caption = caption_of(said, str(one["label_name"]), family.scene.info.decision_names)
    sample = name_sample(one["name"], one["label_name"])
    return Tile(draw_crop(family.scene.info, picture), caption, f"{sample}: the model says {said}")


def draw_crop(info: ModelInfo, picture: Picture) -> str:
    """Draw what the model sees of a picture, once in a session."""
    return encode_once((info.digest, picture.digest, "crop"), partial(info.preprocessing.view, picture))
