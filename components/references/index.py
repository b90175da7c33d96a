"""The index of reference pictures as the page sees it: none, being built, stopped, or there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import streamlit as st

import sample_models
from components.belongings import private_folder, use
from components.following import begin_anew, stop_ticking, wait
from components.plain_text import plain
from components.scene import Scene, indexed_layers
from components.session import Workspace
from components.telling_errors import tell_error
from explainers.cache import Job
from explainers.errors import CancelledError, LightboxError, SelectionError
from explainers.images import Picture, Sample, Samples
from explainers.index import Index, Upload, open_index
from explainers.index.building import Built, find_store, start
from explainers.index.store import read_manifest
from explainers.settings import settings

#: How many pictures of a large set are taken.
LIMIT = 5000

#: What one picture may take in seconds, as long as none was timed.
SLOW = 0.5


@dataclass(frozen=True)
class References:
    """A set of reference pictures, and the folder of the index of it."""

    samples: Sequence[Sample]
    store: Path

    @property
    def uploads(self) -> list[Upload]:
        """Those pictures that this session brought."""
        return [sample for sample in self.samples if isinstance(sample, Upload)]

    def open(self) -> Index | None:
        """Open the index as it is at this moment; None as long as there is none that can be read."""
        try:
            return open_index(self.store, self.uploads, anywhere=False)
        except SelectionError:
            return None

    @property
    def trouble(self) -> str:
        """Why an index that is there cannot be read, "" where there is none or it can."""
        try:
            read_manifest(self.store)
        except SelectionError as error:
            return str(error)
        return ""


def find_references(workspace: Workspace, layers: Sequence[str]) -> References:
    """Choose the reference pictures that go with those in the strip; raises SelectionError.

    Of uploads, and for an uploaded model, the index lies in a folder of the session's own, in memory where possible.
    """
    name, samples = reference_set(workspace.pictures)
    store = find_store(workspace.model, layers, name)
    if workspace.model.info.private or any(isinstance(sample, Upload) for sample in samples):
        store = private_folder() / store.name
    return References(samples, store)


def reference_set(pictures: Sequence[Sample | Picture]) -> tuple[str, Sequence[Sample]]:
    """Name and list the set behind a strip: a sample model's own reference pictures, or the pictures themselves.

    The server's folder is named by its place, not by what is in it, so that new pictures join its index.
    """
    for model in sample_models.models().values():
        if pictures is model.pictures:
            return model.name, model.references
        if pictures is model.tests and model.tests:
            return f"tests of {model.name}", model.tests
    samples = [
        Upload(entry.name, label=entry.label, picture=entry) if isinstance(entry, Picture) else entry
        for entry in pictures[:LIMIT]
    ]
    if isinstance(pictures, Samples):
        return str(settings().data), samples
    return "\n".join(one.picture.digest if isinstance(one, Upload) else one.name for one in samples), samples


def add_index(scene: Scene, workspace: Workspace, seconds: float = SLOW) -> Scene:
    """Draw the state of the index; returns the scene with as much of it as there is.

    ``seconds`` is what this picture took; the least so far says how long a build will take.
    """
    try:
        layers = indexed_layers(scene.model, scene.layer)
        paces: dict[str, float] = st.session_state.setdefault("paces", {})
        pace = paces[scene.info.digest] = min(seconds, paces.get(scene.info.digest, seconds))
        index = draw_index(scene.model, layers, find_references(workspace, layers), pace)
    except SelectionError as error:
        st.info(f"No reference samples for this layer: {plain(str(error))}", icon=":material/info:")
        return scene
    return replace(scene, index=index)


def draw_index(model: Any, layers: Sequence[str], references: References, seconds: float) -> Index | None:
    """Draw what there is of the index and what to do; returns it, as far as it is there."""
    builds: dict[Path, Job[Built]] = st.session_state.setdefault("builds", {})
    job = builds.get(references.store)
    building = job is not None and not wait([job])
    index = references.open()  # after the wait, for a short build ends in it
    rows, whole = index.pictures if index else 0, len(references.samples)
    if job and building:
        with st.empty().container():  # the offer goes at once
            st.fragment(_draw_progress, run_every=1.0)(job, references, rows)
        return index
    built = _draw_end(job) if job else None
    if rows < whole and not built:
        _offer(model, layers, references, builds, rows, seconds)
    notes = index.notes if index else [references.trouble] if references.trouble else []
    for sentence in (*notes, *(built.notes if built else ()), *(built.unreadable[:3] if built else ())):
        st.caption(plain(sentence))
    return index


def _draw_progress(job: Job[Built], references: References, rows: int) -> None:
    """Show how far a build is; the page begins anew when it is done or has twice as much to show."""
    use()
    done = job.done  # once, for a build that ends between two looks would end the ticking and leave the bar
    if done or len(references.open() or ()) > 2 * rows:
        begin_anew()
    if done:  # under a dialog, which begins the page anew when it closes
        stop_ticking()
    steps = job.steps
    rate = f" · {steps.rate:.1f} images per second" if steps.rate else ""
    left = "" if steps.seconds_left is None else f" · {say_seconds(steps.seconds_left)} left"
    bar, stop = st.columns([6, 1], vertical_alignment="bottom")
    bar.progress(
        job.progress, f"Building the index: {steps.done:,} of {len(references.samples):,} pictures{rate}{left}"
    )
    stop.button("Cancel", icon=":material/stop:", key="cancel_build", on_click=job.cancel)


def _draw_end(job: Job[Built]) -> Built | None:
    """Give what a build did, or say why it did not end well."""
    try:
        return job.result()
    except CancelledError:
        st.caption("The build was stopped. What was done is kept.")
    except LightboxError as error:
        tell_error(error)
    return None


def _offer(
    model: Any,
    layers: Sequence[str],
    references: References,
    builds: dict[Path, Job[Built]],
    rows: int,
    seconds: float,
) -> None:
    """Offer to build the index, or to go on with it."""
    missing = len(references.samples) - rows
    with st.container(border=True, horizontal=True, vertical_alignment="center"):
        if rows:
            st.markdown(f"The index holds {rows:,} of {len(references.samples):,} reference pictures.", width="content")
        else:
            st.markdown(
                "**The model has not looked at the reference pictures yet.** They show what a concept stands for, and "
                "which decisions are usual. It looks at each once; then all that comes at a click.",
                width=520,
            )
        words = (
            f"{'Go on with' if rows else 'Build'} the index ({missing:,} pictures, {say_seconds(missing * seconds)})"
        )
        if st.button(words, type="primary", icon=":material/database:", key="build_index"):
            builds[references.store] = start(model, references.samples, references.store, layers)
            st.rerun()


def say_seconds(seconds: float) -> str:
    """Say a time as a person would."""
    if seconds < 50:
        return f"about {max(5, 5 * round(seconds / 5))} s"
    minutes = max(1, round(seconds / 60))
    return f"about {minutes} minute{'s' * (minutes > 1)}"
