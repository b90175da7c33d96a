"""What can be asked: every question is a frozen dataclass that describes itself, found by its file. Free of torch."""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar, Generic, Self, TypeVar

from explainers.errors import SelectionError
from explainers.info import ModelInfo
from explainers.jobs import Progress
from explainers.parameters import Parameter
from explainers.results import Result, descendants
from explainers.subjects import Subject

A = TypeVar("A", bound=Subject)
R = TypeVar("R", bound=Result)

#: Where questions are found: files, and folders all of whose files are imported. None of them imports torch.
FAMILIES = ("predictions", "attribution", "concepts", "prototypes", "cases")


@dataclass(frozen=True)
class Question(ABC, Generic[A, R]):
    """A question; its fields are its parameters (see ``explainers.parameters.parameter``).

    Values of another type than its parameter's are read as a form's or a command line's would be.

    To add one, put a file with a subclass and its result into a folder of FAMILIES: the cache's key, the command line,
    the form on the page, its row in ``python -m explainers questions`` and the conformance tests follow from the class.
    ``name`` is its name on the command line, ``summary`` what it asks in a sentence, ``citation`` its source, and
    ``subject`` what it is asked about. ``durable`` lets answers reach the disk, unless they tell something of an
    upload; ``instant`` answers in the thread that asks, for what takes no pass of a network and no time.
    ``reads_labels`` tells that the answer depends on what classes are called; no other may, nor on a model's name.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    summary: ClassVar[str]
    citation: ClassVar[str]
    subject: ClassVar[type[Subject]]
    durable: ClassVar[bool] = True
    instant: ClassVar[bool] = False
    reads_labels: ClassVar[bool] = False

    def __post_init__(self) -> None:
        for parameter in self.parameters():
            object.__setattr__(self, parameter.name, parameter.read(getattr(self, parameter.name)))

    @abstractmethod
    def answer(self, about: A, progress: Progress) -> R:
        """Answer; ``progress(done, total)`` is told on the way, and may raise to stop it. Raises LightboxError.

        What torch is needed for is imported here. Other questions may be asked on the way. What the result's
        ``provenance`` should say besides the parameters goes into it; ``ask`` adds the rest.
        """

    @classmethod
    def unsuitable(cls, info: ModelInfo) -> str | None:
        """Say in a sentence why the question cannot be asked of this model; None if it can."""
        return None

    @classmethod
    @cache
    def parameters(cls) -> tuple[Parameter, ...]:
        """Describe the parameters for forms, links and the command line."""
        return tuple(
            Parameter(name=field.name, default=field.default, **field.metadata) for field in dataclasses.fields(cls)
        )

    @classmethod
    def make(cls, given: Mapping[str, Any]) -> Self:
        """Make a question of parameters by name, as forms, links and the command line give them; SelectionError."""
        known = {parameter.name: parameter for parameter in cls.parameters()}
        for name in given:
            if name not in known:
                raise SelectionError(f"{cls.name} has no parameter '{name}'; it has {', '.join(known) or 'none'}.")
        return cls(**{name: known[name].check(value) for name, value in given.items()})


@cache
def questions(family: str = "") -> Mapping[str, type[Question[Any, Any]]]:
    """Find every question, or those of one of FAMILIES, by name."""
    for place in [family] if family else FAMILIES:
        module = importlib.import_module(f"explainers.{place}")
        for file in pkgutil.iter_modules(getattr(module, "__path__", ())):
            importlib.import_module(f"{module.__name__}.{file.name}")
    root: type[Any] = Question
    kinds = [kind for kind in descendants(root) if kind.__module__.startswith(f"explainers.{family}")]
    return dict(sorted((kind.name, kind) for kind in kinds if "name" in vars(kind)))


def refuse_other_outputs(title: str, info: ModelInfo) -> str | None:
    """Say in a sentence if a model gives neither a score for each class nor a map of them; None if it does."""
    if len(info.output_shape) in (1, 3):
        return None
    return f"{title} explains one score for each class, or a map of them; this model returns another shape."
