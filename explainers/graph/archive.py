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
import zipfile
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram

from explainers.errors import ModelError, UnsafeFileError
from explainers.graph.checkpoint import MAX_BYTES, MAX_TENSORS, read_pickle

#: What each member of an archive may be, after the archive's root folder.
MEMBERS = re.compile(
    r"archive_format|archive_version|byteorder|\.data/(version|serialization_id)|\.format_version|\.storage_alignment"
    r"|models/\w+\.json|data/weights/(\w+_weights_config\.json|weight_\d+)"
    r"|data/constants/(\w+_constants_config\.json|tensor_\d+)|data/sample_inputs/\w+\.pt|extra/.*"
)

#: Operators that read nothing but their inputs: no files, no fresh memory, no state.
OPERATORS = frozenset(
    "abs adaptive_avg_pool1d adaptive_avg_pool2d adaptive_max_pool1d adaptive_max_pool2d add addcdiv addcmul addmm alias amax "
    "amin arange argmax argmin avg_pool1d avg_pool2d avg_pool3d baddbmm batch_norm bmm broadcast_to cat ceil celu "
    "channel_shuffle chunk clamp clamp_max clamp_min clone col2im constant_pad_nd contiguous conv1d conv2d conv3d "
    "conv_transpose1d conv_transpose2d conv_transpose3d convolution cos cumsum detach detach_copy diagonal div dot dropout "
    "einsum elu embedding eq erf exp expand expand_as expm1 feature_dropout flatten flip floor floor_divide full full_like "
    "gather ge gelu glu group_norm gt hardsigmoid hardswish hardtanh im2col index index_select instance_norm item le layer_norm "
    "leaky_relu lift_fresh lift_fresh_copy linalg_vector_norm linear log log1p log_softmax logical_and logical_not logical_or "
    "logsumexp lt masked_fill matmul max max_pool1d max_pool2d max_pool3d maximum mean meshgrid min minimum mish mm movedim "
    "mul mv narrow native_group_norm native_layer_norm ne neg new_full new_ones new_zeros norm numpy_T ones ones_like pad "
    "permute pixel_shuffle pixel_unshuffle pow prelu prod reciprocal relu relu6 remainder repeat repeat_interleave reshape "
    "reshape_as rms_norm roll round rsqrt rsub scaled_dot_product_attention select selu sigmoid sign silu sin slice "
    "softmax softplus split split_with_sizes sqrt square squeeze stack std sub sum swapaxes swapdims sym_size t tanh "
    "threshold tile to topk transpose tril triu type_as unbind unflatten unfold unsafe_split unsqueeze upsample_bicubic2d "
    "upsample_bilinear2d upsample_linear1d upsample_nearest1d upsample_nearest2d var var_mean view view_as where zeros zeros_like "
    "_adaptive_avg_pool2d _convolution _log_softmax _softmax _to_copy _unsafe_view _upsample_bicubic2d_aa "
    "_upsample_bilinear2d_aa _assert_tensor_metadata".split()
)

#: Arithmetic on symbolic sizes.
SIZE_OPERATORS = frozenset("add sub mul floordiv truediv mod neg pow eq ne lt le gt ge getitem".split())

#: Functions in symbolic sizes (sympy's srepr), which torch evaluates as Python.
SIZE_FUNCTIONS = frozenset(
    "Add Mul Integer Rational Max Min FloorDiv CleanDiv CeilDiv Mod PythonMod IntTrueDiv ToFloat FloorToInt CeilToInt "
    "TruncToInt Equality Unequality StrictGreaterThan StrictLessThan GreaterThan LessThan Eq Ne Gt Lt Ge Le".split()
)
SYMBOL = re.compile(r"Symbol\('[suz]\d{1,6}'(, (positive|nonnegative|integer)=(True|False))*\)")
SIZE_TOKENS = re.compile(r"(\w+\(|\d{1,12}|-|,|\)|\s)*")

IDENTIFIER = re.compile(r"([A-Za-z_]\w*(\.\w+)*)?", re.ASCII)
PLAIN_TEXT = {
    "nn_module_stack": re.compile(r"[\w.,;@()\[\]<>' -]*"),
    "as_string": re.compile(r"[\w ,.>-]{0,100}", re.ASCII),
    "torch_version": re.compile(r"[\w.+-]{0,50}", re.ASCII),
}

#: Fields through which an archive would bring graphs, objects or functions of its own.
FORBIDDEN = frozenset({"as_graph", "as_custom_obj", "as_operator", "custom_obj", "token"})

EXPORT_LINE = (
    '`torch.export.export(model, (images,), dynamic_shapes=({0: torch.export.Dim("batch")},))`, where images is a batch '
    "of two"
)


def open_archive(data: bytes) -> ExportedProgram:
    """Open the program in a ``.pt2`` archive.

    Raises UnsafeFileError for anything that could run code, ModelError for an archive that is damaged or does not
    take one batch, of open size, of images of one size.
    """
    members = read_members(data)
    check_members(members)
    with quiet():
        try:
            program = load_pt2(rewrite(members)).exported_programs["model"]
        except RECOVERABLE as error:
            raise ModelError(f"torch {torch.__version__} cannot open the archive: {first_line(error)} {AGAIN}") from error
    check_input(program)
    return program


def read_members(data: bytes) -> dict[str, bytes]:
    """Read an archive's members by their names below its root folder, which may not hold more bytes than the file."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = archive.infolist()
        if len(entries) > MAX_MEMBERS:
            raise ModelError(f"The archive has {len(entries)} members; at most {MAX_MEMBERS} are read.")
        if sum(entry.file_size for entry in entries) > len(data):
            raise ModelError("The archive's members are compressed or overlap, which torch.export.save never does. " + AGAIN)
        members = {entry.filename.partition("/")[2]: archive.read(entry) for entry in entries}
    if len(members) < len(entries):
        raise ModelError("The archive has several members of one name. " + AGAIN)
    return members


def check_members(members: Mapping[str, bytes]) -> None:
    """Raise an error unless an archive has one program, and nothing that torch would unpickle or run."""
    for name, content in members.items():
        if not MEMBERS.fullmatch(name):
            raise UnsafeFileError(
                f"The archive has a member '{printable(name)}'; only programs with plain tensors are opened, no pickled "
                f"or compiled ones. {AGAIN}"
            )
        if name.startswith("data/sample_inputs/"):
            check_plain(read_pickle(content))
    programs = [name for name in members if name.startswith("models/")]
    if len(programs) != 1:
        raise ModelError(f"The archive has {len(programs)} programs; Lightbox opens one. {AGAIN}")


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
            raise UnsafeFileError(f"The archive's sample inputs hold a {type(item).__name__}, not a tensor. {AGAIN}")


def rewrite(members: Mapping[str, bytes]) -> io.BytesIO:
    """Write a new archive with the cleaned program and plain tensors, without the pickled sample inputs."""
    (model,) = (name.removeprefix("models/").removesuffix(".json") for name in members if name.startswith("models/"))
    buffer = io.BytesIO()
    with PT2ArchiveWriter(buffer) as writer:
        writer.write_bytes("models/model.json", json.dumps(clean_program(read_json(members, f"models/{model}.json"))).encode())
        writer.write_bytes("data/sample_inputs/model.pt", b"")
        for folder, kind in (("weights", "weight"), ("constants", "tensor")):
            config = read_json(members, f"data/{folder}/{model}_{folder}_config.json")
            clean = clean_payload(config, kind)
            writer.write_bytes(f"data/{folder}/model_{folder}_config.json", json.dumps(clean).encode())
            for member in {payload["path_name"] for payload in clean["config"].values()}:
                writer.write_bytes(f"data/{folder}/{member}", members[f"data/{folder}/{member}"])
    buffer.seek(0)
    return buffer
