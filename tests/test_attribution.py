"""Each method against an independent oracle, and against what theory says about it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import combinations
from math import comb

import numpy as np
import pytest
import timm
import torch
from captum import attr
from jaxtyping import Float
from skimage.transform import resize
from torch import Tensor, nn

from explainers.attribution.batch import Batch
from explainers.attribution.gradcam import GradCam
from explainers.attribution.gradients import Gradient, GradientTimesInput
from explainers.attribution.guided_backpropagation import GuidedBackpropagation
from explainers.attribution.integrated_gradients import IntegratedGradients
from explainers.attribution.kernel_shap import KernelShap
from explainers.attribution.method import Method, Scores
from explainers.attribution.occlusion import Occlusion
from explainers.attribution.perturbation import baseline
from explainers.attribution.rise import Rise
from explainers.attribution.smoothgrad import SmoothGrad
from explainers.errors import SelectionError
from explainers.graph.export import export
from explainers.graph.model import Model
from explainers.jobs import Passes, Progress, passes
from explainers.preprocessing import Preprocessing
from explainers.targets import Target

#: Architectures with a spatial layer of each to look at: residual, gated with hard swish, channels last with GELU.
ARCHITECTURES = {"resnet18": "layer3", "mobilenetv3_small_100": "blocks.4", "convnext_atto": "stages.2"}
RELU_NETWORKS = ["resnet18", "regnety_002", "mnasnet_small"]
TARGETS = [Target(3), Target(7)]
CLASSES = torch.tensor([3, 7])
SIDE = 64


@cache
def network(name: str) -> nn.Module:
    """A network with random weights and, where it has batch norm, statistics that do something."""
    torch.manual_seed(0)
    module = timm.create_model(name, num_classes=10).eval()
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.normal_(0, 0.2)
            part.running_var.uniform_(0.5, 1.5)
    return module


@cache
def model(name: str) -> Model:
    return export(network(name), name, Preprocessing(size=(SIDE, SIDE)))


def pictures() -> Float[Tensor, "2 3 64 64"]:
    return torch.randn(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1)).clamp(-2, 2)


def attribute(method: Method, model: Model, inputs: Tensor, targets: Sequence[Target] = TARGETS) -> Scores:
    return method.attribute(Batch(model, inputs, targets, Progress()))


def relative_error(found: Tensor, expected: Tensor) -> float:
    assert found.shape == expected.shape
    return float((found - expected).abs().max() / expected.abs().max())


# Oracles: captum explains the author's module, Lightbox the exported graph.


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_gradient_agrees_with_captum(name: str) -> None:
    oracle = attr.Saliency(network(name)).attribute(pictures().requires_grad_(), CLASSES, abs=False)
    assert relative_error(attribute(Gradient(), model(name), pictures()).values, oracle) < 1e-4


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_gradient_times_input_agrees_with_captum(name: str) -> None:
    oracle = attr.InputXGradient(network(name)).attribute(pictures().requires_grad_(), CLASSES).detach()
    assert relative_error(attribute(GradientTimesInput(), model(name), pictures()).values, oracle) < 1e-4


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_integrated_gradients_agree_with_captum(name: str) -> None:
    black = baseline(model(name).info.preprocessing, pictures(), "black")
    oracle = attr.IntegratedGradients(network(name)).attribute(pictures(), black, CLASSES, n_steps=16)
    found = attribute(IntegratedGradients(16, "black"), model(name), pictures()).values
    assert relative_error(found, oracle.float()) < 1e-4


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_smoothgrad_agrees_with_captum_under_the_same_noise(name: str) -> None:
    picture = pictures()[:1]
    spread = 0.1 * float(picture.max() - picture.min())
    tunnel = attr.NoiseTunnel(attr.Saliency(network(name)))
    torch.manual_seed(5)
    oracle = tunnel.attribute(picture, nt_samples=8, stdevs=spread, target=3, abs=False)
    found = attribute(SmoothGrad(samples=8, noise=0.1, seed=5), model(name), picture, TARGETS[:1]).values
    assert relative_error(found, oracle) < 1e-4


@pytest.mark.parametrize(("name", "layer"), ARCHITECTURES.items())
def test_gradcam_agrees_with_captum(name: str, layer: str) -> None:
    explainer = attr.LayerGradCam(network(name), network(name).get_submodule(layer))
    coarse = explainer.attribute(pictures(), CLASSES, relu_attributions=True)
    oracle = attr.LayerAttribution.interpolate(coarse, (SIDE, SIDE), "bilinear").detach()
    assert relative_error(attribute(GradCam(layer), model(name), pictures()).values, oracle) < 1e-4


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_occlusion_agrees_with_captum_also_where_windows_are_cut_off(name: str) -> None:
    mean = baseline(model(name).info.preprocessing, pictures(), "mean colour")
    with torch.no_grad():
        oracle = attr.Occlusion(network(name)).attribute(
            pictures(), (3, 20, 20), strides=(3, 16, 16), baselines=mean, target=CLASSES, perturbations_per_eval=8
        )
    found = attribute(Occlusion(window=20, stride=16), model(name), pictures()).values
    assert relative_error(found.expand_as(oracle), oracle) < 1e-4


@pytest.mark.parametrize("name", RELU_NETWORKS)
@pytest.mark.filterwarnings("ignore:Setting backward hooks on ReLU:UserWarning")
def test_guided_backpropagation_agrees_with_captum(name: str) -> None:
    oracle = attr.GuidedBackprop(network(name)).attribute(pictures().requires_grad_(), CLASSES)
    assert relative_error(attribute(GuidedBackpropagation(), model(name), pictures()).values, oracle) < 1e-4


def test_rise_agrees_with_a_slow_loop_over_its_masks() -> None:
    found = attribute(Rise(masks=50, cells=5, fill="black"), model("resnet18"), pictures()).values[:, 0]
    generator = torch.Generator().manual_seed(0)
    cells = (torch.rand(50, 5, 5, generator=generator) < 0.5).double().numpy()
    shifts = torch.rand(50, 2, generator=generator)
    black = baseline(model("resnet18").info.preprocessing, pictures(), "black")
    masks, scores = [], []
    for grid, shift in zip(cells, shifts, strict=True):
        top, left = (int(part * 13) for part in shift)  # a cell of 64 / 5 pixels is 13 pixels wide
        large = resize(grid, (6 * 13, 6 * 13), order=1, mode="edge", anti_aliasing=False)
        masks.append(torch.from_numpy(large[top : top + SIDE, left : left + SIDE]).float())
        with torch.no_grad():
            logits = network("resnet18")(pictures() * masks[-1] + black * (1 - masks[-1]))
        scores.append(logits[[0, 1], CLASSES])
    mean = sum(scores) / 50
    pairs = zip(scores, masks, strict=True)
    oracle = sum((score - mean)[:, None, None] * mask for score, mask in pairs) / (50 * 0.5)
    assert relative_error(found, oracle) < 1e-4


def shapley_values(model: Model, picture: Float[Tensor, "1 3 64 64"], target: Target) -> Float[np.ndarray, " 9"]:
    """Shapley values of 3 x 3 patches by their definition: the mean gain over all coalitions of the others."""
    rows = torch.arange(SIDE) * 3 // SIDE
    patch = rows[:, None] * 3 + rows
    coalitions = (torch.arange(2**9)[:, None] >> torch.arange(9)) & 1
    black = baseline(model.info.preprocessing, picture, "black")
    seen = torch.where(coalitions[:, None, patch].bool(), picture, black)
    worth = Batch(model, seen, [target] * 2**9, Progress()).evaluate(seen).numpy()
    values = np.zeros(9)
    for player in range(9):
        others = [other for other in range(9) if other != player]
        for size in range(9):
            for coalition in combinations(others, size):
                code = sum(1 << member for member in coalition)
                values[player] += (worth[code | 1 << player] - worth[code]) / (9 * comb(8, size))
    return values


def test_kernel_shap_comes_close_to_the_shapley_values_by_enumeration() -> None:
    oracle = (
        torch.from_numpy(shapley_values(model("mobilenetv3_small_100"), pictures()[:1], TARGETS[0])).float().view(3, 3)
    )
    explainer = KernelShap(patches=3, trials=2048, fill="black")
    found = attribute(explainer, model("mobilenetv3_small_100"), pictures()[:1], TARGETS[:1]).values[0, 0]
    areas = [22, 21, 21]  # 64 pixels in three patches
    sums = torch.stack([torch.stack([cell.sum() for cell in row.split(areas, 1)]) for row in found.split(areas, 0)])
    assert relative_error(sums, oracle) < 0.05


def test_gradcam_of_a_vision_transformer_shows_the_last_layer_on_whose_patches_the_class_depends() -> None:
    torch.manual_seed(0)
    module = timm.create_model("vit_tiny_patch16_224", img_size=SIDE, num_classes=10, depth=2).eval()
    nn.init.normal_(module.head.weight)
    seen: list[Tensor] = []
    hook = module.blocks[1].norm1.register_forward_hook(lambda _, __, output: seen.append(output))
    logits = module(pictures())
    hook.remove()
    slopes = torch.autograd.grad(logits[[0, 1], CLASSES].sum(), seen[0])[0][:, 1:]
    weighed = (slopes.mean(1, keepdim=True) * seen[0][:, 1:]).sum(2).relu().view(2, 1, 4, 4)
    oracle = nn.functional.interpolate(weighed, (SIDE, SIDE), mode="bilinear").detach()
    exported = export(module, "vit", Preprocessing(size=(SIDE, SIDE)))
    assert oracle.max() > 0
    found = attribute(GradCam(), exported, pictures())
    assert relative_error(found.values, oracle) < 1e-4
    assert "blocks.1.norm1" in found.note


# Theory: what must hold whatever the model.


@cache
def linear_model() -> tuple[Model, Float[Tensor, "10 3 8 8"]]:
    torch.manual_seed(0)
    linear = nn.Linear(3 * 8 * 8, 10)
    preprocessing = Preprocessing(size=(8, 8), resize=8, mean=(0.0,) * 3, std=(1.0,) * 3)
    return export(nn.Sequential(nn.Flatten(), linear), "linear", preprocessing), linear.weight.detach().view(
        10, 3, 8, 8
    )


@pytest.mark.parametrize("method", [Gradient(), SmoothGrad(), SmoothGrad(noise=0.5)])
def test_gradients_of_a_linear_model_are_its_weights(method: Method) -> None:
    model, weights = linear_model()
    assert relative_error(attribute(method, model, torch.rand(2, 3, 8, 8)).values, weights[CLASSES]) < 1e-5


@pytest.mark.parametrize(
    "method",
    [GradientTimesInput(), IntegratedGradients(start="black"), Occlusion(1, 1, "black"), KernelShap(8, 512, "black")],
    ids=lambda method: method.name,
)
def test_contributions_in_a_linear_model_are_weight_times_input(method: Method) -> None:
    model, weights = linear_model()
    inputs = torch.rand(2, 3, 8, 8)
    found = attribute(method, model, inputs).values.sum(1)
    assert relative_error(found, (weights[CLASSES] * inputs).sum(1)) < 1e-4


@pytest.mark.parametrize("start", ["black", "mean colour", "blurred"])
def test_integrated_gradients_add_up_to_what_the_image_has_over_the_empty_image(start: str) -> None:
    name = "convnext_atto"
    found = attribute(IntegratedGradients(steps=64, start=start), model(name), pictures())
    empty = baseline(model(name).info.preprocessing, pictures(), start)
    with torch.no_grad():
        lead = (network(name)(pictures()) - network(name)(empty))[[0, 1], CLASSES]
    assert found.expected is not None
    torch.testing.assert_close(found.expected, lead, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.values.sum((1, 2, 3)), lead, rtol=1e-2, atol=1e-3)


def test_smoothgrad_without_noise_is_the_gradient() -> None:
    plain = attribute(Gradient(), model("resnet18"), pictures()).values
    assert relative_error(attribute(SmoothGrad(samples=4, noise=0), model("resnet18"), pictures()).values, plain) < 1e-5


def test_smoothgrad_of_another_seed_differs() -> None:
    first, second = (attribute(SmoothGrad(4, seed=seed), model("resnet18"), pictures()).values for seed in (0, 1))
    assert relative_error(first, second) > 1e-2


def test_gradcam_never_speaks_against_the_target() -> None:
    assert attribute(GradCam(), model("resnet18"), pictures()).values.min() >= 0


def test_gradcam_takes_one_forward_and_one_backward_pass() -> None:
    token = passes.set(counts := Passes())
    attribute(GradCam("layer3"), model("resnet18"), pictures())
    passes.reset(token)
    assert counts == Passes(forward=1, backward=1, images=2)


def test_gradcam_refuses_a_layer_without_places() -> None:
    with pytest.raises(SelectionError, match="no spatial map"):
        attribute(GradCam("fc"), model("resnet18"), pictures())


def test_gradcam_refuses_a_model_without_places() -> None:
    assert "no layer with places" in (GradCam.unsuitable(linear_model()[0].info) or "")


@pytest.mark.parametrize(("name", "found"), [("convnext_atto", "gelu"), ("mobilenetv3_small_100", "hardswish")])
def test_guided_backpropagation_refuses_networks_of_smooth_activations(name: str, found: str) -> None:
    assert found in (GuidedBackpropagation.unsuitable(model(name).info) or "")


def test_guided_backpropagation_refuses_networks_without_activations() -> None:
    assert "has none" in (GuidedBackpropagation.unsuitable(linear_model()[0].info) or "")


def test_occlusion_refuses_a_stride_that_leaves_gaps() -> None:
    with pytest.raises(SelectionError, match="gaps"):
        attribute(Occlusion(window=8, stride=10), model("resnet18"), pictures())


def test_occlusion_of_what_the_cover_shows_anyway_changes_nothing() -> None:
    grey = torch.full((2, 3, SIDE, SIDE), 0.3)
    assert attribute(Occlusion(), model("resnet18"), grey).values.abs().max() < 1e-5


def test_rise_finds_the_only_pixels_that_matter() -> None:
    class Corner(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return torch.stack([images[:, :, :4, :4].mean((1, 2, 3)), images[:, :, 8:, 8:].mean((1, 2, 3))], 1)

    corner = export(Corner(), "corner", Preprocessing(size=(16, 16), resize=16, mean=(0.0,) * 3, std=(1.0,) * 3))
    explainer = Rise(masks=2000, cells=4, fill="black")
    found = attribute(explainer, corner, torch.ones(1, 3, 16, 16), [Target(0)]).values[0, 0]
    assert found[:4, :4].mean() > 10 * found[8:, 8:].abs().mean()


def test_black_is_black_after_normalisation() -> None:
    preprocessing = Preprocessing(size=(4, 4))
    black = preprocessing.normalise(np.zeros((4, 4, 3), np.uint8))
    found = baseline(preprocessing, torch.rand(1, 3, 4, 4), "black")
    torch.testing.assert_close(found[0], torch.from_numpy(black))


def test_the_mean_colour_has_no_detail_and_a_blurred_image_has_some() -> None:
    flat, blurred = (baseline(Preprocessing(), pictures(), kind) for kind in ("mean colour", "blurred"))
    spreads = [float(image.detach().std((2, 3)).mean()) for image in (flat, blurred, pictures())]
    assert spreads[0] < 1e-5 < spreads[1] < spreads[2] / 2
    torch.testing.assert_close(flat[:, :, 0, 0], pictures().mean((2, 3)))
