"""Rows of small pictures that grow under the cursor or the keyboard's focus."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
import streamlit as st
from jaxtyping import UInt8
from PIL import Image

#: The side of a tile's picture in pixels: twice what is shown, for when it grows.
SIDE = 192

#: How many encoded tiles and their words a session keeps.
KEPT = 2000

STYLE = """<style>
.lightbox-tiles {display: grid; gap: 6px; align-items: start;}
.lightbox-tiles figure {margin: 0; min-width: 0;}
.lightbox-tiles img {width: 100%; aspect-ratio: 1; object-fit: contain; border-radius: 6px; display: block;
  background: #0002; transition: transform 0.12s;}
.lightbox-tiles.grow img {cursor: zoom-in;}
.lightbox-tiles.grow figure:is(:hover, :focus) img {transform: scale(2); position: relative; z-index: 99;
  box-shadow: 0 2px 14px #000a;}
.lightbox-tiles figure:focus-visible img {outline: 3px solid;}
.lightbox-tiles figure:first-child img {transform-origin: left;}
.lightbox-tiles figure:nth-last-child(-n+2) img {transform-origin: right;}
.lightbox-tiles figcaption {font-size: 0.72rem; line-height: 1.3; margin-top: 3px; opacity: 0.8; overflow: hidden;
  text-overflow: ellipsis; white-space: pre; text-align: center;}
.lightbox-tiles .first {margin-right: 8px;}
.lightbox-tiles .words {grid-column: 1 / -1; align-self: center; font-size: 0.9rem; opacity: 0.8;}
.lightbox-tiles .first + .words {grid-column: 2 / -1; padding: 0 8px;}
</style>"""


@dataclass(frozen=True)
class Tile:
    """A small picture as an address that holds it, with a line or two below it and what it says under the cursor."""

    address: str
    caption: str
    says: str


def caption_of(said: str, label: str | None, classes: Sequence[str]) -> str:
    """What stands below a sample: what the model says of it and, where its label is another class, that below it."""
    return f"{said}\nlabel {label}" if label in classes and label != said else said


def name_sample(name: str, label: str | None) -> str:
    """A sample's name and, where there is one, its label."""
    return f"{name}, labelled {label}" if label else name


def draw_tiles(first: Tile | None, tiles: Sequence[Tile], count: int, words: str = "", grow: bool = True) -> None:
    """Draw a row: one larger tile first, then up to ``count`` others, or words in their place."""
    kind = "lightbox-tiles grow" if grow else "lightbox-tiles"
    columns = f"{'1.35fr ' if first else ''}repeat({count}, 1fr)"
    parts = [_figure(first, "first")] if first else []
    parts += [_figure(tile, "") for tile in tiles]
    parts += [f'<div class="words">{escape(words)}</div>'] if words and not tiles else []
    st.html(f'{STYLE}<div class="{kind}" style="grid-template-columns: {columns}">{"".join(parts)}</div>')


def _figure(tile: Tile, kind: str) -> str:
    says = escape(tile.says, quote=True)
    return (
        f'<figure class="{kind}" tabindex="0" title="{says}"><img src="{tile.address}" alt="{says}">'
        f"<figcaption>{escape(tile.caption)}</figcaption></figure>"
    )


def encode_once(key: Hashable, draw: Callable[[], UInt8[np.ndarray, "h w 3"]]) -> str:
    """Draw a picture once in a session; returns it as an address that holds it. The key says all it depends on."""
    return keep_once(key, lambda: encode(draw()))


def keep_once(key: Hashable, make: Callable[[], str]) -> str:
    """Make an address or words for a tile once in a session. The key says all that they depend on."""
    known: dict[Hashable, str] = st.session_state.setdefault("tiles", {})
    if key not in known:
        if len(known) >= KEPT:
            known.clear()
        known[key] = make()
    return known[key]


def encode(pixels: UInt8[np.ndarray, "h w 3"]) -> str:
    """Write pixels as an address that holds them as a JPEG file."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=88)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()
