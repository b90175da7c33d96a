"""Which decision a label means. Free of torch."""

from __future__ import annotations

import re

from explainers.info import ModelInfo
from explainers.outputs import FINDINGS, NUMBERS

#: Labels that say that none of the findings is there.
NOTHING = ("", "no finding", "none", "normal", "healthy", "negative")


def match_label(label: str | None, info: ModelInfo, decision: int) -> int:
    """Find the true decision in the place of one that was taken; -1 if the label does not tell.

    A label means a class by name, whatever its case, else by index. Of several findings it names those that are there,
    with "|", ";" or "," between them; what it does not name is not there.
    """
    if label is None or info.kind == NUMBERS:
        return -1
    if info.kind != FINDINGS:
        return match_class(label, info)
    named = {match_class(part.strip(), info) for part in re.split(r"[|;,]", label)}
    if -1 in named and label.casefold().strip() not in NOTHING:
        return -1
    output = info.output_of(decision)
    return output if output in named else output + len(info.class_names)


def match_class(label: str, info: ModelInfo) -> int:
    """Find a class by its name, whatever the case, else by its index; -1 if there is none."""
    names = [name.casefold() for name in info.class_names]
    if label.casefold() in names:
        return names.index(label.casefold())
    return int(label) if label.isdecimal() and int(label) < len(names) else -1
