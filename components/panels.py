"""The pictures side by side: what the model sees, and one heatmap for each method."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from typing import NamedTuple

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from components.belongings import use
from components.controls import choose_view
from components.drawn_region import choose_region
from components.figures import TOOLS, Seen, draw_heatmap
from components.following import TICK, follow, forget, listen, wait
from components.heatmap import View, blend, colour_table, describe, encode_png, limits, share_inside
from components.plain_text import file_name, plain
from components.telling_errors import tell_error
from explainers.attribution.method import Attribution, Method, pack
from explainers.cache import Job
from explainers.errors import CancelledError, LightboxError
from explainers.images import Picture
from explainers.info import ModelInfo
from explainers.regions import Region, region_mask
from explainers.subjects import Case

CONFIG = {**TOOLS, "modeBarButtons": [["zoom2d", "pan2d", "resetScale2d"]]}

#: What a heatmap's panel consists of: the chart, its legend, its figures and its downloads.
PARTS = 4


def follow_methods(case: Case, methods: Iterable[Method]) -> dict[Method, Job[Attribution]]:
    """Ask for the attribution by each method; raises SelectionError if one cannot explain the model."""
    asked = [(method, case) for method in methods]
    return {method: job for (method, _), job in zip(asked, follow("attributions", asked), strict=True)}


def draw_panels(info: ModelInfo, picture: Picture, jobs: Mapping[Method, Job[Attribution]]) -> None:
    """Draw the picture and a heatmap for each job, each as soon as it is done, with progress until then.

    Once all are done, a change of the view or of the region draws the panels alone. What a person presses before begins
    the page anew, for Streamlit lets a part of a page wait until the page has come to its end.
    """
    seen = Seen(picture.name, info.preprocessing.view(picture), info.score_unit)
    cut = tell_cut(info, picture)
    if wait(jobs.values()):
        st.fragment(_draw)(seen, cut, jobs)
    else:
        with st.container():  # as around a fragment, so that what stands there stays
            _draw(seen, cut, jobs)


def tell_cut(info: ModelInfo, picture: Picture) -> str:
    """Say what of a picture the model does not see, "" if it sees all of it."""
    height, width = picture.pixels.shape[:2]
    parts = [
        f"{1 - share:.0%} of its {what}"
        for share, what in zip(info.preprocessing.seen(width, height), ("width", "height"), strict=True)
        if share < 0.995
    ]
    return f"Cut off at the edges, half on either side: {' and '.join(parts)}." if parts else ""


def _draw(seen: Seen, cut: str, jobs: Mapping[Method, Job[Attribution]]) -> None:
    use()
    signs = {method.signed for method in jobs}
    view = choose_view(True in signs, False in signs)
    pending, said = dict[Method, Pending](), dict[Method, str]()
    with st.container(horizontal=True, gap="medium"):
        with st.container(width=view.side):
            st.markdown("**What the model sees**")
            region = choose_region(seen, view.side)
            if cut:
                st.caption(cut)
        for method, job in jobs.items():
            with st.container(width=view.side):
                st.markdown(f"**{method.title}**", help=f"{method.summary} ({method.citation})")
                if job.done:
                    with st.container():  # where the place of a pending one would be
                        draw_job(job, seen, method, view, region)
                else:
                    pending[method] = draw_progress(job, method)
        if not jobs:
            st.info("Choose a method in the sidebar to see where the model looked.")
        clear(st.session_state.get("panels", 0) - len(jobs))
        st.session_state["panels"] = len(jobs)
    while pending:
        for method in [method for method in pending if jobs[method].done]:
            with pending.pop(method).panel.container():
                draw_job(jobs[method], seen, method, view, region)
        for method, (_, bar) in pending.items():
            words = f"Computing, {jobs[method].progress:.0%} done"
            if said.get(method) != words:
                bar.progress(jobs[method].progress, words)
                said[method] = words
        listen()
        wait([jobs[method] for method in pending], TICK)


class Pending(NamedTuple):
    """A panel whose heatmap is being computed, and the progress bar in it."""

    panel: DeltaGenerator
    bar: DeltaGenerator


def draw_progress(job: Job[Attribution], method: Method) -> Pending:
    """Make place for a heatmap that is not there yet, with a way to stop it."""
    panel = st.empty()
    with panel.container():
        bar = st.empty()
        st.button("Stop", icon=":material/stop:", key=f"stop-{method.name}", on_click=job.cancel)
        clear(PARTS - 2)
    return Pending(panel, bar)


def clear(count: int) -> None:
    """Take away so many elements that stood here before, which would fade only when the page has come to its end."""
    for _ in range(count):
        st.empty()


def draw_job(
    job: Job[Attribution],
    seen: Seen,
    method: Method,
    view: View,
    region: Region,
) -> None:
    """Draw the heatmap of a job that is done, or why there is none."""
    try:
        draw_attribution(seen, job.result(), method, view, region)
    except CancelledError:
        st.info("Stopped before the end.")
        if st.button("Start again", icon=":material/refresh:", key=f"again-{method.name}"):
            forget(job)
            st.rerun()
    except LightboxError as error:
        tell_error(error)


def draw_attribution(
    seen: Seen,
    attribution: Attribution,
    method: Method,
    view: View,
    region: Region,
) -> None:
    """Draw one heatmap with its legend, its figures and its downloads."""
    st.plotly_chart(
        draw_heatmap(seen, attribution, view, region),
        key=f"heatmap-{method.name}",
        width="content",
        config=CONFIG,
        alt=f"{method.title} for {seen.name}. {describe(attribution.values)}",
    )
    draw_legend(attribution, method, view, seen.unit)
    draw_figures(attribution, region, seen.unit)
    draw_downloads(seen, attribution, method, view)


def draw_legend(attribution: Attribution, method: Method, view: View, unit: str) -> None:
    """Draw the colour bar with the scores that its ends stand for."""
    low, high = limits(attribution.values, attribution.signed, view)
    table = colour_table(attribution.signed, view)
    stops = ", ".join("rgba({},{},{},{:.2f})".format(*table[i, :3], table[i, 3] / 255) for i in range(0, 257, 16))
    middle = "<span>0</span>" if low < 0 else ""
    ends = ("against", "for") if low < 0 else ("none", "most")
    st.html(
        f'<div style="width:min({view.side}px,100%);font-size:0.75rem;opacity:0.85">'
        f'<div style="height:8px;border-radius:4px;background:linear-gradient(to right,{stops})"></div>'
        '<div style="display:flex;justify-content:space-between;font-variant-numeric:tabular-nums">'
        f"<span>{low:.2g} {ends[0]}</span>{middle}<span>{ends[1]} {high:.2g}</span></div>"
        f'<div style="text-align:center">{escape(method.unit.replace("logit", unit))}</div></div>'
    )


def draw_figures(attribution: Attribution, region: Region, unit: str) -> None:
    """Say what the scores add up to where that is promised, and how much lies in the region."""
    lines = [f"Explained output {attribution.output:,.3f} {plain(unit)}"]
    if attribution.expected is not None and attribution.gap is not None:
        lines.append(f"Sum of scores {attribution.total:,.3f}")
        lines.append(f"The sum should be {attribution.expected:,.3f}: gap {attribution.gap:+,.3f}")
    if details := attribution.provenance["details"]:
        lines.append(" · ".join(f"{plain(name)} {value:,.3g}" for name, value in details.items()))
    if note := attribution.provenance["note"]:
        lines.append(plain(note))
    if region:
        positive, negative = share_inside(attribution.values, region_mask(region, attribution.values.shape))
        against = "" if negative is None else f", {negative:.0%} of what speaks against"
        lines.append(f"**In the region: {positive:.0%} of what speaks for**{against}")
    passes = attribution.provenance["passes"]
    lines.append(
        f"{passes['forward']} forward, {passes['backward']} backward passes · {attribution.provenance['seconds']:.2g} s"
    )
    st.caption("  \n".join(lines))


def draw_downloads(seen: Seen, attribution: Attribution, method: Method, view: View) -> None:
    """Offer the heatmap as a picture and its scores as an array; both are made when they are asked for."""
    with st.container(horizontal=True):
        st.download_button(
            "PNG",
            lambda: encode_png(blend(seen.crop, attribution.values, attribution.signed, view), 4),
            file_name(seen.name, f"-{method.name}.png"),
            "image/png",
            icon=":material/download:",
            on_click="ignore",
            key=f"png-{method.name}",
            help="The picture with its heatmap, four times enlarged.",
        )
        st.download_button(
            "Array",
            lambda: pack(seen.crop, attribution),
            file_name(seen.name, f"-{method.name}.npz"),
            "application/octet-stream",
            icon=":material/download:",
            on_click="ignore",
            key=f"npz-{method.name}",
            help="Scores and picture as NumPy arrays, with how they came to be (numpy.load).",
        )
