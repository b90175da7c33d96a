"""The decision taken apart by concepts: relevance of all, heatmaps of the shown ones, their reference samples."""

from __future__ import annotations

import streamlit as st

from components.concepts.cards import draw_cards
from components.concepts.overview import draw_overview
from components.concepts.what_if import draw_what_if
from components.drawn_region import current_region
from components.following import called_dialog, finished, follow
from components.names import edit_name
from components.references.index import SLOW, add_index
from components.references.rows import follow_references, look_closer
from components.scene import Scene
from components.session import Workspace
from explainers.concepts.heatmaps import DrawConcepts
from explainers.concepts.layers import list_layers
from explainers.concepts.relevance import RankConcepts
from explainers.regions import Region, shares_of


def asked_region(scene: Scene) -> Region:
    """The region whose concepts are asked for, as shares; () where it is part of the target or means nothing."""
    if scene.info.gives_map or not current_region():
        return ()
    layer = list_layers(scene.model).named(scene.layer)
    if not (layer and layer.spatial):
        st.caption("This layer has no places, so it cannot answer for a region. Choose an earlier one.")
        return ()
    return shares_of(current_region(), scene.info.preprocessing.size)


def draw_decision(scene: Scene, workspace: Workspace, count: int) -> bool:
    """Draw the view of one decision; tells whether it is all there. Raises LightboxError."""
    region = asked_region(scene)
    (job,) = follow("concepts", [(RankConcepts(layer=scene.layer, region=region), scene.case)])
    if not finished([job], "Looking into the layer"):
        return False
    found = job.result()
    concepts = found.top(count)
    (drawing,) = follow("heatmaps", [(DrawConcepts(layer=scene.layer, count=count, region=region), scene.case)])
    if not finished([drawing], "Drawing where each concept is"):
        return False
    heatmaps = drawing.result()
    draw_overview(scene, found, concepts, heatmaps)
    draw_what_if(scene)
    timed = found.provenance["passes"]["forward"] > 0  # not so if the picture's tape was there
    scene = add_index(scene, workspace, found.provenance["seconds"] if timed else SLOW)
    references = follow_references("references", scene, [(scene.layer, concept) for concept in concepts], scene.by)
    draw_cards(scene, found, heatmaps, concepts, references)
    if dialog := called_dialog():
        kind, concept = dialog
        if kind == "name":
            edit_name(scene.info, scene.layer, concept)
        else:
            look_closer(scene, concept, references[scene.layer, concept])
    return True
