"""The one table of rules by ATen operator."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch

from explainers.relevance import elementary as rules
from explainers.relevance.affine import propagate_affine
from explainers.relevance.attention import attend, expand_log_softmax, expand_softmax
from explainers.relevance.composites import AFFINE, SOFTMAX
from explainers.relevance.groups import (
    AVERAGES,
    ELEMENTWISE,
    FILLED,
    JOINED,
    LINEAR,
    MOVES,
    PRODUCTS,
    QUOTIENTS,
    WINNERS,
    overloads,
)
from explainers.relevance.normalisation import normalise
from explainers.relevance.step import Shares, Step

aten = torch.ops.aten

#: Which rule every operator has; others go by gradient. Adding an operator is one name in its group, or one line here.
RULES: Mapping[Any, Callable[[Step], Shares]] = {
    **dict.fromkeys(AFFINE, propagate_affine),
    **dict.fromkeys(ELEMENTWISE, rules.flow),
    **dict.fromkeys(MOVES | WINNERS, rules.move),
    **dict.fromkeys(FILLED, rules.choose),
    **dict.fromkeys(overloads("maximum minimum fmax fmin max.other min.other"), rules.compare),
    aten.max_pool2d.default: rules.win,
    **dict.fromkeys(AVERAGES | LINEAR, rules.share),
    **dict.fromkeys(JOINED, rules.share_with_constants),
    **dict.fromkeys(PRODUCTS, rules.share_product),
    **dict.fromkeys(overloads("var"), rules.share_square),
    **dict.fromkeys(overloads("prod"), rules.share_all_factors),
    **dict.fromkeys(overloads("grid_sampler grid_sampler_2d grid_sampler_3d"), rules.share_first),
    **dict.fromkeys(overloads("layer_norm group_norm rms_norm"), normalise),
    **dict.fromkeys(SOFTMAX | overloads("softmax.int _softmax special_softmax"), expand_softmax),
    **dict.fromkeys(overloads("log_softmax _log_softmax special_log_softmax"), expand_log_softmax),
    **dict.fromkeys(overloads("cat concat concatenate"), rules.cut),
    **dict.fromkeys(overloads("add"), rules.add),
    **dict.fromkeys(overloads("sub subtract"), partial(rules.add, second=-1.0)),
    **dict.fromkeys(overloads("rsub"), partial(rules.add, first=-1.0)),
    **dict.fromkeys(overloads("mul multiply") | QUOTIENTS, rules.multiply),
    aten.scaled_dot_product_attention.default: attend,
}
