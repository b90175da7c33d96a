"""Images that are explained at once, and the passes that every method is made of. Free of torch at import."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jaxtyping import Float, Int

from explainers.jobs import Progress
from explainers.memory import IMAGES_PER_PASS, PASS_MEMORY
from explainers.targets import Target

if TYPE_CHECKING:
    from torch import Tensor

    from explainers.graph.model import Model, Operators

    #: Indices of steps or of images, one for each image that goes through the network.
    Index = Int[Tensor, " pair"]

    #: Makes the inputs at which to differentiate from the indices of steps and of images.
    Points = Callable[[Index, Index], Float[Tensor, "pair channel height width"]]


@dataclass(frozen=True, eq=False)
class Batch:
    """Images to explain at once: the model, its inputs, a target for each, and where progress is told."""

    model: Model
    inputs: Float[Tensor, "batch channel height width"]
    targets: Sequence[Target]
    progress: Progress

    def __len__(self) -> int:
        return len(self.targets)

    def sweep(self, steps: int) -> Iterator[tuple[Index, Index]]:
        """Go through all pairs (step, image), as many at once as fit into one pass, reporting progress in between.

        Yields the pairs' steps and their images, as indices.
        """
        import torch

        for chunk in chunks(steps * len(self), IMAGES_PER_PASS):
            pair = torch.arange(chunk.start, chunk.stop)
            yield pair // len(self), pair % len(self)
            self.progress(chunk.stop, steps * len(self))

    def choose(self, image: Index) -> list[Target]:
        """The targets of images by index."""
        return [self.targets[place] for place in image.tolist()]

    def score(self, inputs: Float[Tensor, "pair channel height width"], image: Index) -> Float[Tensor, " pair"]:
        """Score inputs for the targets of the images they come from, without gradients, in one pass if that fits."""
        from explainers.graph.model import score

        return score(self.model(inputs), self.choose(image))

    def evaluate(self, inputs: Float[Tensor, "batch channel height width"]) -> Float[Tensor, " batch"]:
        """Score one input for each image without gradients."""
        import torch

        parts = (torch.arange(part.start, part.stop) for part in chunks(len(self), IMAGES_PER_PASS))
        return torch.cat([self.score(inputs[image], image) for image in parts])

    def differentiate(
        self, inputs: Float[Tensor, "pair channel height width"], image: Index, operators: Operators | None = None
    ) -> Float[Tensor, "pair channel height width"]:
        """Differentiate the scores of inputs by the inputs, in one forward and one backward pass, or parts that fit."""
        import torch

        from explainers.graph.model import gradient, score

        each, found = self.model.footprint.total, []
        for part in chunks(len(inputs), self.model.images_at_once(each)):
            points, own = inputs[part.start : part.stop].detach().requires_grad_(), image[part.start : part.stop]
            with PASS_MEMORY.hold(each * len(part)):
                outputs = self.model.run(points, operators=operators)[0]
                found.append(gradient(score(outputs, self.choose(own)), points))
        return torch.cat(found)

    def sum_gradients(
        self, points: Points, weights: Float[Tensor, " step"], operators: Operators | None = None
    ) -> Float[Tensor, "batch channel height width"]:
        """Differentiate at one point for each step and image; returns each image's weighted sum over the steps."""
        total = self.zeros()
        for step, image in self.sweep(len(weights)):
            found = self.differentiate(points(step, image), image, operators)
            total.index_add_(0, image, weights[step].view(-1, 1, 1, 1) * found)
        return total

    def gradient(self, operators: Operators | None = None) -> Float[Tensor, "batch channel height width"]:
        """Differentiate at the images themselves."""
        return self.sum_gradients(lambda _, image: self.inputs[image], self.inputs.new_ones(1), operators)

    def zeros(self) -> Float[Tensor, "batch channel height width"]:
        """Nothing yet, to add to."""
        return self.inputs.new_zeros(self.inputs.shape)


def chunks(total: int, size: int) -> Iterator[range]:
    """Split 0..total into ranges of at most ``size``."""
    for start in range(0, total, size):
        yield range(start, min(start + size, total))
