"""Photographs that scikit-image and scikit-learn carry in their packages, and parts of them; nothing is downloaded."""

from __future__ import annotations

from importlib.metadata import distribution
from pathlib import Path

from explainers.images import Sample, Samples

# Found without importing the packages, which takes long.
SKIMAGE = Path(str(distribution("scikit-image").locate_file("skimage/data")))
SKLEARN = Path(str(distribution("scikit-learn").locate_file("sklearn/datasets/images")))

PICTURES = Samples(
    [
        Sample("coffee", SKIMAGE / "coffee.png", caption="A cup of espresso with saucer and spoon"),
        Sample("coffee-cup", SKIMAGE / "coffee.png", caption="The cup alone", box=(170, 20, 420, 240)),
        Sample("chelsea", SKIMAGE / "chelsea.png", caption="Chelsea, a tabby cat"),
        Sample("chelsea-eyes", SKIMAGE / "chelsea.png", caption="The cat's eyes alone", box=(130, 70, 350, 190)),
        Sample("camera", SKIMAGE / "camera.png", caption="A man behind a camera on a tripod"),
        Sample("china", SKLEARN / "china.jpg", caption="A pavilion of the Summer Palace in Beijing"),
        Sample("china-lake", SKLEARN / "china.jpg", caption="The lake beside it", box=(340, 150, 640, 427)),
        Sample("flower", SKLEARN / "flower.jpg", caption="A dahlia"),
        Sample("rocket", SKIMAGE / "rocket.jpg", caption="A rocket on its launch pad at dusk"),
        Sample("motorcycle", SKIMAGE / "motorcycle_left.png", caption="A motorcycle in a garage"),
        Sample("motorcycle-back", SKIMAGE / "motorcycle_left.png", caption="Its rear half", box=(0, 60, 330, 240)),
        Sample("astronaut", SKIMAGE / "astronaut.png", caption="Eileen Collins with her helmet and a shuttle"),
    ]
)
