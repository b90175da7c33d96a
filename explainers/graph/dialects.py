"""Names of tensors as other libraries give them to networks that timm has too, turned into timm's.

By shapes alone query, key and value, or two norms of one block, cannot be told apart; their names tell.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import torch

from explainers.graph.networks import Tensors, Weights

Rule = tuple[str, str | Callable[[re.Match[str]], str]]


@dataclass(frozen=True)
class Dialect:
    """How one library names a family of networks.

    ``mark`` is a name that only this family has, with what may stand before all names of the network in its first
    group, and what stands before those of all but the head in its second. ``rules`` replace parts of names, in order.
    """

    title: str
    mark: str
    rules: tuple[Rule, ...]


def later(text: str) -> Callable[[re.Match[str]], str]:
    """A replacement that counts the first group one up: from 0 to from 1, or into the next stage."""
    return lambda match: match.expand(text).replace("#", str(int(match[1]) + 1))


TRANSFORMER: tuple[Rule, ...] = (
    (r"attention\.(?:attention|self)\.query\.", "attn.q."),
    (r"attention\.(?:attention|self)\.key\.", "attn.k."),
    (r"attention\.(?:attention|self)\.value\.", "attn.v."),
    (r"attention\.self\.", "attn."),
    (r"attention\.output\.dense\.", "attn.proj."),
    (r"intermediate\.dense\.", "mlp.fc1."),
    (r"output\.dense\.", "mlp.fc2."),
    (r"layernorm_before\.", "norm1."),
    (r"layernorm_after\.", "norm2."),
    (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"^layernorm\.", "norm."),
)
BLOCK = r"^encoder\.stages\.(\d+)\.layers\.(\d+)\."

DIALECTS = (
    Dialect(
        "Hugging Face's ViT",
        r"(.*?)((?:vit|deit)\.|)encoder\.layer\.0\.attention\.attention\.query\.weight",
        (
            (r"^embeddings\.(cls_token)$", r"\1"),
            (r"^embeddings\.distillation_token$", "dist_token"),
            (r"^embeddings\.position_embeddings$", "pos_embed"),
            (r"^encoder\.layer\.", "blocks."),
            *TRANSFORMER,
            (r"^(?:cls_)?classifier\.", "head."),
            (r"^distillation_classifier\.", "head_dist."),
        ),
    ),
    Dialect(
        "Hugging Face's Swin",
        r"(.*?)(swin\.|)encoder\.layers\.0\.blocks\.0\.attention\.self\.query\.weight",
        (
            (r"^embeddings\.norm\.", "patch_embed.norm."),
            (r"^encoder\.layers\.(\d+)\.downsample\.", later("layers.#.downsample.")),
            (r"^encoder\.layers\.", "layers."),
            *TRANSFORMER,
            (r"^classifier\.", "head.fc."),
        ),
    ),
    Dialect(
        "Hugging Face's ConvNeXt",
        r"(.*?)(convnext(?:v2)?\.|)encoder\.stages\.0\.layers\.0\.dwconv\.weight",
        (
            (r"^embeddings\.patch_embeddings\.", "stem.0."),
            (r"^embeddings\.layernorm\.", "stem.1."),
            (r"^encoder\.stages\.(\d+)\.downsampling_layer\.", r"stages.\1.downsample."),
            (BLOCK, r"stages.\1.blocks.\2."),
            (r"\.dwconv\.", ".conv_dw."),
            (r"(blocks\.\d+)\.layernorm\.", r"\1.norm."),
            (r"\.pwconv(\d)\.", r".mlp.fc\1."),
            (r"\.grn\.", ".mlp.grn."),
            (r"\.layer_scale_parameter$", ".gamma"),
            (r"^layernorm\.", "head.norm."),
            (r"^classifier\.", "head.fc."),
        ),
    ),
    Dialect(
        "Hugging Face's ResNet",
        r"(.*?)(resnet\.|)encoder\.stages\.0\.layers\.0\.layer\.1\.convolution\.weight",
        (
            (r"^embedder\.embedder\.convolution\.", "conv1."),
            (r"^embedder\.embedder\.normalization\.", "bn1."),
            (BLOCK, later(r"layer#.\2.")),
            (r"\.shortcut\.convolution\.", ".downsample.0."),
            (r"\.shortcut\.normalization\.", ".downsample.1."),
            (r"\blayer\.(\d)\.convolution\.", later("conv#.")),
            (r"\blayer\.(\d)\.normalization\.", later("bn#.")),
            (r"^classifier\.1\.", "fc."),
        ),
    ),
    Dialect(
        "ConvNeXt's authors",
        r"(.*?)()downsample_layers\.0\.0\.weight",
        (
            (r"^downsample_layers\.0\.", "stem."),
            (r"^downsample_layers\.(\d+)\.", r"stages.\1.downsample."),
            (r"^stages\.(\d+)\.(\d+)\.", r"stages.\1.blocks.\2."),
            (r"\.dwconv\.", ".conv_dw."),
            (r"\.pwconv(\d)\.", r".mlp.fc\1."),
            (r"\.grn\.(?:gamma)$", ".mlp.grn.weight"),
            (r"\.grn\.(?:beta)$", ".mlp.grn.bias"),
            (r"^norm\.", "head.norm."),
            (r"^head\.(weight|bias)$", r"head.fc.\1"),
        ),
    ),
    Dialect(
        "Swin's authors",
        r"(.*?)()layers\.0\.downsample\.reduction\.weight",
        (
            (r"^layers\.(\d+)\.downsample\.", later("layers.#.downsample.")),
            (r"^head\.(weight|bias)$", r"head.fc.\1"),
        ),
    ),
)


def translate(weights: Weights) -> Weights:
    """Turn the names of a known dialect into timm's, and join query, key and value; tells so in a note."""
    for dialect in DIALECTS:
        marks = (re.fullmatch(dialect.mark, name) for name in weights.tensors)
        if mark := next(filter(None, marks), None):
            named = {rename(name, mark[1], mark[2], dialect.rules): one for name, one in weights.tensors.items()}
            joined = {name: one.flatten() if ".grn." in name else one for name, one in join_attention(named).items()}
            note = (
                f"The file has names as {dialect.title} has: {len(named.keys() - weights.tensors.keys())} of its "
                f"{len(named)} tensors were renamed to timm's"
                + (f", {len(named) - len(joined)} of them joined as query, key and value" * (len(named) > len(joined)))
                + "."
            )
            return Weights(joined, weights.ordered, (*weights.notes, note), weights.beside)
    return weights


def rename(name: str, outer: str, base: str, rules: tuple[Rule, ...]) -> str:
    """One name in timm's words; names of other parts of the file stay as they are."""
    if not name.startswith(outer):
        return name
    own = name.removeprefix(outer).removeprefix(base)
    for pattern, replacement in rules:
        own = re.sub(pattern, replacement, own)
    return outer + own


def join_attention(tensors: Tensors) -> Tensors:
    """Put query, key and value of each attention into one tensor, in this order."""
    joined: Tensors = {}
    for name, tensor in tensors.items():
        if match := re.fullmatch(r"(.*\.attn)\.([qkv])\.(weight|bias)", name):
            parts = [tensors.get(f"{match[1]}.{part}.{match[3]}") for part in "qkv"]
            whole = [part for part in parts if part is not None]
            if len(whole) == len(parts):
                joined[f"{match[1]}.qkv.{match[3]}"] = torch.cat(whole)
                continue
        joined[name] = tensor
    return joined
