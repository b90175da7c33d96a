"""What an uploaded model file seems to be: the guesses that the upload form starts from. Free of torch."""

from __future__ import annotations

from dataclasses import dataclass

from explainers.preprocessing import Preprocessing


@dataclass(frozen=True)
class Guess:
    """An architecture by its qualified name ("timm/resnet50") and how many of the file's tensors fit it."""

    architecture: str
    fitting: int
    tensors: int

    @property
    def exact(self) -> bool:
        """Whether every tensor of the file has its place in the architecture."""
        return self.fitting == self.tensors


@dataclass(frozen=True)
class Output:
    """One of several tensors that a model gives: its name in the file, and its shape for one image."""

    name: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Proposal:
    """What a model file holds, as far as that can be told without running it.

    ``format`` is "safetensors", "checkpoint", "onnx" or "pt2". ``guesses`` are architectures, best first, ``choices``
    all there are to choose from; both are empty for files that bring their own. ``classes`` counts the outputs and
    ``channels`` the colours of the input; ``class_names`` is empty unless they can be told. ``outputs`` lists what can
    be explained where a file gives several tensors, the proposed one first; empty where it gives one. ``shape`` is of
    the output for one image, ``kind`` what it seems to mean ("" if it cannot be explained), ``reason`` why.
    ``networks`` names those that a file of weights holds, likeliest first, and ``network`` the one that is proposed;
    empty where it holds one. ``chosen`` is the architecture that was asked for instead of the best guess.
    """

    name: str
    format: str
    guesses: tuple[Guess, ...]
    choices: tuple[str, ...]
    classes: int
    channels: int
    preprocessing: Preprocessing
    class_names: tuple[str, ...]
    notes: tuple[str, ...]
    outputs: tuple[Output, ...] = ()
    shape: tuple[int, ...] = ()
    kind: str = ""
    reason: str = ""
    networks: tuple[str, ...] = ()
    network: str = ""
    chosen: str | None = None

    @property
    def architecture(self) -> str | None:
        """The one that was chosen, else the best guess; None where the file brings its own architecture."""
        return self.chosen or (self.guesses[0].architecture if self.guesses else None)
