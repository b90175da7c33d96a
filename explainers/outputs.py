"""What the outputs of a model mean, and which decisions follow from them. Free of torch."""

from __future__ import annotations

from collections.abc import Sequence

from explainers.errors import ModelError

CLASSES, FINDINGS, BINARY, NUMBERS = "classes", "findings", "yes-or-no", "numbers"

#: What outputs may mean, each in words for whom chooses.
KINDS = {
    CLASSES: "One of several classes (softmax)",
    FINDINGS: "Several findings at once (a sigmoid each)",
    BINARY: "Yes or no (one score, two names)",
    NUMBERS: "Numbers (measurements, no per cent)",
}

#: The same for outputs that are maps.
MAPS = {
    CLASSES: "A map of classes (softmax at each place)",
    FINDINGS: "A map of several findings (a sigmoid each)",
    BINARY: "A map of one class (yes or no at each place)",
    NUMBERS: "A map of numbers (such as depth)",
}


def fitting_kinds(shape: Sequence[int]) -> tuple[str, ...]:
    """List what outputs of a shape (count, *places) may mean; none if they are no scores of a picture or its places."""
    if len(shape) not in (1, 3):
        return ()
    return (BINARY, NUMBERS) if shape[0] == 1 else (CLASSES, FINDINGS, NUMBERS)


def guess_kind(shape: Sequence[int], squashing: str) -> tuple[str, str]:
    """Guess what outputs mean from their shape, and from what the file ends in.

    ``squashing`` is "softmax", "log-softmax", "sigmoid", "log-sigmoid" or "". Returns a kind and a sentence that says
    why; ("", sentence) for outputs that cannot be explained yet.
    """
    if not fitting_kinds(shape):
        return "", describe_other(shape)
    if shape[0] == 1:
        if squashing:
            return BINARY, f"The file gives one number and ends in a {squashing}, as for yes or no."
        return BINARY, (
            "The file gives one number, which is most often the score of a yes. If it measures something, choose "
            "Numbers."
        )
    if "sigmoid" in squashing:
        return (
            FINDINGS,
            f"The file ends in a {squashing} for each of its {shape[0]:,} outputs, as for several findings.",
        )
    if "softmax" in squashing:
        return CLASSES, f"The file ends in a {squashing}, as for one of several classes."
    return CLASSES, (
        f"The file does not say what its {shape[0]:,} outputs mean; one of several classes is the commonest. If "
        "several can be true at once, choose Several findings; if they measure something, choose Numbers."
    )


def describe_other(shape: Sequence[int]) -> str:
    """Say what outputs look like that are neither scores nor a map of scores."""
    looks = " x ".join(f"{size:,}" for size in shape) or "no"
    if len(shape) == 2:
        return (
            f"The model gives {looks} numbers for each picture, as detectors of boxes and readers of sequences do; "
            "these are not explained yet. Choose another output if there is one, or upload a classifier or a "
            "segmentation."
        )
    return (
        f"The model gives {looks} numbers for each picture; one score for each class is expected, or a map of them. "
        "Wrap it so that its forward returns these."
    )


def check_kind(kind: str, shape: Sequence[int], usual: Sequence[float] = ()) -> None:
    """Raise ModelError unless outputs of a shape may have this meaning, with so many usual values."""
    fitting = fitting_kinds(shape)
    if not fitting:
        raise ModelError(describe_other(shape))
    if kind not in fitting:
        raise ModelError(
            f"Outputs of the kind '{kind}' were asked for, but the model gives {shape[0]:,} for each picture. Choose "
            f"one of {', '.join(fitting)}."
        )
    if usual and (kind != NUMBERS or len(usual) != shape[0]):
        raise ModelError(
            f"There are {len(usual)} usual values for {shape[0]:,} outputs of the kind '{kind}'. Give one for each "
            "number, or none."
        )


def count_names(kind: str, count: int) -> int:
    """How many names so many outputs of a kind have: a yes-or-no has two."""
    return 2 if kind == BINARY else count


def name_outputs(kind: str, count: int, names: Sequence[str]) -> tuple[str, ...]:
    """Name each output, with made-up names ("class 0") where too few are given; both answers of a yes-or-no."""
    if kind == BINARY:
        known = [*names][:2]
        return tuple(known) if len(known) == 2 else (f"not {known[0]}", known[0]) if known else ("no", "yes")
    word = {FINDINGS: "finding", NUMBERS: "number"}.get(kind, "class")
    return (*names[:count], *(f"{word} {index}" for index in range(len(names), count)))


def name_decisions(kind: str, names: Sequence[str], usual: Sequence[float] = ()) -> tuple[str, ...]:
    """Name each decision that a model can take: of findings, that each is there, then that each is not.

    Of numbers with usual values, that each is more, then that each is less.
    """
    if kind == FINDINGS:
        return (*names, *(f"no {name}" for name in names))
    if kind == NUMBERS and usual:
        return (*(f"{name}, more than usual" for name in names), *(f"{name}, less than usual" for name in names))
    return tuple(names)
