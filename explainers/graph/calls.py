"""What a model's graph may call: one list, by torch's schemas, for files that are read and models that are kept.

A call is safe if its value is a function of its arguments' values: nothing else is read (files, unwritten memory, the
state of a random generator) and nothing is changed but an argument of which there is a functional twin.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import torch
from torch._ops import OpOverload

#: Arithmetic on symbolic sizes, and the choice of one of several results.
SIZE_OPERATORS = "add sub mul floordiv truediv mod neg eq ne lt le gt ge getitem"

#: What arguments and results may be: no storages, streams, generators, classes, or values of any type.
SCALARS = ("int", "float", "bool", "number")
TYPES = frozenset(
    kind
    for scalar in (*SCALARS, "Tensor", "str", "Device")
    for kind in (scalar, f"Optional[{scalar}]", *([] if scalar in ("str", "Device") else [f"List[{scalar}]"]))
) | {"List[Optional[Tensor]]", "Optional[List[int]]", "Optional[List[float]]"}
RESULTS = frozenset({"Tensor", "List[Tensor]"})

#: What arguments are that schemas call whole numbers.
KINDS: dict[str, Any] = {"ScalarType": torch.dtype, "Layout": torch.layout, "MemoryFormat": torch.memory_format}

#: Arguments whose texts choose one of a few ways, or say which axes an einsum sums over; no others may be texts.
CHOICES = (
    "approximate driver equation indexing interpolation mode norm ord p pad_mode padding padding_side reduce "
    "rounding_mode side UPLO"
)

#: Names of operators that their schemas do not tell apart from safe ones.
UNSAFE = re.compile(
    r"_.*"  # torch's own, which trust their arguments, but for those below
    r"|.*backward.*|.*_jvp|.*loss.*|embedding_(bag|renorm)|segment_reduce|fractional_max_.*"  # trust indices and sizes
    r"|range|linalg_eig(vals)?|lu_solve|lu_unpack|linalg_l(u|dl)_solve|orgqr|ormqr|linalg_householder_product|slice_inverse"
    r"|.*empty.*|resize.*|set|data|.*shallow.*|lift|pin_memory|requires_grad|.*strided.*"  # memory, not values
    r"|(cudnn|miopen|mkldnn|mps|fbgemm|quantize|q|nested|slow|thnn|batch_norm|native_batch)_.*"  # of some backend alone
    r"|.*(sparse|dense|quantized|mkldnn|qparams|padded|overrideable|depthwise|moving_avg).*|dequantize|int_repr"
    r"|special_(.*polynomial.*|zeta)|hspmm|smm|sspaddmm|coalesce|(crow|ccol|row|col)_indices.*|indices.*|values.*"
)

#: What is safe though one of the rules above leaves it out: private names of public functions, and what is random in
#: training only.
ACCEPTED = """
__and__ __or__ __xor__ _adaptive_avg_pool2d _adaptive_avg_pool3d _cdist_forward _conj _conj_physical _convolution
_euclidean_dist _linalg_det _linalg_eigh _linalg_slogdet _linalg_solve_ex _linalg_svd _log_softmax
_pad_circular _prelu_kernel _safe_softmax
_scaled_dot_product_flash_attention_for_cpu _shape_as_tensor _softmax _to_copy _trilinear _unsafe_index _unsafe_view
_upsample_bicubic2d_aa _upsample_bilinear2d_aa _upsample_nearest_exact1d _upsample_nearest_exact2d
_upsample_lanczos2d_aa _upsample_nearest_exact3d alpha_dropout dropout feature_alpha_dropout feature_dropout gru lstm
rnn_relu rnn_tanh rrelu scaled_dot_product_attention
"""

#: Sizes, which the schema rules leave out as they are no tensors, and shapes that boolean masks and classes decide.
SIZES = frozenset({"sym_size", "sym_numel"})
DECIDED_BY_VALUES = frozenset({"index", "one_hot"})

#: The one operator of another library's: a convolution that reads its input where a network says.
DEFORMABLE = "torchvision.deform_conv2d.default"


@cache
def find(name: str) -> Callable[..., Any] | None:
    """Find what a graph calls by its name, such as "aten.add.Tensor" or "operator.getitem"; None unless it is safe."""
    space, _, rest = name.partition(".")
    if space == "operator":
        return getattr(operator, rest, None) if rest in SIZE_OPERATORS.split() else None
    if name == DEFORMABLE:
        import torchvision.ops  # noqa: F401  # registers it

        return torch.ops.torchvision.deform_conv2d.default
    found = look_up(name)
    return found if found and is_safe(found) else None


def is_random(name: str) -> bool:
    """Whether a name is that of an operator that draws random numbers."""
    found = look_up(name)
    return found is not None and torch.Tag.nondeterministic_seeded in found.tags


def look_up(name: str) -> OpOverload | None:
    """An operator of ATen's that torch dispatches, which functions of TorchScript's own are not."""
    space, _, rest = name.partition(".")
    base, _, overload = rest.partition(".")
    registered = f"aten::{base}" if overload == "default" else f"aten::{base}.{overload}"
    if space != "aten" or not overload or registered not in registered_names():
        return None
    found: OpOverload = getattr(getattr(torch.ops.aten, base), overload)
    return found


@cache
def registered_names() -> frozenset[str]:
    """The names of all operators that torch dispatches."""
    return frozenset(torch._C._dispatch_get_all_op_names())


def is_safe(called: OpOverload) -> bool:
    """Whether an operator's value is a function of its arguments' values alone."""
    base = called._schema.name.removeprefix("aten::")
    if called._schema.is_mutable:
        twin = functional(called)
        return twin is not None and is_safe(twin)
    if base in SIZES:
        return True
    random = torch.Tag.nondeterministic_seeded in called.tags
    unknown_shape = torch.Tag.dynamic_output_shape in called.tags and base not in DECIDED_BY_VALUES
    packed = called._overloadname == "data"  # of sequences of several lengths, which it trusts
    if packed or (base not in ACCEPTED.split() and (random or UNSAFE.fullmatch(base))):
        return False
    return not unknown_shape and has_plain_schema(called, base in ACCEPTED.split())


def has_plain_schema(called: OpOverload, seeded: bool) -> bool:
    """Whether an operator takes and gives nothing but tensors, numbers and choices; ``seeded`` allows a generator."""
    schema = called._schema
    texts = [argument.name for argument in schema.arguments if "str" in str(argument.type)]
    types = {str(argument.type) for argument in schema.arguments} - ({"Optional[Generator]"} if seeded else set())
    results = [str(result.type) for result in schema.returns]
    return bool(results) and types <= TYPES and set(texts) <= set(CHOICES.split()) and set(results) <= RESULTS


def takes(called: OpOverload, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> bool:
    """Whether arguments are named by the schema, and types of numbers, layouts and memory formats none but such.

    Torch takes any number for these.
    """
    declared = called._schema.arguments
    named = {argument.name: argument for argument in declared}
    if len(arguments) > len(declared) or not keywords.keys() <= named.keys():
        return False
    given = [*zip(declared, arguments, strict=False), *((named[key], keywords[key]) for key in keywords)]
    return all(
        isinstance(value, KINDS.get(str(argument.real_type).removeprefix("Optional[").rstrip("]"), object) | None)
        for argument, value in given
    )


def is_certain(called: OpOverload, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> bool:
    """Whether a call gives the same each time: it draws no random numbers, or draws them in training only."""
    if torch.Tag.nondeterministic_seeded not in called.tags:
        return True
    declared = called._schema.arguments
    usual = {argument.name: argument.default_value for argument in declared if argument.has_default_value()}
    given = usual | dict(zip((argument.name for argument in declared), arguments, strict=False)) | dict(keywords)
    training = [given[name] for name in ("train", "training") if name in given]
    chances = [given[name] for name in ("dropout_p", "dropout", "p") if name in given]
    still = training == [False] or (bool(chances) and all(type(one) in (int, float) and one == 0 for one in chances))
    return still and given.get("generator") is None


def is_functional(called: Any) -> bool:
    """Whether a call changes none of its arguments."""
    return not (isinstance(called, OpOverload) and called._schema.is_mutable)


@cache
def functional(called: OpOverload) -> OpOverload | None:
    """The operator that gives as a new value what this one writes over its first argument; None if there is none.

    Found by the schema: its overload may have another name, as ``transpose.int`` is the twin of ``transpose_``.
    """
    schema = called._schema
    if not schema.arguments:
        return None
    first, *others = schema.arguments
    written = first.alias_info is not None and first.alias_info.is_write
    if not schema.name.endswith("_") or not written or any(argument.is_out for argument in others):
        return None
    packet = getattr(getattr(torch.ops, called.namespace), schema.name.partition("::")[2].removesuffix("_"), None)
    twins = [getattr(packet, overload) for overload in packet.overloads()] if packet else []
    described = [(argument.name, str(argument.type)) for argument in others]
    return next(
        (
            twin
            for twin in twins
            if [(a.name, str(a.type)) for a in twin._schema.arguments[1:]] == described and not twin._schema.is_mutable
        ),
        None,
    )
