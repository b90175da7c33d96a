"""What a computation returns: read-only NumPy results that say how they came to be. Free of torch."""

from __future__ import annotations

import io
import json
import zipfile
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float32, Int, UInt8

from explainers.preprocessing import Preprocessing
from explainers.regions import Region


@dataclass(frozen=True)
class Layer:
    """A layer of a model under the name that the model's author gave it.

    ``shape`` is its output for one image, without the batch dimension. ``layout`` says where space is in it:
    "channels first" (C, H, W), "channels last" (H, W, C), "tokens" (N, C; the last ``grid`` tokens are the image, row
    by row), "heads" (C, N, D: tokens for each attention head) or "none". ``grid`` is (rows, columns) of the spatial
    map, (1, 1) without space.
    """

    name: str
    node: str
    kind: str
    shape: tuple[int, ...]
    layout: str
    grid: tuple[int, int]

    @property
    def spatial(self) -> bool:
        """Whether the layer's output is a map with more than one position."""
        return self.layout != "none"

    @property
    def channels(self) -> int:
        """The number of channels (concepts) of the layer's output."""
        return self.shape[-1] if self.layout in ("channels last", "tokens") else self.shape[0]


@dataclass(frozen=True)
class ModelInfo:
    """Everything about a model but the graph itself.

    ``digest`` names the model with all that changes its results (graph and weights); ``weights_digest`` names the
    content of its weights as the author's file held them, whatever the file's format. ``private`` marks what a person
    uploaded: its results stay in memory. ``operators`` are the graph's operators, such as "aten.relu.default".
    """

    name: str
    source: str
    preprocessing: Preprocessing
    class_names: tuple[str, ...]
    layers: tuple[Layer, ...]
    output_shape: tuple[int, ...]
    parameters: int
    digest: str
    weights_digest: str
    notes: tuple[str, ...] = ()
    private: bool = False
    operators: tuple[str, ...] = ()

    @property
    def gives_map(self) -> bool:
        """Whether the output is a map of logits (class, height, width) instead of one logit a class."""
        return len(self.output_shape) == 3

    def layer(self, name: str) -> Layer:
        """Find a layer by its name; raises SelectionError with the nearest names."""
        import difflib

        from explainers.errors import SelectionError

        for layer in self.layers:
            if layer.name == name:
                return layer
        near = difflib.get_close_matches(name, [layer.name for layer in self.layers], n=3)
        raise SelectionError(
            f"The model {self.name} has no layer '{name}'." + (f" Did you mean {' or '.join(near)}?" if near else "")
        )


@dataclass(frozen=True)
class Target:
    """The output explained: the logit of class ``index``, or with ``versus`` its lead over another class.

    For a model that gives a map of logits it is their mean in ``region``, a polygon of corners (x, y) as shares of
    width and height; () for the whole map.
    """

    index: int
    versus: int | None = None
    region: Region = ()


@dataclass
class Passes:
    """Counts of passes: ``forward`` and ``backward`` calls of the network, and the ``images`` that went forward."""

    forward: int = 0
    backward: int = 0
    images: int = 0


#: Where the passes of the computation at hand are counted.
passes: ContextVar[Passes] = ContextVar("passes")


class Result:
    """A result that the cache can hold: a frozen dataclass of NumPy arrays (made read-only) and plain JSON values.

    A field may also be a tuple of other results, its parts.
    """

    def __post_init__(self) -> None:
        for array in self.arrays.values():
            array.setflags(write=False)

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """The fields that are arrays."""
        return {name: value for name, value in vars(self).items() if isinstance(value, np.ndarray)}

    @property
    def parts(self) -> dict[str, Result]:
        """The results in fields that are tuples of them, by the field's name and their number."""
        tuples = [(name, value) for name, value in vars(self).items() if isinstance(value, tuple)]
        parts = ((f"{name}.{number}", part) for name, value in tuples for number, part in enumerate(value))
        return {name: part for name, part in parts if isinstance(part, Result)}

    @property
    def nbytes(self) -> int:
        """Bytes in memory, with an allowance for the plain values."""
        parts = sum(part.nbytes for part in self.parts.values())
        return 1024 + parts + sum(array.nbytes for array in self.arrays.values())


@dataclass(frozen=True)
class Prediction(Result):
    """A model's outputs for one image: ``logits`` and ``probabilities`` (softmax; sigmoid of a single one).

    Of a map of logits, ``logits`` are the means and ``probabilities`` the shares of the area where each class is best.
    """

    logits: Float32[np.ndarray, " class"]
    probabilities: Float32[np.ndarray, " class"]

    def top(self, count: int = 5) -> list[int]:
        """The class indices with the largest probabilities, best first; logits decide where those are equal."""
        return [int(index) for index in np.lexsort((-self.logits, -self.probabilities))[:count]]


@dataclass(frozen=True)
class Attribution(Result):
    """Scores of every input pixel for one output of one image.

    ``values`` is summed over colours, in the units of the output (logit) for methods that conserve it. ``output`` is
    the explained output, ``expected`` the sum that completeness or conservation demands (None if the method promises
    none). ``provenance`` holds plain JSON values: model, input, method, parameters, target, versions, passes, seconds.
    """

    values: Float32[np.ndarray, "height width"]
    output: float
    expected: float | None
    signed: bool
    provenance: dict[str, Any] = field(default_factory=dict)

    @property
    def total(self) -> float:
        """The sum of all attributions."""
        return float(self.values.sum(dtype=np.float64))

    @property
    def gap(self) -> float | None:
        """How far the sum is from what completeness demands, in the units of the output."""
        return None if self.expected is None else self.total - self.expected


@dataclass(frozen=True)
class ConceptRelevance(Result):
    """What each concept of a layer did for one output of one image.

    ``relevance`` is signed, in the units of the output (logit), summed over the layer's places or those in a region;
    ``maximum`` and ``mean`` are activations over all places. ``output`` is the explained output.
    """

    relevance: Float32[np.ndarray, " concept"]
    maximum: Float32[np.ndarray, " concept"]
    mean: Float32[np.ndarray, " concept"]
    output: float
    provenance: dict[str, Any] = field(default_factory=dict)

    @property
    def shares(self) -> Float32[np.ndarray, " concept"]:
        """Each concept's part, with its sign, of the sum of absolute relevances (all zero if that is zero)."""
        whole = np.abs(self.relevance).sum()
        return self.relevance / whole if whole else np.zeros_like(self.relevance)

    def top(self, count: int = 8) -> list[int]:
        """The most relevant concepts, for or against, best first."""
        return [int(concept) for concept in np.argsort(-np.abs(self.relevance), kind="stable")[:count]]

    def needed(self, share: float = 0.8) -> int:
        """How many of the most relevant concepts carry a share of all absolute relevance together."""
        carried = np.cumsum(np.sort(np.abs(self.shares.astype(np.float64)))[::-1])
        return min(int((carried < share - 1e-6).sum()) + 1, len(carried))


@dataclass(frozen=True)
class ConceptHeatmaps(Result):
    """Where chosen concepts of a layer are seen: relevance of every input pixel through each of them alone.

    ``values`` are summed over colours, in the units of the output; ``relevance`` is each concept's at its layer.
    """

    concepts: Int[np.ndarray, " concept"]
    values: Float32[np.ndarray, "concept height width"]
    relevance: Float32[np.ndarray, " concept"]
    provenance: dict[str, Any] = field(default_factory=dict)

    def heatmap(self, concept: int) -> Float32[np.ndarray, "height width"]:
        """The heatmap of one of the chosen concepts."""
        found: Float32[np.ndarray, "height width"] = self.values[self.concepts.tolist().index(concept)]
        return found


@dataclass(frozen=True)
class ConceptGraph(Result):
    """Where the relevance of concepts comes from, layer by layer downwards.

    Node n is the concept ``concepts[n]`` of the layer ``layers[levels[n]]``; level 0 holds what was asked for. Edge e
    says that ``weights[e]`` of the relevance of node ``uppers[e]`` comes from node ``lowers[e]``, one of its most
    relevant parents. A node's ``relevance`` is what all nodes of the level above have from it.
    """

    layers: tuple[str, ...]
    levels: Int[np.ndarray, " node"]
    concepts: Int[np.ndarray, " node"]
    relevance: Float32[np.ndarray, " node"]
    uppers: Int[np.ndarray, " edge"]
    lowers: Int[np.ndarray, " edge"]
    weights: Float32[np.ndarray, " edge"]
    provenance: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class WhatIf(Result):
    """A decision before and after concepts were silenced, damped or boosted; heatmaps explain the same target."""

    logits: Float32[np.ndarray, "2 class"]
    probabilities: Float32[np.ndarray, "2 class"]
    heatmaps: Float32[np.ndarray, "2 height width"]
    outputs: Float32[np.ndarray, "2"]
    provenance: dict[str, Any] = field(default_factory=dict)

    @property
    def before(self) -> Prediction:
        """The prediction as it was."""
        return Prediction(self.logits[0], self.probabilities[0])

    @property
    def after(self) -> Prediction:
        """The prediction with the changed concepts."""
        return Prediction(self.logits[1], self.probabilities[1])


def pack(picture: UInt8[np.ndarray, "height width 3"], attribution: Attribution) -> bytes:
    """Write scores, picture and provenance as the bytes of an ``.npz`` file without pickles."""
    file = io.BytesIO()
    provenance = {**attribution.provenance, "output": attribution.output, "expected": attribution.expected}
    arrays: dict[str, Any] = {"values": attribution.values, "picture": picture, "provenance": json.dumps(provenance)}
    np.savez_compressed(file, **arrays)
    return file.getvalue()


def store(result: Result) -> bytes:
    """Write a result as the bytes of an ``.npz`` file without pickles."""
    held = {*result.arrays, *(name.partition(".")[0] for name in result.parts)}
    plain = {name: value for name, value in vars(result).items() if name not in held}
    file = io.BytesIO()
    parts = {name: np.frombuffer(store(part), np.uint8) for name, part in result.parts.items()}
    arrays: dict[str, Any] = {**result.arrays, **parts, "plain": json.dumps([type(result).__name__, plain])}
    np.savez_compressed(file, **arrays)
    return file.getvalue()


def restore(data: bytes) -> Result:
    """Read a result back from the bytes that ``store`` made; raises ValueError if they are damaged."""
    kinds = {kind.__name__: kind for kind in Result.__subclasses__()}
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            kind, plain = json.loads(str(file["plain"]))
            fields: dict[str, Any] = {name: file[name] for name in file.files if name != "plain"}
        for part in [name for name in fields if "." in name]:
            name = part.partition(".")[0]
            fields[name] = (*fields.get(name, ()), restore(fields.pop(part).tobytes()))
        result: Result = kinds[kind](**plain, **fields)
    except (KeyError, TypeError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError("These bytes do not hold a result of this version.") from error
    return result
