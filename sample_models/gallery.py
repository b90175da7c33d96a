"""Photographs that scikit-image and scikit-learn carry in their packages, and parts of them; nothing is downloaded."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import distribution
from itertools import product
from pathlib import Path

from PIL import Image

from explainers.images import File, Samples
from explainers.images.folder import shown

# Found without importing the packages, which takes long.
SKIMAGE = Path(str(distribution("scikit-image").locate_file("skimage/data")))
SKLEARN = Path(str(distribution("scikit-learn").locate_file("sklearn/datasets/images")))
shown.update((SKIMAGE, SKLEARN))

PICTURES = Samples(
    [
        File("coffee", SKIMAGE / "coffee.png", caption="A cup of espresso with saucer and spoon"),
        File("coffee-cup", SKIMAGE / "coffee.png", caption="The cup alone", box=(170, 20, 420, 240)),
        File("chelsea", SKIMAGE / "chelsea.png", caption="Chelsea, a tabby cat"),
        File("chelsea-eyes", SKIMAGE / "chelsea.png", caption="The cat's eyes alone", box=(130, 70, 350, 190)),
        File("camera", SKIMAGE / "camera.png", caption="A man behind a camera on a tripod"),
        File("china", SKLEARN / "china.jpg", caption="A pavilion of the Summer Palace in Beijing"),
        File("china-lake", SKLEARN / "china.jpg", caption="The lake beside it", box=(340, 150, 640, 427)),
        File("flower", SKLEARN / "flower.jpg", caption="A dahlia"),
        File("rocket", SKIMAGE / "rocket.jpg", caption="A rocket on its launch pad at dusk"),
        File("motorcycle", SKIMAGE / "motorcycle_left.png", caption="A motorcycle in a garage"),
        File("motorcycle-back", SKIMAGE / "motorcycle_left.png", caption="Its rear half", box=(0, 60, 330, 240)),
        File("astronaut", SKIMAGE / "astronaut.png", caption="Eileen Collins with her helmet and a shuttle"),
    ]
)

#: All photographs that are cut into references, which show things, textures and fields of view.
WHOLE = (
    *(SKLEARN / name for name in ("china.jpg", "flower.jpg")),
    *(SKIMAGE / f"{name}.jpg" for name in ("hubble_deep_field", "retina", "rocket")),
    *(
        SKIMAGE / f"{name}.png"
        for name in (
            "astronaut", "brick", "camera", "chelsea", "clock_motion", "coffee", "coins", "grass", "gravel", "ihc",
            "moon", "motorcycle_left", "motorcycle_right", "page",
        )
    ),
)  # fmt: skip

#: How many squares are cut out of the shorter side of a photograph, and the least pixels that one may have.
SCALES, LEAST = (1, 2, 3, 4), 96


def references() -> Samples:
    """List square parts of all photographs at several scales, some hundreds, for looking up what a concept is."""
    return Samples(part for path in WHOLE for scale in SCALES for part in cut_squares(path, scale))


def cut_squares(path: Path, scale: int) -> Iterator[File]:
    """Lay squares over a photograph, ``scale`` along its shorter side and as many as fit along the other."""
    with Image.open(path) as image:
        width, height = image.size
    side = min(width, height) // scale
    if side >= LEAST:
        for top, left in product(spread(height, side), spread(width, side)):
            name = f"{path.stem}-{left}-{top}-{side}"
            yield File(name, path=path, box=(left, top, left + side, top + side))


def spread(length: int, side: int) -> list[int]:
    """Start as many squares as fit, with equal gaps around them."""
    count = length // side
    gap = (length - count * side) / (count + 1)
    return [round(gap + index * (side + gap)) for index in range(count)]
