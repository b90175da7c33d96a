"""The cases that a person goes through: each with its verdict, tagged by one key, taken along as a list."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import streamlit as st

from components.access import sign
from components.following import call_dialog, called_dialog
from components.names import current_notes
from components.plain_text import file_name, plain
from components.prototypes.family import Family
from components.prototypes.tags import draw_tag_form, draw_tags_of
from components.telling_errors import tell_error
from explainers.errors import NotesError
from explainers.notes import Notes, Tag
from explainers.prototypes.decisions import Decision
from explainers.tables import write_csv

#: The keys that tag the case, and that take the list along.
TAG_KEY, EXPORT_KEY = "T", "E"

#: Puts the cursor into the field of a dialog, as soon as it has loaded: Streamlit puts it on the dialog itself.
FOCUS = """<script>
(function focus(tries) {
    const field = document.querySelector('[role="dialog"] input');
    field?.focus();
    if (tries && !(field && document.activeElement === field)) setTimeout(focus, 50, tries - 1);
})(40);
</script>"""


@dataclass(frozen=True)
class Case:
    """A case that was seen: the picture by name and digest, its label, the class that it was judged for, the verdict.

    ``percentile`` is how many of 100 cases of that class are less typical.
    """

    name: str
    digest: str
    label: str
    klass: str
    verdict: str
    percentile: float


def draw_review(family: Family, decision: Decision) -> None:
    """Draw the tags of this case, the key that tags it, and the list of all that were seen; raises NotesError."""
    cases, notes = list_cases(family, decision), notes_of_picture(family)
    case, tags = cases[family.scene.picture.digest], notes.tags(list(cases))
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        _draw_tag_button(notes, case, tags[case.digest])
        st.download_button(
            "Export list", lambda: write_cases(list(cases.values()), tags),
            file_name(family.scene.info.name, "-cases.csv"), "text/csv",
            icon=":material/download:", on_click="ignore", shortcut=EXPORT_KEY,
            help="The cases that you have seen, with verdicts and tags, as CSV.",
        )  # fmt: skip
    draw_tags_of(notes, tags[case.digest])
    st.caption(tell_cases(list(cases.values()), tags))
    if dialog := called_dialog():
        draw_tag_dialog(notes, dialog[1])


def list_cases(family: Family, decision: Decision) -> Mapping[str, Case]:
    """Add this case to those that the session has seen by the same model, uploads apart; returns them by digest."""
    scene = family.scene
    picture = scene.picture
    seen: dict[Any, dict[str, Case]] = st.session_state.setdefault("cases", {})
    cases = seen.setdefault((scene.info.digest, picture.private), {})
    cases[picture.digest] = Case(
        picture.name,
        picture.digest,
        picture.label or "",
        family.name(decision.klass),
        decision.verdict,
        decision.percentile,
    )
    return cases


def notes_of_picture(family: Family) -> Notes:
    """The notes on the pictures of the strip: everybody's, or this session's if model or picture are its own."""
    info = family.scene.info
    return current_notes(replace(info, private=info.private or family.scene.picture.private))


def _draw_tag_button(notes: Notes, case: Case, tags: Sequence[Tag]) -> None:
    """Draw the button that tags the case as the last one was, or takes that off; the first time it asks how."""
    word, author = st.session_state.get("last_tag", ""), sign(st.session_state.get("author", ""))
    icon = ":material/label:"
    if not (word and author):
        st.button(
            "Tag this case",
            icon=icon,
            key="tag_case",
            shortcut=TAG_KEY,
            type="primary",
            on_click=call_dialog,
            args=("tag", case),
        )
        return
    on = any(note.tag == word for note in tags)
    st.button(
        f"{'Take off' if on else 'Tag'} “{plain(word)}”",
        icon=icon,
        key="tag_case",
        shortcut=TAG_KEY,
        type="secondary" if on else "primary",
        on_click=_tag,
        args=(notes, case, word, author, not on),
    )
    st.button(
        "Other tag", icon=":material/edit:", key="other_tag", shortcut="O", on_click=call_dialog, args=("tag", case)
    )


def _tag(notes: Notes, case: Case, word: str, author: str, holds: bool) -> None:
    """Tag a case, or take the tag off, in a callback: the next press may end the page's run before it is drawn."""
    try:
        notes.tag_samples([case.digest], word, sign(author), holds=holds)
    except NotesError as error:
        tell_error(error)


@st.dialog("Tag this case", icon=":material/label:", on_dismiss="rerun")
def draw_tag_dialog(notes: Notes, case: Case) -> None:
    """Draw the form that tags a case."""
    st.caption(f"{plain(case.name)}. The next case takes the same tag by a press of **{TAG_KEY}**.")
    draw_tag_form(notes, [case.digest])
    st.html(FOCUS, unsafe_allow_javascript=True)


def tell_cases(cases: Sequence[Case], tags: Mapping[str, Sequence[Tag]]) -> str:
    """Count the cases that were seen, by verdict, and those with a tag."""
    counts = Counter(case.verdict for case in cases)
    verdicts = ", ".join(f"{number:,} {plain(verdict)}" for verdict, number in counts.most_common())
    tagged = sum(bool(tags[case.digest]) for case in cases)
    return f"Seen so far: {len(cases):,} case{'s' * (len(cases) > 1)} ({verdicts}), {tagged:,} tagged."


def write_cases(cases: Sequence[Case], tags: Mapping[str, Sequence[Tag]]) -> bytes:
    """Write cases as CSV, a row for each, with its tags and who gave them."""
    return write_csv(
        ("name", "digest", "label", "judged as", "verdict", "less typical of 100", "tags", "tagged by"),
        (
            (
                case.name,
                case.digest,
                case.label,
                case.klass,
                case.verdict,
                f"{case.percentile:.1f}",
                "; ".join(note.tag for note in tags[case.digest]),
                "; ".join(dict.fromkeys(note.author for note in tags[case.digest])),
            )
            for case in cases
        ),
    )
