"""What a question is asked about: a model, a picture as a model sees it, one decision. Free of torch.

Subjects of an index are in ``explainers.index.subjects``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, TypeVar

from jaxtyping import Float

from explainers.images import Picture
from explainers.info import ModelInfo
from explainers.targets import Target

if TYPE_CHECKING:
    from torch import Tensor

    from explainers.graph.model import Model

S = TypeVar("S", bound="Subject")


class Subject(ABC):
    """What a question is asked about; a frozen dataclass."""

    @property
    @abstractmethod
    def identity(self) -> tuple[Any, ...]:
        """All that an answer depends on besides the question, as JSON values."""

    @property
    @abstractmethod
    def uploads(self) -> tuple[str, ...]:
        """The digests of what people uploaded and an answer tells something of; () lets the answer reach the disk."""

    @property
    @abstractmethod
    def description(self) -> dict[str, Any]:
        """What the answer's provenance says of it, but for names: equal things of other names share an answer."""

    @property
    def names(self) -> dict[str, Any]:
        """What who asks calls it, for the provenance of the answer that is given to them."""
        return {}

    @property
    def class_names(self) -> tuple[str, ...]:
        """What the model's classes are called; () if it is not about a model."""
        return ()

    def narrow(self, kind: type[S]) -> S:
        """Leave out what a question about another kind of subject does not depend on."""
        if type(self) is kind:
            return self
        return kind(**{field.name: getattr(self, field.name) for field in fields(kind)})  # type: ignore[arg-type]


@dataclass(frozen=True)
class Network(Subject):
    """A model."""

    model: Model

    @property
    def info(self) -> ModelInfo:
        """What is known about the model."""
        return self.model.info

    @property
    def class_names(self) -> tuple[str, ...]:
        """What the model's classes are called."""
        return self.info.class_names

    @property
    def identity(self) -> tuple[Any, ...]:
        """The model's digest, whether it is one of the server's, and how it sees pictures.

        What an upload's digest is, the process says that opened it: nothing of it is taken for one of the server's.
        """
        return self.info.digest, self.info.private, vars(self.info.preprocessing)

    @property
    def uploads(self) -> tuple[str, ...]:
        """The model's digest if somebody uploaded it."""
        return (self.info.digest,) * self.info.private

    @property
    def description(self) -> dict[str, Any]:
        """The model by its digests."""
        return {
            "model_digest": self.info.digest,
            "weights_digest": self.info.weights_digest,
            "preprocessing": vars(self.info.preprocessing),
        }

    @property
    def names(self) -> dict[str, Any]:
        """The model's name."""
        return {"model": self.info.name}


@dataclass(frozen=True)
class Input(Network):
    """A picture as the input of a model."""

    picture: Picture

    @property
    def identity(self) -> tuple[Any, ...]:
        """Model and picture by what is in them, not by their names."""
        return *super().identity, self.picture.digest

    @property
    def uploads(self) -> tuple[str, ...]:
        """Of model and picture, those that somebody uploaded."""
        return *super().uploads, *(self.picture.digest,) * self.picture.private

    @property
    def description(self) -> dict[str, Any]:
        """Model and picture."""
        return {**super().description, "picture_digest": self.picture.digest}

    def tensor(self) -> Float[Tensor, "1 channel height width"]:
        """What the model sees of the picture, as a batch of one."""
        return to_tensor(self.info, self.picture)


@dataclass(frozen=True)
class Case(Input):
    """One decision: a picture as the input of a model, and the output to explain."""

    target: Target

    @property
    def identity(self) -> tuple[Any, ...]:
        """Model, picture and target."""
        return *super().identity, vars(self.target)

    @property
    def description(self) -> dict[str, Any]:
        """Model, picture and target."""
        return {**super().description, "target": vars(self.target)}


def to_tensor(info: ModelInfo, picture: Picture) -> Float[Tensor, "1 channel height width"]:
    """What a model sees of a picture, as a batch of one."""
    import torch

    unnamed = replace(picture, name="the picture")  # others who wait for the same may know it under another name
    return torch.from_numpy(info.preprocessing.prepare(unnamed))[None]
