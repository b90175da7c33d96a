"""Grad-CAM: where a layer's channels that speak for the target are active."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate

from explainers.attribution.method import Method, Scores, choose_layer, sweep
from explainers.graph.model import Model, gradients, score, spatial_map
from explainers.jobs import Progress
from explainers.parameters import parameter
from explainers.results import Layer, ModelInfo, Target


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

    layer: str = parameter(
        "", "Layer", "The layer whose features are shown; later layers are coarser and know more.", kind="layer"
    )

    def attribute(
        self,
        model: Model,
        inputs: Float[Tensor, "batch channel height width"],
        targets: Sequence[Target],
        progress: Progress,
    ) -> Scores:
        """Weigh the layer's channels by their mean gradients, in one forward and one backward pass to the layer."""
        layers = self.candidates(model.info)
        maps = []
        for _, image in sweep(1, len(targets), progress):
            outputs, kept = model.run(inputs[image].requires_grad_(), keep={layer.node for layer in layers})
            values = [kept[layer.node] for layer in layers]
            slopes = gradients(score(outputs, [targets[i] for i in image.tolist()]), values)
            maps.append(activation_map(values, slopes, layers))
        return Scores(interpolate(torch.cat(maps), inputs.shape[2:], mode="bilinear", align_corners=False))

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


def activation_map(
    values: Sequence[Float[Tensor, "batch *shape"]],
    slopes: Sequence[Float[Tensor, "batch *shape"]],
    layers: Sequence[Layer],
) -> Float[Tensor, "batch 1 rows columns"]:
    """Weigh the channels of the first layer with any gradient in its places and keep what speaks for the target."""
    found = [spatial_map(slope, layer) for slope, layer in zip(slopes, layers, strict=True)]
    place = next((place for place, slope in enumerate(found) if slope.any()), 0)
    channels = spatial_map(values[place].detach(), layers[place])
    return (found[place].mean((2, 3), keepdim=True) * channels).sum(1, keepdim=True).relu()
