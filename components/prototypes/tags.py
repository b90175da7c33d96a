"""Tags that people put on samples: shown, given to many at once, taken along as CSV."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

import streamlit as st

from components.access import ask_author, sign
from components.names import current_notes
from components.plain_text import file_name, plain
from components.prototypes.family import Family
from components.telling_errors import tell_error
from explainers.errors import NotesError
from explainers.notes import LONGEST, Notes, Tag
from explainers.tables import write_csv


def notes_of(family: Family) -> Notes:
    """The notes on an index's samples: everybody's, or this session's if model or samples are; raises NotesError."""
    info = family.scene.info
    return current_notes(replace(info, private=info.private or bool(family.index.samples.uploads)))


def read_tags(family: Family) -> Mapping[str, tuple[Tag, ...]]:
    """Read the tags of an index's samples, by digest of those that have any; says so where notes cannot be used."""
    try:
        found = notes_of(family).tags(family.index.table["digest"].tolist())
    except NotesError as error:
        tell_error(error, "warning")
        return {}
    return {sample: tags for sample, tags in found.items() if tags}


def draw_tag_form(notes: Notes, samples: Sequence[str]) -> None:
    """Draw the form that tags samples, by their digests; it begins with the last tag and author."""
    with st.form("tag_form", border=False, clear_on_submit=False):
        tag = st.text_input(
            "Tag", st.session_state.get("last_tag", ""), max_chars=LONGEST, placeholder="such as: band-aid, look again"
        )
        author = ask_author()
        words = f"Tag {len(samples):,} pictures" if len(samples) > 1 else "Tag this picture"
        if st.form_submit_button(words, type="primary", icon=":material/label:"):
            try:
                if not tag.strip():
                    raise NotesError("A tag needs a word. Say what these pictures have in common.")
                notes.tag_samples(samples, tag, sign(author))
            except NotesError as error:
                tell_error(error)
            else:
                st.session_state["last_tag"], st.session_state["author"] = tag, author
                st.rerun()


def draw_tags_of(notes: Notes, tags: Sequence[Tag]) -> None:
    """List the tags of one sample, each with a way to take it off."""
    for note in tags:
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(
                f":material/label: **{plain(note.tag)}** · {plain(note.author)}, {note.date[:10]}", width="content"
            )
            if st.button("Take off", key=f"off-{note.sample}-{note.tag}", type="tertiary", icon=":material/close:"):
                author = st.session_state.get("author") or note.author
                notes.tag_samples([note.sample], note.tag, sign(author), holds=False)
                st.rerun()


def draw_export(family: Family, tags: Mapping[str, tuple[Tag, ...]]) -> None:
    """Say which tags there are, and offer them as CSV."""
    counts = Counter(note.tag for notes in tags.values() for note in notes)
    with st.container(horizontal=True, vertical_alignment="center"):
        known = " · ".join(f"**{plain(tag)}** {number:,}" for tag, number in counts.most_common())
        st.markdown(f":material/label: {known}" if known else ":material/label: No picture is tagged yet.")
        st.download_button(
            "Export tags", lambda: write_tags(family, tags), file_name(family.scene.info.name, "-tags.csv"), "text/csv",
            icon=":material/download:", on_click="ignore", disabled=not counts,
            help="Name of the file, its digest, label, tag, author and date, as CSV.",
        )  # fmt: skip


def write_tags(family: Family, tags: Mapping[str, tuple[Tag, ...]]) -> bytes:
    """Write tags as CSV, a row for each tag of a sample."""
    return write_csv(
        ("name", "digest", "label", "tag", "author", "date"),
        (
            (one.name, one.digest, one.label_name, note.tag, note.author, note.date)
            for one in family.index.table.itertuples()
            for note in tags.get(str(one.digest), ())
        ),
    )
