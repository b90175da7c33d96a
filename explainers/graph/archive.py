"""Archives of ``torch.export.save`` (``.pt2``): looked through before torch opens them, and rewritten without pickles.

torch 2.14 runs code from a hostile archive in many ways: it unpickles sample inputs, weights and objects, evaluates
symbolic sizes, looks up operators by any path from ``torch``, and compiles names and guards as Python. So only plain
data that is listed here gets into the archive that torch is given.
"""

from __future__ import annotations

import io
import json
import math
import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from torch import Tensor
from torch.export import ExportedProgram
from torch.export.pt2_archive import PT2ArchiveWriter
from torch.export.pt2_archive._package import load_pt2

from explainers.errors import ModelError, UnsafeFileError
from explainers.graph.checkpoint import SAVE_LINE, open_zip, printable, read_pickle, telling
from explainers.settings import settings

#: What each member of an archive may be, after the archive's root folder.
MEMBERS = re.compile(
    r"archive_format|archive_version|byteorder|\.data/(version|serialization_id)|\.format_version|\.storage_alignment"
    r"|models/\w+\.json|data/weights/(\w+_weights_config\.json|weight_\d+)"
    r"|data/constants/(\w+_constants_config\.json|tensor_\d+)|data/sample_inputs/\w+\.pt|extra/.*"
)

#: Operators that read nothing but their inputs: no files (as aten::save and aten::from_file do), no unwritten memory.
OPERATORS = """
abs adaptive_avg_pool1d adaptive_avg_pool2d adaptive_max_pool1d adaptive_max_pool2d add addcdiv addcmul addmm amax amin
alias arange argmax argmin avg_pool1d avg_pool2d avg_pool3d baddbmm batch_norm bitwise_not bmm broadcast_to cat ceil
celu channel_shuffle chunk clamp clamp_max clamp_min clone col2im constant_pad_nd contiguous conv1d conv2d conv3d
conv_transpose1d conv_transpose2d conv_transpose3d convolution copy cos cumsum detach diagonal div dot dropout einsum
elu embedding eq erf exp expand expand_as expm1 eye feature_dropout fill flatten flip floor floor_divide full full_like
gather ge gelu glu group_norm gt hardsigmoid hardswish hardtanh im2col index index_select instance_norm layer_norm le
leaky_relu lift_fresh lift_fresh_copy linalg_vector_norm linear log log1p log_softmax logical_and logical_not
logical_or logsumexp lstm lt masked_fill matmul max max_pool1d max_pool2d max_pool3d maximum mean min minimum mish mm
movedim mul mv narrow native_group_norm native_layer_norm ne neg new_full new_ones new_zeros norm ones ones_like pad
permute pixel_shuffle pixel_unshuffle pow prelu prod reciprocal relu relu6 remainder repeat repeat_interleave reshape
reshape_as rms_norm roll round rsqrt rsub scaled_dot_product_attention select selu sigmoid sign silu sin slice softmax
softplus split split_with_sizes sqrt square squeeze stack std sub sum swapaxes swapdims sym_size t tanh threshold tile
to topk transpose tril triu type_as unbind unflatten unfold unsqueeze upsample_bicubic2d upsample_bilinear2d
upsample_linear1d upsample_nearest1d upsample_nearest2d var var_mean view view_as where zero zeros zeros_like
_adaptive_avg_pool2d _assert_tensor_metadata _convolution _log_softmax _softmax _to_copy _unsafe_view
_upsample_bicubic2d_aa _upsample_bilinear2d_aa
"""

#: Arithmetic on symbolic sizes.
SIZE_OPERATORS = "add sub mul floordiv truediv mod neg eq ne lt le gt ge"

#: Functions in symbolic sizes (sympy's srepr), which torch evaluates as Python.
SIZE_FUNCTIONS = (
    "Add Mul Integer Rational Max Min FloorDiv CleanDiv CeilDiv Mod PythonMod IntTrueDiv ToFloat FloorToInt CeilToInt "
    "TruncToInt Equality Unequality StrictGreaterThan StrictLessThan GreaterThan LessThan"
)
SYMBOL = re.compile(r"Symbol\('[suz]\d{1,6}'(, (positive|nonnegative|integer)=(True|False))*\)")

#: What a text in a program may be, by the field that it stands in; names, for any other field.
NAME = re.compile(r"((?!__)\w+(\.(?!__)\w+)*)?", re.ASCII)
TEXTS = {
    "nn_module_stack": re.compile(r"[\w.,;@()\[\]<>' -]*"),
    "as_string": re.compile(r"[\w ,.>-]{0,100}", re.ASCII),
    "torch_version": re.compile(r"[\w.+-]{0,50}", re.ASCII),
}

#: How every program is called: with one positional argument, giving one tensor.
LEAF: dict[str, Any] = {"type": None, "context": None, "children_spec": []}
ARGUMENTS: dict[str, Any] = {"type": "builtins.tuple", "context": "null", "children_spec": [LEAF]}
KEYWORDS: dict[str, Any] = {"type": "builtins.dict", "context": "[]", "children_spec": []}
CALL: dict[str, Any] = {
    "inputs": [],
    "outputs": [],
    "in_spec": json.dumps([1, {"type": "builtins.tuple", "context": "null", "children_spec": [ARGUMENTS, KEYWORDS]}]),
    "out_spec": json.dumps([1, LEAF]),
    "forward_arg_names": None,
}

EXPORT_AGAIN = (
    "Write it by `torch.export.save(torch.export.export(model.eval(), (images,), "
    'dynamic_shapes=({0: torch.export.Dim("batch")},)), "model.pt2")`, where images is a batch of two.'
)


def open_archive(data: bytes) -> ExportedProgram:
    """Open the program in a ``.pt2`` archive.

    Raises UnsafeFileError for anything that could run code, ModelError for an archive that is damaged or whose program
    does not take one batch, of open size, of images of one size.
    """
    with telling("The archive cannot be opened", EXPORT_AGAIN):
        archive = open_zip(data)
        members = {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}
        check_members(members)
        return load_pt2(rewrite(members)).exported_programs["model"]


def check_members(members: Mapping[str, bytes]) -> None:
    """Raise an error unless an archive has one program, and nothing that torch would unpickle or run."""
    for name, content in members.items():
        if not MEMBERS.fullmatch(name):
            raise UnsafeFileError(
                f"The archive has a member '{printable(name)}'; only programs with plain tensors are opened, "
                f"no pickled or compiled ones. {EXPORT_AGAIN}"
            )
        if name.startswith("data/sample_inputs/"):
            check_plain(read_pickle(content))
    programs = [name for name in members if name.startswith("models/")]
    if len(programs) != 1:
        raise ModelError(f"The archive has {len(programs)} programs; Lightbox opens one. {EXPORT_AGAIN}")


def check_plain(content: Any) -> None:
    """Raise UnsafeFileError unless sample inputs are nothing but tensors in containers."""
    seen: set[int] = set()
    stack = [content]
    while stack:
        item = stack.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        if isinstance(item, Mapping):
            stack += [*item.keys(), *item.values()]
        elif isinstance(item, list | tuple):
            stack += item
        elif not isinstance(item, Tensor | str | int | float | None):
            raise UnsafeFileError(
                f"The archive's sample inputs hold a {type(item).__name__}, not a tensor. {EXPORT_AGAIN}"
            )


def rewrite(members: Mapping[str, bytes]) -> io.BytesIO:
    """Write a new archive with the cleaned program and plain tensors, without the pickled sample inputs."""
    (program,) = (name for name in members if name.startswith("models/"))
    model = PurePosixPath(program).stem
    buffer = io.BytesIO()
    with PT2ArchiveWriter(buffer) as writer:
        writer.write_string("models/model.json", json.dumps(clean_program(read_json(members[program]))))
        writer.write_bytes("data/sample_inputs/model.pt", b"")
        for folder, kind in (("weights", "weight"), ("constants", "tensor")):
            payload = clean_payload(read_json(members[f"data/{folder}/{model}_{folder}_config.json"]), kind)
            writer.write_string(f"data/{folder}/model_{folder}_config.json", json.dumps(payload))
            for member in {entry["path_name"] for entry in payload["config"].values()}:
                writer.write_bytes(f"data/{folder}/{member}", members[f"data/{folder}/{member}"])
    buffer.seek(0)
    return buffer


def read_json(content: bytes) -> Any:
    """Parse a member of an archive, which must be an object."""
    found = json.loads(content)
    if not isinstance(found, dict):
        raise ModelError(f"The archive's program is no JSON object. {EXPORT_AGAIN}")
    return found


def clean_program(program: dict[str, Any]) -> dict[str, Any]:
    """Keep of a serialised program what is needed to run it, all texts checked; raises UnsafeFileError."""
    module = program["graph_module"]
    check_counts(module["signature"])
    kept = ("opset_version", "range_constraints", "schema_version", "verifiers", "torch_version")
    return {
        **clean({key: program[key] for key in kept}),
        "guards_code": [],
        "graph_module": {
            "graph": clean(module["graph"]),
            "signature": clean(module["signature"]),
            "module_call_graph": [{"fqn": "", "signature": CALL}],
            "metadata": {},
            "treespec_namedtuple_fields": {},
        },
    }


def check_counts(signature: dict[str, Any]) -> None:
    """Raise ModelError unless a program takes one input and does nothing but give one output."""
    inputs = sum("user_input" in spec for spec in signature["input_specs"])
    outputs = len(signature["output_specs"])
    if (inputs, outputs) != (1, 1):
        raise ModelError(
            f"Inputs of the program: {inputs}, outputs (and updates of its own state): {outputs}; Lightbox explains "
            f"models that map one batch of images to one tensor. {EXPORT_AGAIN}"
        )


def clean(item: Any, field: str = "") -> Any:
    """Copy plain data with every text checked by the field that it stands in; devices become the CPU."""
    if isinstance(item, str):
        return check_text(item, field)
    if isinstance(item, list):
        return [clean(one, field) for one in item]
    if not isinstance(item, dict):
        return item
    if field in ("device", "as_device"):
        return {"type": "cpu", "index": None}
    if field == "metadata":
        item = {"nn_module_stack": item.get("nn_module_stack", "")}
    return {check_text(key, "name"): clean(one, key) for key, one in item.items()}


def check_text(text: str, field: str) -> str:
    """Give a text back if it is harmless in its field; raises UnsafeFileError."""
    special = {"target": is_operator, "as_operator": is_operator, "expr_str": is_size}
    if not special.get(field, TEXTS.get(field, NAME).fullmatch)(text):
        raise UnsafeFileError(
            f"The program has '{printable(text)}' as {field}, which is none of the operators, names and sizes that are "
            f"accepted from an archive, so it was not opened. Upload the weights alone, by {SAVE_LINE}, if you can."
        )
    return text


def is_operator(target: str) -> bool:
    """Whether a call goes to a listed operator, in place or not."""
    if match := re.fullmatch(r"torch\.ops\.aten\.(\w+?)_?\.\w+", target, re.ASCII):
        return match[1] in OPERATORS.split()
    return target in [f"_operator.{name}" for name in SIZE_OPERATORS.split()]


def is_size(expression: str) -> bool:
    """Whether a symbolic size is nothing but sums, products and the like of symbols and whole numbers."""
    rest = SYMBOL.sub("", expression)
    words = re.findall(r"[A-Za-z_]\w*", rest)
    return (
        len(expression) <= 1000
        and bool(re.fullmatch(r"[\w(), -]*", rest, re.ASCII))
        and set(words) <= set(SIZE_FUNCTIONS.split())
    )


def clean_payload(config: dict[str, Any], kind: str) -> dict[str, Any]:
    """Check which member holds which tensor, and how large; raises UnsafeFileError for pickled ones."""
    for name, payload in config["config"].items():
        if payload["use_pickle"] or not re.fullmatch(rf"{kind}_\d+", payload["path_name"]):
            raise UnsafeFileError(
                f"The archive keeps '{printable(name)}' as a pickled object, which could run code. {EXPORT_AGAIN}"
            )
    sizes = [[size["as_int"] for size in payload["tensor_meta"]["sizes"]] for payload in config["config"].values()]
    elements = sum(math.prod(size) for size in sizes)
    if (
        len(sizes) > settings().model_tensors
        or elements > settings().model_bytes // 4
        or any(length < 0 for size in sizes for length in size)
    ):
        raise ModelError(
            f"The archive holds {len(sizes):,} tensors of {elements:,} numbers; at most "
            f"{settings().model_tensors:,} tensors and {settings().model_bytes // 4:,} numbers are loaded."
        )
    return {"config": clean(config["config"])}


def check_images(program: ExportedProgram) -> None:
    """Raise ModelError unless the input is one batch, of open size, of images of one size."""
    (images,) = (
        node.meta.get("val") for node in program.graph.nodes if node.name in program.graph_signature.user_inputs
    )
    if not isinstance(images, Tensor) or images.dim() != 4:
        raise ModelError(f"The program does not map images (batch, channels, height, width) to scores. {EXPORT_AGAIN}")
    batch, *image = images.shape
    if isinstance(batch, int) or not all(isinstance(length, int) for length in image):
        found = " x ".join(str(length) for length in images.shape)
        raise ModelError(
            f"The program takes inputs of {found}; leave the number of images, the first, open and no other. "
            f"{EXPORT_AGAIN}"
        )
