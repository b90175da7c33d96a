"""One drawn picture of a lesion with everything that is known about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image, ImageFilter

from explainers.errors import SelectionError
from sample_models.lesions import artifacts as drawn
from sample_models.lesions.outline import draw_outline
from sample_models.lesions.pigment import draw_lesion
from sample_models.lesions.rule import Findings, find
from sample_models.lesions.skin import Colours, blend, draw_hair, draw_skin
from sample_models.lesions.texture import grid

#: What the labels say.
CLASSES = ("benign", "malignant")
#: What may lie beside or on a lesion, from the skin up.
ARTIFACTS = tuple(drawn.DRAW)

#: How often each artifact is there if nobody asks for it.
RATE = 0.2

#: The smallest and the largest side in pixels.
SIZES = (96, 512)


@dataclass(frozen=True, eq=False)
class Lesion:
    """A picture with its truth.

    ``masks`` say where the "lesion" lies, its abrupt "border", each colour (but the browns) and structure that was
    found, and each artifact; ``skin`` is the type of the skin, 1 (light) to 6 (dark).
    """

    pixels: UInt8[np.ndarray, "h w 3"]
    findings: Findings
    masks: Mapping[str, Bool[np.ndarray, "h w"]]
    skin: float

    @property
    def malignant(self) -> bool:
        """Whether the rule calls the lesion malignant: the truth, whatever the label."""
        return self.findings.malignant

    @property
    def artifacts(self) -> tuple[str, ...]:
        """The artifacts in the picture."""
        return tuple(name for name in ARTIFACTS if name in self.masks)

    @property
    def properties(self) -> Mapping[str, float]:
        """The findings as numbers, the total score that decides, and the type of the skin."""
        found = self.findings
        return {
            "asymmetry": found.asymmetry,
            "border": found.border,
            "colours": len(found.colours),
            "structures": len(found.structures),
            "score": found.score,
            "skin": self.skin,
        }


def draw(
    seed: int, size: int = 128, *, malignant: bool | None = None, artifacts: Sequence[str] | None = None
) -> Lesion:
    """Draw the lesion of a seed, ``size`` pixels wide and high, of either class and with these artifacts on it.

    Class and artifacts are chosen by the seed if they are not given. Every part has a random stream of its own, so
    that an artifact changes nothing but what it covers. Raises SelectionError.
    """
    _check(size, artifacts)
    streams = [np.random.default_rng(part) for part in np.random.SeedSequence(seed).spawn(6 + len(ARTIFACTS))]
    chance, skin, shape, pigment, hair, camera, *others = streams
    tossed, lots = chance.random() < 0.5, chance.random(len(ARTIFACTS))
    if artifacts is None:
        artifacts = [name for name, lot in zip(ARTIFACTS, lots, strict=True) if lot < RATE]
    findings = find(shape, tossed if malignant is None else malignant)
    picture, kind = draw_skin(skin, size)
    picture, masks = draw_lesion(pigment, picture, findings, draw_outline(shape, findings))
    picture = _blur(draw_hair(hair, picture, kind), camera.uniform(0.002, 0.007))
    for name, stream in zip(ARTIFACTS, others, strict=True):
        if name in artifacts:
            colours, cover = drawn.DRAW[name](stream, masks["lesion"])
            picture, masks[name] = blend(picture, colours, cover), cover > 0
    return Lesion(_expose(camera, picture), findings, MappingProxyType(masks), kind)


def _check(size: int, artifacts: Sequence[str] | None) -> None:
    if not SIZES[0] <= size <= SIZES[1]:
        raise SelectionError(f"A lesion of {size} pixels cannot be drawn. Choose a size from {SIZES[0]} to {SIZES[1]}.")
    for name in set(artifacts or ()) - set(ARTIFACTS):
        raise SelectionError(f"There is no artifact '{name}'. Choose among {', '.join(ARTIFACTS)}.")


def _blur(picture: Colours, radius: float) -> Colours:
    """Blur as a lens slightly out of focus does; the radius is a fraction of the side."""
    image = Image.fromarray((picture.clip(0, 1) * 255 + 0.5).astype(np.uint8))
    return np.asarray(image.filter(ImageFilter.GaussianBlur(radius * image.width)), np.float32) / 255


def _expose(camera: np.random.Generator, picture: Colours) -> UInt8[np.ndarray, "h w 3"]:
    """Light the scene unevenly, in a tinge, and add the noise of a sensor."""
    x, y = grid(len(picture))
    (right, down), fall = camera.normal(0, 0.05, 2).tolist(), camera.uniform(0, 0.14)
    light = camera.normal(1.0, 0.06) * (1 + right * x + down * y - fall * (x * x + y * y))
    tinge = camera.normal(1, 0.02, 3).astype(np.float32)
    grain = camera.standard_normal(picture.shape, np.float32) * camera.uniform(0.004, 0.016)
    pixels: UInt8[np.ndarray, "h w 3"]
    pixels = ((picture * light[..., None] * tinge + grain).clip(0, 1) * 255 + 0.5).astype(np.uint8)
    return pixels
