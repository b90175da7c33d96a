"""Lightbox and its peers, each as what its own documentation tells people to call; imports only what one of them needs.

Every function prepares a contestant (see ``contest``): it loads what is needed and returns what is measured.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.contest import count_passes
from benchmarks.networks import CLASS, SIDE, build_model, build_module, photograph
from explainers.targets import Target

Run = Callable[[], Tensor]

#: What all methods that do so many things are told alike.
BATCH, STEPS, COPIES, NOISE, WINDOW, STRIDE, PATCHES, TRIALS = 16, 32, 24, 0.15, 32, 16, 6, 256
CONCEPTS = 8


def lightbox(network: str, name: str, **parameters: Any) -> Run:
    """An attribution method of Lightbox."""
    from explainers.attribution.batch import Batch
    from explainers.attribution.method import make_method
    from explainers.jobs import Progress

    batch = Batch(build_model(network), photograph(), [Target(CLASS)], Progress())
    chosen = make_method(name, parameters)
    return lambda: chosen.attribute(batch).values


def lightbox_concepts(network: str, layer: str) -> Run:
    """Conditional heatmaps of the most relevant concepts, from the picture on."""
    from explainers.relevance.composites import composite
    from explainers.relevance.concepts.decision import Decision
    from explainers.relevance.concepts.layers import find_concepts
    from explainers.relevance.tape import record

    model, image = build_model(network), photograph()
    concepts, rules = find_concepts(model, layer), composite("epsilon-plus-flat", model.info.preprocessing)

    def decide() -> Decision:
        return Decision(record(model, image), (Target(CLASS),), rules)

    chosen = decide().measure(concepts)[0].abs().topk(CONCEPTS).indices.tolist()
    return lambda: decide().heatmaps(concepts, chosen)[:, 0]


def captum(network: str, name: str, attribute: Callable[[Any, Tensor], Tensor]) -> Run:
    """A method of captum on the score; ``attribute`` calls it for the picture."""
    import captum.attr

    module, image = count_passes(build_module(network)), photograph()
    return partial(attribute, getattr(captum.attr, name)(module), image)


def saliency(method: Any, image: Tensor) -> Tensor:
    return method.attribute(image.clone().requires_grad_(), CLASS, abs=False)


def smoothgrad(method: Any, image: Tensor) -> Tensor:
    from captum.attr import NoiseTunnel

    spread = float(NOISE * (image.max() - image.min()))
    return NoiseTunnel(method).attribute(
        image.clone().requires_grad_(), nt_samples=COPIES, nt_samples_batch_size=BATCH, stdevs=spread, target=CLASS,
        abs=False,
    )  # fmt: skip


def mean_colour(image: Tensor) -> Tensor:
    return image.mean((2, 3), keepdim=True).expand_as(image)


def integrated(method: Any, image: Tensor) -> Tensor:
    return method.attribute(image, mean_colour(image), CLASS, n_steps=STEPS, internal_batch_size=BATCH)


def occlusion(method: Any, image: Tensor) -> Tensor:
    return method.attribute(
        image, (3, WINDOW, WINDOW), (3, STRIDE, STRIDE), mean_colour(image), CLASS, perturbations_per_eval=BATCH
    )


def kernel_shap(method: Any, image: Tensor) -> Tensor:
    from explainers.attribution.kernel_shap import patch_of_pixel

    patches = patch_of_pixel(SIDE, SIDE, PATCHES)
    return method.attribute(
        image, mean_colour(image), CLASS, feature_mask=patches, n_samples=TRIALS, perturbations_per_eval=BATCH
    )


def grad_cam(network: str, layer: str) -> Run:
    """Grad-CAM of pytorch-grad-cam, which scales its maps to 0..1."""
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    module, image = count_passes(build_module(network).requires_grad_()), photograph()
    method = GradCAM(module, [module.get_submodule(layer)])
    return lambda: torch.from_numpy(method(image, [ClassifierOutputTarget(CLASS)]))


def zennit_rules(network: str) -> Any:
    """The composite of zennit that Lightbox's epsilon-plus-flat is the same as."""
    from zennit.composites import EpsilonPlusFlat
    from zennit.torchvision import ResNetCanonizer, VGGCanonizer

    return EpsilonPlusFlat(canonizers=[ResNetCanonizer() if network.startswith("resnet") else VGGCanonizer()])


def zennit(network: str) -> Run:
    """One LRP map of zennit."""
    module, image = count_passes(build_module(network)), photograph()

    def run() -> Tensor:
        with zennit_rules(network).context(module) as modified:
            inputs = image.clone().requires_grad_()
            output = modified(inputs)
            seed = torch.zeros_like(output).index_fill_(1, torch.tensor(CLASS), 1) * output.detach()
            return torch.autograd.grad(output, inputs, seed)[0]

    return run


def zennit_crp(network: str, layer: str) -> Run:
    """Conditional heatmaps of zennit-crp for the most relevant concepts, all in one batch."""
    attribution, image = crp(network), photograph()
    found = attribution(image.clone().requires_grad_(), [{"y": [CLASS]}], zennit_rules(network), record_layer=[layer])
    chosen = found.relevances[layer][0].sum((1, 2)).abs().topk(CONCEPTS).indices.tolist()
    conditions = [{layer: [channel], "y": [CLASS]} for channel in chosen]
    return lambda: attribution(image.clone().requires_grad_(), conditions, zennit_rules(network)).heatmap


def crp(network: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zennit-crp's own imports are deprecated in parts
        from crp.attribution import CondAttribution

    return CondAttribution(count_passes(build_module(network)), no_param_grad=False)


def lxt(network: str, rules: str) -> Run:
    """Input times a gradient that LXT bends: CP-LRP as it ships it for vision transformers, or AttnLRP's attention."""
    from lxt.efficient import monkey_patch, patches
    from torchvision.models import vision_transformer

    module, image = count_passes(build_module(network)), photograph()
    if rules == "cp-lrp":
        monkey_patch(vision_transformer)
    else:
        nn.LayerNorm.forward = patches.layer_norm_forward
        patches.patch_method(patches.non_linear_forward, nn.GELU, keep_original=True)
        attend = functional.scaled_dot_product_attention
        wrapped = patches.wrap_attention_forward(lambda _, *operands, **keywords: attend(*operands, **keywords))
        functional.scaled_dot_product_attention = partial(wrapped, None)

    def run() -> Tensor:
        inputs = image.clone().requires_grad_()
        return torch.autograd.grad(module(inputs)[0, CLASS], inputs)[0] * image

    return run
