"""Names of concepts: shown everywhere, given by people who sign them, taken along and brought back as CSV."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import streamlit as st

from components.access import ask_author, sign
from components.plain_text import file_name, plain
from components.telling_errors import tell_error
from components.waiting import reading
from explainers.errors import NotesError
from explainers.info import Layer, ModelInfo
from explainers.notes import LONGEST, ConceptName, Notes, shared_notes, write_names
from explainers.opening import open_names

Names = Mapping[tuple[str, int], ConceptName]


def current_notes(info: ModelInfo) -> Notes:
    """The notes about a model: everybody's, or for an uploaded model this session's; raises NotesError."""
    if not info.private:
        return shared_notes()
    if "notes" not in st.session_state:
        st.session_state["notes"] = Notes()
    notes: Notes = st.session_state["notes"]
    return notes


def read_current_names(info: ModelInfo) -> Names:
    """Read the names of a model's concepts; says so if the file of notes was damaged, or cannot be used: no names."""
    try:
        notes = current_notes(info)
        if notes.damage:
            st.warning(plain(notes.damage), icon=":material/warning:")
        return notes.concept_names(info.digest)
    except NotesError as error:
        tell_error(error, "warning")
        return {}


def title_of(names: Names, layer: str, concept: int) -> str:
    """Call a concept by its name, and always by its number."""
    note = names.get((layer, concept))
    return f"{note.name} ({concept})" if note else f"Concept {concept}"


def signature(note: ConceptName) -> str:
    """Say who gave a name and when."""
    return f"{note.author}, {note.date[:10]}"


@st.dialog("Name this concept", icon=":material/edit:", on_dismiss="rerun")
def edit_name(info: ModelInfo, layer: str, concept: int) -> None:
    """Draw the form that names a concept, with all names that it ever had."""
    notes = current_notes(info)
    past = notes.history(info.digest, layer, concept)
    st.caption(f"Concept {concept} of {plain(layer)}. What do its reference samples have in common?")
    with st.form("name_form", border=False):
        name = st.text_input("Name", past[0].name if past else "", max_chars=LONGEST, placeholder="such as: blue disc")
        author = ask_author()
        if st.form_submit_button("Keep", type="primary", icon=":material/check:"):
            try:
                notes.name_concept(info.digest, layer, concept, name, sign(author))
            except NotesError as error:
                tell_error(error)
            else:
                st.session_state["author"] = author
                st.rerun()
    draw_history(past)
    if info.private:
        st.caption("The model is yours alone: its names go when the session ends. Export them to keep them.")


def draw_history(past: Sequence[ConceptName]) -> None:
    """List the names that a concept was ever given, the last one first."""
    for note in past:
        st.caption(f"{plain(note.name) or '(name taken back)'} · {plain(signature(note))}")


def draw_exchange(info: ModelInfo, layers: Sequence[Layer], names: Names) -> None:
    """Offer all names of a model as CSV, and take such a file in."""
    st.download_button(
        "Export names", write_names(list(names.values())), file_name(info.name, "-concepts.csv"), "text/csv",
        icon=":material/download:", on_click="ignore", disabled=not names,
        help="Model, layer, concept, name, author and date, as CSV.",
    )  # fmt: skip
    file = st.file_uploader("Import names", type="csv", key="names_of_concepts", help="A file that was exported here.")
    if file is None or file.file_id == st.session_state.get("imported_names"):
        return
    try:
        with reading("the names", "names", lambda: st.session_state.update(imported_names=file.file_id)):
            found = current_notes(info).import_names(
                info.digest, layers, file.getvalue(), sign(st.session_state.get("author", "")), open_names
            )
    except NotesError as error:
        tell_error(error)
        return
    st.session_state["imported_names"] = file.file_id
    others = f", {found.others} about another model left out" if found.others else ""
    st.toast(f"{found.added} names added, {found.known} known already{others}.", icon=":material/check:")
    st.rerun()
