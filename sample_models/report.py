"""The figures that the sample models promise, measured anew on what is shipped."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sample_models.evaluation import METHODS, measure_accuracy, share_on_band_aid
from sample_models.trained import ARCHITECTURES, load

#: The models of which one looks at the band-aid and the other must not.
COMPARED = ("lesions-biased", "lesions-clean")


@dataclass(frozen=True)
class Report:
    """Accuracy (of the segmentation: intersection over union) of each model on each of its splits, from 0 to 1.

    ``shares`` tell for each compared model and method how much of what speaks for "benign" lies on the band-aid.
    """

    accuracy: Mapping[str, Mapping[str, float]]
    shares: Mapping[str, Mapping[str, float]]


def measure() -> Report:
    """Measure all models; takes a minute."""
    models = {name: load(name) for name in ARCHITECTURES}
    return Report(
        {name: measure_accuracy(model) for name, model in models.items()},
        {name: {kind: share_on_band_aid(models[name], kind) for kind in METHODS} for name in COMPARED},
    )


def write(report: Report) -> str:
    """Write a report as a table."""
    lines = ["accuracy (segmentation: intersection over union)"]
    for name, figures in report.accuracy.items():
        lines.append(row(name, figures))
        if "moved-test" in figures:
            fall = 100 * (figures["biased-test"] - figures["moved-test"])
            lines[-1] += f"   {fall:5.1f} points lost when the band-aid moves"
    plain, parts = (report.accuracy[name]["biased-test"] for name in ("lesions-biased", "lesions-prototypes"))
    lines += [f"prototypical parts behind the plain network on the biased test: {100 * (plain - parts):.1f} points", ""]
    lines.append('share of what speaks for "benign" that lies on the band-aid')
    return "\n".join([*lines, *(row(name, shares) for name, shares in report.shares.items())])


def row(name: str, figures: Mapping[str, float]) -> str:
    """Write one line of percentages."""
    return f"  {name:22}" + "".join(f"{what:>22} {100 * value:5.1f} %" for what, value in figures.items())
