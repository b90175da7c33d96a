"""Grad-CAM: where a layer's channels that speak for the target are active."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jaxtyping import Float

from explainers.attribution.batch import Batch
from explainers.attribution.method import Method, Scores, choose_layer
from explainers.info import Layer, ModelInfo
from explainers.memory import PASS_MEMORY
from explainers.parameters import parameter

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class GradCam(Method):
    """Grad-CAM (Selvaraju et al. 2017, arXiv:1610.02391) at any spatial layer, enlarged bilinearly to the input's size.

    Without a layer chosen, it takes the last one of the final resolution on whose places the score depends (the last
    layers of a vision transformer pass on the class token alone). captum's LayerAttribution.interpolate enlarges to
    the nearest position unless it is told otherwise.
    """

    name = "gradcam"
    title = "Grad-CAM"
    summary = "Where the features that speak for the class are active; coarse, as seen from one layer."
    citation = "Selvaraju et al. 2017, arXiv:1610.02391"
    signed = False
    unit = "gradient × activation"

    layer: str = parameter(
        "", "Layer", "The layer whose features are shown; later layers are coarser and know more.", kind="layer"
    )

    def attribute(self, batch: Batch) -> Scores:
        """Weigh the layer's channels by their mean gradients, in one forward and one backward pass to the layer."""
        import torch
        from torch.nn.functional import interpolate

        from explainers.graph.model import gradients, score

        layers = self.candidates(batch.model.info)
        maps = []
        for _, image in batch.sweep(1):
            with PASS_MEMORY.hold(batch.model.footprint.total * len(image)):
                inputs = batch.inputs[image].requires_grad_()
                outputs, kept = batch.model.run(inputs, keep={layer.node for layer in layers})
                values = [kept[layer.node] for layer in layers]
                slopes = gradients(score(outputs, batch.choose(image)), values)
            place = find_informed(slopes, layers)
            maps.append(weigh_channels(values[place].detach(), slopes[place], layers[place]))
        note = "" if self.layer else f"The layer shown is {layers[place].name}, the last one with the score's gradient."
        size = batch.inputs.shape[2:]
        return Scores(interpolate(torch.cat(maps), size, mode="bilinear", align_corners=False), note=note)

    def candidates(self, info: ModelInfo) -> list[Layer]:
        """List the layer asked for, or for "" those of the last spatial layer's shape, last first."""
        last = choose_layer(info, self.layer)
        alike = [layer for layer in reversed(info.layers) if (layer.shape, layer.layout) == (last.shape, last.layout)]
        return [last] if self.layer else alike

    @classmethod
    def unsuitable(cls, info: ModelInfo) -> str | None:
        """Refuse models without a spatial layer, too."""
        if any(layer.spatial for layer in info.layers):
            return super().unsuitable(info)
        return f"{cls.title} shows a layer's features in their places; this model has no layer with places."


def find_informed(slopes: Sequence[Float[Tensor, "batch *shape"]], layers: Sequence[Layer]) -> int:
    """Find the first layer with any gradient in its places; the first of all if there is none."""
    from explainers.graph.model import spatial_map

    informed = (bool(spatial_map(slope, layer).any()) for slope, layer in zip(slopes, layers, strict=True))
    return next((place for place, found in enumerate(informed) if found), 0)


def weigh_channels(
    values: Float[Tensor, "batch *shape"], slopes: Float[Tensor, "batch *shape"], layer: Layer
) -> Float[Tensor, "batch 1 rows columns"]:
    """Add up a layer's channels, each weighted by its mean gradient, and keep what speaks for the target."""
    from explainers.graph.model import spatial_map

    weights = spatial_map(slopes, layer).mean((2, 3), keepdim=True)
    return (weights * spatial_map(values, layer)).sum(1, keepdim=True).relu()
