"""Ways to the picture that a person looks for: a box to jump to it, and a filter of those in the strip."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from math import inf
from typing import Any

import streamlit as st

from components.asking import draw_asking, offer_asking
from components.cases import PREDICTED, Known, current_knowledge
from components.navigation import BESIDE
from components.plain_text import plain
from components.session import SAMPLES, TESTS, Workspace, say_in_link, went_back
from components.sharing import may_be_in_links
from explainers.cases.filters import LONGEST, Filter, title_of_column
from explainers.labels import fold

#: How many values of a column are offered; others can be typed.
OFFERED = 100

#: What the filter says where it needs what the model was not asked yet.
UNASKED = "Known once the model was asked about all pictures: the button below does that."

#: Puts the cursor into the box at the press of a slash, but not while somebody types.
SLASH = """<script>
if (!window.lightboxSlash) {
  window.lightboxSlash = true;
  document.addEventListener("keydown", (event) => {
    const box = document.querySelector(".st-key-jump_to input");
    if (event.key !== "/" || !box || event.target.matches?.("input, textarea, [contenteditable]")) return;
    event.preventDefault();
    box.select();
  });
}
</script>"""


STYLE = """<style>
.st-key-finding {row-gap: 0;}
.st-key-find {flex-wrap: nowrap;}
.st-key-find > :has(.stHtml) {position: absolute;}
.st-key-finding > :has(> .st-key-shown) {flex: 1 1 400px;}
.st-key-shown {flex-wrap: nowrap;}
.st-key-shown > :first-child {flex: 0 1 auto; max-width: calc(100% - 7rem);}
.st-key-jump_button {display: none;}
</style>"""


def filter_workspace(workspace: Workspace) -> Workspace:
    """Let only the pictures into the strip that the filter lets through, in its order.

    The filter is another page's, else the link's where that is new, else the session's as long as pictures come from
    the same place.
    """
    state, source = st.session_state, st.session_state.get("source", SAMPLES)
    place = (source, workspace.model.info.name if source in (SAMPLES, TESTS) else "")
    public = not workspace.dataset.private and may_be_in_links(workspace.model.info)
    if public and ("filter" not in state or went_back()):
        state["filter"] = Filter.read(st.query_params.get("cases", ""))
    elif place != state.get("filtered_place"):
        state["filter"] = Filter()
    state["filter"], state["filtered_place"] = state.pop("next_filter", None) or state["filter"], place
    written = current_filter().write()
    say_in_link("cases", written if public and len(written) <= LONGEST else "")
    return replace(workspace, rows=_apply(workspace)) if written else workspace


def current_filter() -> Filter:
    """The filter of this session."""
    chosen: Filter = st.session_state.get("filter", Filter())
    return chosen


def _apply(workspace: Workspace) -> Sequence[int]:
    """Find the rows that meet the filter, once for the same table."""
    known = current_knowledge(workspace)
    fitting, _ = current_filter().fit(("name", *known.columns))
    filtered: dict[tuple[Known, Filter], Sequence[int]] = st.session_state.setdefault("filtered", {})
    if (known, fitting) not in filtered:
        filtered.clear()
        filtered[known, fitting] = fitting.apply(known.table).tolist()
    return filtered[known, fitting]


@contextmanager
def finding(workspace: Workspace) -> Iterator[None]:
    """Draw a strip, and above it the ways to find a picture; what the filter lets through is said behind it."""
    st.html(STYLE)
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key="finding"):
        yield
        _draw_finding(workspace)
        _draw_shown(workspace)


def draw_none(workspace: Workspace) -> None:
    """Draw what stands in the place of a strip in which there is nothing: all is filtered out."""
    with finding(workspace):
        pass
    st.info("No picture meets all of this. Ask for less in *Filter*, or show all.", icon=":material/filter_alt_off:")


def _draw_finding(workspace: Workspace) -> None:
    """Draw the box to jump to a picture, and the filter, at the end of the row of pages: the strip needs its width."""
    with (
        st.session_state[BESIDE],
        st.container(horizontal=True, vertical_alignment="center", gap="small", width="content", key="find"),
    ):
        with st.form("jump", border=False, width=150):
            st.text_input(
                "Go to picture", key="jump_to", placeholder="Number or name", label_visibility="collapsed",
                icon=":material/search:",
            )  # fmt: skip
            st.form_submit_button("Go to picture", key="jump_button", on_click=_jump, args=(workspace,))
        active = bool(current_filter().write())
        with st.popover(
            "Filter", icon=":material/filter_alt:", key="filter_button", type="primary" if active else "secondary",
            help="Show only some of the pictures, or in another order.",
        ):  # fmt: skip
            _draw_filter(workspace)
        st.html(SLASH, unsafe_allow_javascript=True)


def _draw_shown(workspace: Workspace) -> None:
    """Say which pictures the filter lets through, with a way to show all."""
    if absent := st.session_state.pop("not_found", ""):
        st.toast(f"None of the {len(workspace.rows):,} pictures here is called “{plain(absent)}”.")
    draw_asking(workspace)
    chosen = current_filter()
    if not chosen.write():
        return
    fitting, told = chosen.fit(("name", *current_knowledge(workspace).columns))
    sentence = fitting.sentence(len(workspace.rows), len(workspace.pictures))
    with st.container(horizontal=True, vertical_alignment="center", gap="small", width=400, key="shown"):
        st.markdown(f":material/filter_alt: {plain(sentence)}.", width="content")
        st.button("Show all", key="show_all", type="tertiary", icon=":material/close:", on_click=_set, args=(Filter(),))
    if told:
        st.caption(plain(told))
    if set(chosen.columns) & {*PREDICTED, "tags"}:
        offer_asking(workspace, "ask_for_filter")


def find_next(names: Sequence[str], text: str, place: int) -> int | None:
    """Find a picture of a list by its number from 1, else the next one behind ``place`` whose name has all words."""
    if text.isdecimal() and len(text) < 9 and 1 <= int(text) <= len(names) and int(text) - 1 != place:
        return int(text) - 1
    words = fold(text).split()
    behind = [*range(place + 1, len(names)), *range(place + 1)]
    return next((other for other in behind if all(word in fold(names[other]) for word in words)), None)


def _jump(workspace: Workspace) -> None:
    """Go to the picture that was asked for, or note that there is none."""
    state, rows = st.session_state, workspace.rows
    text = state["jump_to"].strip()
    place = rows.index(state["picture"]) if state.get("picture") in rows else 0
    found = find_next([entry.name for entry in workspace.shown], text, place) if text else place
    if found is None:
        state["not_found"] = text
    elif rows:
        state["picture"] = rows[found]


def _set(chosen: Filter) -> None:
    st.session_state["filter"] = chosen


def _hold(key: str, value: Any) -> str:
    """Have a widget show what the filter says, wherever that was set; returns the widget's key."""
    if st.session_state.get(key) != value:
        st.session_state[key] = value
    return key


def _draw_filter(workspace: Workspace) -> None:
    """Draw the controls of the filter."""
    known, chosen = current_knowledge(workspace), current_filter()
    st.text_input(
        "Name has", key=_hold("filter_text", chosen.text), on_change=_take_text, placeholder="All of these words"
    )
    left, right = st.columns(2)
    with left:
        _draw_values(known, "label", "Label")
        _draw_values(known, "decision", "Prediction")
    with right:
        _draw_values(known, "tags", "Tag")
        _draw_right(known)
    _draw_confidence(known)
    _draw_metadata(known)
    _draw_sort(known)
    offer_asking(workspace, "ask_about_all")


def _draw_values(known: Known, column: str, title: str) -> None:
    """Draw the picker of values of a column, with how many cases have each."""
    there = column in known.columns
    counts = known.count(column) if there else {}
    picked = list(dict(current_filter().chosen).get(column, ())) if there else []
    offered = sorted(counts, key=counts.__getitem__, reverse=True)[:OFFERED]
    options = [value for value in counts if value in offered or value in picked]
    key = _hold(f"filter_{column}", picked)
    st.multiselect(
        title, [*options, *(value for value in picked if value not in options)], key=key, placeholder="Any",
        format_func=lambda value: f"{value or 'unknown'} ({counts.get(value, 0):,})", disabled=not there,
        accept_new_options=len(counts) > OFFERED, on_change=_take_values, args=(column, key), help=_say_why(there),
    )  # fmt: skip


def _say_why(there: bool) -> str | None:
    return None if there else UNASKED


def _draw_right(known: Known) -> None:
    there = "right" in known.columns
    picked = list(dict(current_filter().chosen).get("right", ())) if there else []
    st.pills(
        "Right or wrong", ["yes", "no", ""], selection_mode="multi", key=_hold("filter_right", picked),
        format_func={"yes": "right", "no": "wrong", "": "unknown"}.__getitem__, disabled=not there,
        on_change=_take_values, args=("right", "filter_right"), help=_say_why(there),
    )  # fmt: skip


def _draw_confidence(known: Known) -> None:
    there = "confidence" in known.columns
    low, high = _range_of("confidence") if there else (-inf, inf)
    ends = (round(100 * max(low, 0)), round(100 * min(high, 1)))
    st.slider(
        "Confidence (%)", 0, 100, key=_hold("filter_confidence", ends), disabled=not there, on_change=_take_confidence,
        help=_say_why(there),
    )  # fmt: skip


def _draw_metadata(known: Known) -> None:
    """Draw a picker for each column of metadata that the filter asks about, and one to ask about another."""
    columns = known.metadata
    if not columns:
        return
    asked = [*current_filter().columns, *st.session_state.get("filter_columns", [])]
    for column in columns:
        if column in asked or len(columns) <= 2:
            draw = _draw_range if known.is_range(column) else _draw_values
            draw(known, column, plain(title_of_column(column)))
    others = [column for column in columns if column not in asked and len(columns) > 2]
    if others:
        st.selectbox(
            "More", others, None, key=_hold("filter_more", None), format_func=title_of_column, on_change=_take_column,
            placeholder="Choose by another column", label_visibility="collapsed",
        )  # fmt: skip


def _draw_range(known: Known, column: str, title: str) -> None:
    low, high = _range_of(column)
    numbers = known.table[column]
    ends = (("from", low, numbers.min()), ("to", high, numbers.max()))
    for place, (word, end, farthest) in zip(st.columns(2), ends, strict=True):
        key = _hold(f"filter_{column}_{word}", None if abs(end) == inf else end)
        place.number_input(
            f"{title}, {word}", value=None, key=key, format="%g", placeholder=f"{farthest:g}", on_change=_take_range,
            args=(column,),
        )  # fmt: skip


def _range_of(column: str) -> tuple[float, float]:
    return next(((low, high) for name, low, high in current_filter().ranges if name == column), (-inf, inf))


def _draw_sort(known: Known) -> None:
    columns = ["", "name", *(column for column in known.columns if column not in ("name", "truth"))]
    chosen = current_filter()
    left, right = st.columns([3, 2], vertical_alignment="bottom")
    left.selectbox(
        "Order", columns, key=_hold("filter_sort", chosen.sort if chosen.sort in columns else ""),
        format_func=lambda column: f"by {title_of_column(column)}" if column else "as they come", on_change=_take_order,
    )  # fmt: skip
    right.toggle(
        "Last first", key=_hold("filter_down", chosen.descending), on_change=_take_order, disabled=not chosen.sort
    )


def _take_text() -> None:
    _set(replace(current_filter(), text=st.session_state["filter_text"]))


def _take_values(column: str, key: str) -> None:
    _set(current_filter().only(column, *st.session_state[key]))


def _take_confidence() -> None:
    low, high = st.session_state["filter_confidence"]
    _set(current_filter().within("confidence", low / 100 if low else -inf, high / 100 if high < 100 else inf))


def _take_range(column: str) -> None:
    low, high = (st.session_state[f"filter_{column}_{word}"] for word in ("from", "to"))
    _set(current_filter().within(column, -inf if low is None else low, inf if high is None else high))


def _take_column() -> None:
    state = st.session_state
    state["filter_columns"] = [*state.get("filter_columns", []), state["filter_more"]]


def _take_order() -> None:
    state = st.session_state
    _set(
        replace(
            current_filter(), sort=state["filter_sort"], descending=state["filter_down"] and bool(state["filter_sort"])
        )
    )
