"""Who was taken for what: the confusion matrix, whose cells open their pictures."""

from __future__ import annotations

import numpy as np
import streamlit as st

from components.failures.charts import Cells, draw_cells
from components.failures.evaluation import Evaluation
from components.failures.opening import FEW, Part, choose_part, draw_part
from explainers.cases.figures import Confusion, confuse
from explainers.cases.filters import Filter

#: Of how many classes the matrix is drawn at most: those with most mistakes.
CLASSES = 16


def draw_matrix(evaluation: Evaluation) -> None:
    """Draw the matrix of the classes, or of a finding, and what was chosen in it."""
    found = confuse(evaluation.outcomes)
    shown = choose_classes(found)
    if len(shown) < len(found.names):
        st.caption(f"The {len(shown)} of {len(found.names):,} classes with most mistakes; the list has all cells.")
    cells = list_cells(found)
    parts = [make_part(evaluation, found, *cell) for cell in cells]
    chart = draw_cells(make_cells(found, shown, cells))
    alt = "Confusion matrix: " + "; ".join(f"{part.words}, {part.count:,}" for part in parts[:12]) + "."
    part = choose_part(chart, parts, "matrix", alt, "Pictures of a cell")
    draw_part(evaluation, part, "matrix", FEW)


def choose_classes(found: Confusion) -> np.ndarray:
    """The classes that are shown, in their order: if there are many, those with most mistakes, then with most cases."""
    wrong = found.counts - np.diag(np.diag(found.counts))
    weight = (wrong.sum(axis=0) + wrong.sum(axis=1)) * len(found.counts) * 10**6 + found.counts.sum(axis=1)
    return np.sort(np.argsort(-weight, kind="stable")[:CLASSES])


def list_cells(found: Confusion) -> list[tuple[int, int]]:
    """List the cells with cases in them, mistakes first, the most frequent first."""
    cells = [(int(true), int(said)) for true, said in np.argwhere(found.counts)]
    return sorted(cells, key=lambda cell: (cell[0] == cell[1], -found.counts[cell]))


def make_part(evaluation: Evaluation, found: Confusion, true: int, said: int) -> Part:
    """What a cell opens."""
    truth, decision = found.names[true], found.names[said]
    words = f"{truth}, rightly called so" if true == said else f"{truth}, called {decision}"
    chosen: Filter = evaluation.base.only("truth", truth).only("decision", decision)
    return Part(words, int(found.counts[true, said]), chosen)


def make_cells(found: Confusion, shown: np.ndarray, cells: list[tuple[int, int]]) -> Cells:
    """Lay out the cells: shaded by their share of their row, mistakes in another colour."""
    counts = found.counts[np.ix_(shown, shown)]
    whole = found.counts[shown].sum(axis=1, keepdims=True)
    shares = counts / np.maximum(whole, 1)
    places = {cell: place for place, cell in enumerate(cells)}
    names = [found.names[place] for place in shown]
    says = [
        [
            f"{counts[row, column]:,} of {int(whole[row, 0]):,} {true} were called {said} ({shares[row, column]:.0%})"
            for column, said in enumerate(names)
        ]
        for row, true in enumerate(names)
    ]
    return Cells(
        names,
        names,
        "True",
        "The model says",
        np.where(np.eye(len(shown), dtype=bool), shares, -shares),
        [[f"{count:,}" if count else "" for count in row] for row in counts],
        says,
        np.array([[places.get((int(true), int(said)), -1) for said in shown] for true in shown]),
    )
