"""The strategies of a class, one to a row: typical samples, and the concepts that make it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import streamlit as st
from jaxtyping import Float

from components.prototypes.family import TYPICAL, Family
from components.prototypes.pictures import make_samples
from components.references.rows import Concept, Reference, draw_until_done, follow_references, make_tiles
from components.tiles import Tile, draw_tiles
from explainers.prototypes.strategies import Prototype

#: How many concepts of each kind are shown.
CONCEPTS = 4


def draw_strategies(family: Family) -> None:
    """Draw every strategy of the explained class."""
    prototypes, name = family.prototypes[family.klass], family.call(family.klass)
    ways = "one way" if len(prototypes) == 1 else f"{len(prototypes)} ways"
    st.markdown(f"## The model decides for {name} in {ways}")
    st.caption(
        f"Found in {int(family.own.learnt.sum()):,} {name} cases that it decides rightly, by what it uses in each: the "
        f"relevance of the {family.own.means.shape[1]:,} concepts of this layer."
    )
    concepts = sorted({concept for prototype in prototypes for concept in shown_concepts(prototype)})
    layer = family.scene.layer
    references = follow_references(
        "strategies' concepts", family.scene, [(layer, concept) for concept in concepts], family.scene.by, 1
    )
    draw_until_done(references, partial(_draw_rows, family, prototypes, references))


def shown_concepts(prototype: Prototype) -> list[int]:
    """The characteristic and the distinctive concepts of a strategy."""
    return [*prototype.characteristic_concepts(CONCEPTS), *prototype.distinctive_concepts(CONCEPTS)]


def _draw_rows(
    family: Family, prototypes: Sequence[Prototype], references: Mapping[Concept, Sequence[Reference]]
) -> None:
    for number, prototype in enumerate(prototypes):
        with st.container(border=True, gap="small", key=f"strategy-{number + 1}"):
            cases = int((family.owners[family.own.rows] == number).sum())
            st.markdown(
                f"**Strategy {number + 1}** · {prototype.share:.0%} of the cases · {cases:,} pictures, "
                "most typical first"
            )
            draw_tiles(None, make_samples(family, prototype.rows.tolist()), TYPICAL)
            used, unlike = st.columns(2, gap="medium")
            with used:
                st.caption("**What it uses**: share of all relevance")
                _draw_concepts(family, prototype.characteristic_concepts(CONCEPTS), prototype.mean, references)
            with unlike:
                if len(prototypes) > 1:
                    st.caption("**What sets it apart** from the class's other strategies, in points")
                    _draw_concepts(
                        family, prototype.distinctive_concepts(CONCEPTS), prototype.contrast, references, "points"
                    )


def _draw_concepts(
    family: Family,
    concepts: Sequence[int],
    values: Float[np.ndarray, " concept"],
    references: Mapping[Concept, Sequence[Reference]],
    unit: str = "",
) -> None:
    """Draw concepts as tiles: a reference sample, the name, and a value."""
    tiles = []
    for concept in concepts:
        value = f"{100 * values[concept]:+.1f}" if unit else f"{values[concept]:+.1%}"
        place = (family.scene.layer, concept)
        found = make_tiles(family.scene, *place, references[place])
        title = family.scene.title(concept)
        address, says = (found[0].address, f" {found[0].says}") if found else ("", "")
        tiles.append(Tile(address, f"{title} {value}", f"{title}: {value} {unit}.{says}"))
    draw_tiles(None, tiles, CONCEPTS)
