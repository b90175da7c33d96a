"""The one entry for model files: bytes become a proposal to look at, and with it a Model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath

from explainers.graph.architectures import build, fill
from explainers.graph.checkpoint import read_checkpoint
from explainers.graph.export import export
from explainers.graph.model import Model
from explainers.preprocessing import Preprocessing


def load(
    data: bytes,
    file_name: str,
    *,
    architecture: str | None = None,
    preprocessing: Preprocessing | None = None,
    class_names: Sequence[str] = (),
    name: str | None = None,
) -> Model:
    """Make a Model of a file's bytes; what is not given is taken from the proposal's best guess."""
    assert architecture
    preprocessing = preprocessing or Preprocessing()
    weights = read_checkpoint(data)
    module = build(architecture, 1000, preprocessing.channels)
    notes = fill(module, weights)
    if not class_names:
        from timm.data import ImageNetInfo

        info = ImageNetInfo()
        class_names = [name.split(",")[0] for name in info.label_descriptions()]
    return export(module, name or PurePath(file_name).stem, preprocessing, class_names, "checkpoint", [*weights.notes, *notes])
