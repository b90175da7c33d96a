"""Composites: which rule is used where."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, fx

from explainers.errors import SelectionError
from explainers.graph.model import Model
from explainers.preprocessing import Preprocessing
from explainers.relevance import COMPOSITES, rules
from explainers.relevance.box import find_bounds
from explainers.relevance.rules import Rule

aten = torch.ops.aten

TRANSPOSED = frozenset({aten.conv_transpose1d.default, aten.conv_transpose2d.input, aten.conv_transpose3d.input})
CONVOLUTIONS = TRANSPOSED | {
    getattr(operator, overload)
    for operator in (aten.conv1d, aten.conv2d, aten.conv3d)
    for overload in ("default", "padding")
}
AFFINE = CONVOLUTIONS | {aten.linear.default}
SOFTMAX = frozenset({aten.softmax.int, aten._softmax.default})
ATTENTION = SOFTMAX | {aten.scaled_dot_product_attention.default}

#: What takes no more than the shape of its input.
SHAPED = frozenset(
    {
        aten.zeros_like.default,
        aten.ones_like.default,
        aten.full_like.default,
        aten.empty_like.default,
        aten.rand_like.default,
        aten.randn_like.default,
        aten.new_zeros.default,
        aten.new_ones.default,
        aten.new_full.default,
    }
)


@dataclass(frozen=True)
class Composite:
    """Rules for convolutions, for dense layers and, if it differs, for the first of them.

    ``overrides`` are pairs of a pattern on layer names (as for file names, "layer4.*") and a rule; the first that
    matches wins. ``through_softmax`` follows AttnLRP (Achtibat et al. 2024, arXiv:2402.05602); without it the
    attention weights are constants, as in CP-LRP (Ali et al. 2022, arXiv:2202.07304). ``stabilizer`` is the epsilon
    of everything that is neither convolution nor dense. ``box`` are the lowest and the highest value of an image's
    channels where the rule of the first layer is made for them.
    """

    name: str
    convolution: Rule
    dense: Rule
    first: Rule | None = None
    overrides: tuple[tuple[str, Rule], ...] = ()
    through_softmax: bool = True
    stabilizer: float = rules.STABILIZER
    box: tuple[tuple[float, ...], tuple[float, ...]] | None = None


@dataclass(frozen=True, eq=False)
class Assignment:
    """A composite applied to a model: the rule of every affine operator, and the nodes that carry relevance.

    ``note`` says, if not "", where a layer could not have the composite's rule.
    """

    composite: Composite
    rules: Mapping[fx.Node, Rule]
    carriers: frozenset[fx.Node]
    note: str = ""


#: After so many composites what was derived of a model begins anew: each may have its own copies of the weights.
ASSIGNMENTS = 8


def assign(model: Model, composite: Composite) -> Assignment:
    """Give every affine operator of a model its rule; made once for each model."""
    known = sum(isinstance(key, Composite) for key in [*model.derived])
    if composite not in model.derived and known >= ASSIGNMENTS:
        model.derived.clear()
    found: Assignment = model.remember(composite, lambda: make_assignment(model, composite))
    return found


def make_assignment(model: Model, composite: Composite) -> Assignment:
    """Choose the rule of every affine operator; "first" is the first that reads what depends on the image."""
    carriers = find_carriers(model, composite)
    affine = [node for node in model.program.graph.nodes if node.target in AFFINE]
    found = {node: composite.convolution if node.target in CONVOLUTIONS else composite.dense for node in affine}
    first, note = next((node for node in affine if node.args[0] in carriers), None), ""
    if composite.first and first is not None:
        rule = first_rule(model, composite, first)
        found[first] = rule or found[first]
        if rule is None:
            note = f"The values that the first layer reads have no known bounds: it has the rule {found[first].name}."
    for pattern, rule in reversed(composite.overrides):
        found.update({node: rule for node in affine if any(fnmatchcase(name, pattern) for name in names(node))})
    return Assignment(composite, found, carriers, note)


def first_rule(model: Model, composite: Composite, layer: fx.Node) -> Rule | None:
    """Choose the rule of the first layer; None if it needs bounds of the layer's input that cannot be told."""
    if composite.box is None or layer.args[0] is model.input_node:
        return composite.first
    bounds = find_bounds(model, layer, *composite.box)
    return bounds and rules.zbox_between(*bounds)


def find_carriers(model: Model, composite: Composite) -> frozenset[fx.Node]:
    """Find the nodes whose values depend on the image, other than through its shape or attention held constant."""
    found = {model.input_node}
    for node in model.program.graph.nodes:
        held = (node.target in SOFTMAX and not composite.through_softmax) or node.target in SHAPED
        if not held and is_floating(node.meta.get("val")) and not found.isdisjoint(node.all_input_nodes):
            found.add(node)
    return frozenset(found)


def is_floating(value: Any) -> bool:
    """Whether a traced value is a floating-point or complex tensor, or several."""
    if isinstance(value, (tuple, list)):
        return any(is_floating(item) for item in value)
    return isinstance(value, Tensor) and (value.dtype.is_floating_point or value.dtype.is_complex)


def names(node: fx.Node) -> list[str]:
    """The names of the layers that a node is in, the innermost first."""
    inside = [path.split("@")[0] for path, _ in (node.meta.get("nn_module_stack") or {}).values() if path]
    return [*(name for name, _ in node.meta.get("layers", ())), *reversed(inside)]


def composite(
    name: str, preprocessing: Preprocessing, epsilon: float = rules.STABILIZER, gamma: float = 0.25
) -> Composite:
    """Make a composite by its name; raises SelectionError.

    ``epsilon`` is for epsilon rules and ``gamma`` for gamma rules. Sources: Montavon et al. 2019, Kohlbrenner et al.
    2020 (arXiv:1910.09840), Anders et al. 2021 (arXiv:2106.13200), Achtibat et al. 2024 (arXiv:2402.05602).
    """
    dense, plus = rules.epsilon(epsilon), rules.zplus()
    low, high = (
        tuple((bound - mean) / std for mean, std in zip(preprocessing.mean, preprocessing.std, strict=True))
        for bound in (0, 1)
    )
    made = (
        Composite("epsilon", dense, dense),
        Composite("epsilon-plus", plus, dense),
        Composite("epsilon-plus-flat", plus, dense, rules.flat()),
        Composite("epsilon-alpha2-beta1-flat", rules.alpha_beta(2.0, 1.0), dense, rules.flat()),
        Composite("epsilon-gamma-box", rules.gamma(gamma), dense, rules.zbox(low, high), box=(low, high)),
        Composite("attnlrp", dense, dense),
        Composite("cp-lrp", dense, dense, through_softmax=False),
    )
    for candidate in made:
        if candidate.name == name:
            return candidate
    raise SelectionError(f"There is no composite '{name}'. Choose one of {', '.join(COMPOSITES)}.")


def choose_composite(model: Model) -> tuple[str, str]:
    """Choose a composite for the graph; returns its name and a sentence that says why."""
    targets = [node.target for node in model.program.graph.nodes]
    attention = sum(target in ATTENTION for target in targets)
    convolutions = sum(target in CONVOLUTIONS for target in targets)
    if attention and convolutions > 1:
        return "epsilon-plus", (
            f"The model mixes {convolutions} convolutions with {attention} attention layers: z-plus for convolutions, "
            "epsilon for dense layers and AttnLRP inside attention."
        )
    if attention or convolutions <= 1:
        return "attnlrp", (
            f"The model is built of dense layers{f' and {attention} attention layers' if attention else ''}: AttnLRP, "
            "which is faithful there."
        )
    return "epsilon-plus-flat", (
        f"The model is built of {convolutions} convolutions: z-plus for them, flat for the first and epsilon for "
        "dense layers, which gives the clearest maps."
    )


def read_overrides(model: Model, text: str, epsilon: float, gamma: float) -> tuple[tuple[str, Rule], ...]:
    """Read pairs "pattern=rule" with commas between them; raises SelectionError for an unknown rule or layer."""
    known = {
        "epsilon": rules.epsilon(epsilon),
        "gamma": rules.gamma(gamma),
        "z-plus": rules.zplus(),
        "alpha2-beta1": rules.alpha_beta(2.0, 1.0),
        "w-square": rules.wsquare(),
        "flat": rules.flat(),
    }
    pairs = [[part.strip() for part in pair.partition("=")[::2]] for pair in text.split(",") if pair.strip()]
    for pattern, rule in pairs:
        if rule not in known:
            raise SelectionError(f"There is no rule '{rule}' for '{pattern}'. Choose one of {', '.join(known)}.")
        if not any(fnmatchcase(layer.name, pattern) for layer in model.info.layers):
            raise SelectionError(f"No layer is named like '{pattern}'. The page Model lists the layers' names.")
    return tuple((pattern, known[rule]) for pattern, rule in pairs)
