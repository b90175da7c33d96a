"""Controls for what is explained, how, and how it is shown; each keeps its value in the page's link."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from components.heatmap import DIVERGING, SEQUENTIAL, View
from components.plain_text import plain
from explainers.attribution.method import Method, methods, unsuitable_methods
from explainers.info import ModelInfo
from explainers.outputs import BINARY, CLASSES, FINDINGS, NUMBERS
from explainers.parameters import Parameter
from explainers.predictions import Prediction
from explainers.questions import Question
from explainers.targets import PREDICTED, USUAL, refer_to

Q = TypeVar("Q", bound=Question[Any, Any])

NO_CONTRAST = ""
SIDES = {"Small": 260, "Medium": 400, "Large": 560}


#: What is explained where nothing is chosen, by what the outputs mean.
FIRST = {CLASSES: "Predicted class", BINARY: "Predicted answer", FINDINGS: "Likeliest finding", NUMBERS: "First number"}


def choose_output(info: ModelInfo, prediction: Prediction) -> tuple[str, str]:
    """Draw the pickers of the class to explain and of what to contrast it with; returns both as wanted."""
    names = {refer_to(info, index): f"{name} ({index})" for index, name in enumerate(info.class_names)}
    wanted = st.selectbox(
        "Explain",
        [PREDICTED, *names],
        format_func=lambda option: names.get(option, FIRST[info.kind]),
        key="target",
        bind="query-params",
        help="The class whose score is explained. Type to search; the number in brackets is the class's index.",
    )
    others = {NO_CONTRAST: "No contrast", PREDICTED: "Next best class", **names}
    if info.kind == NUMBERS:  # numbers of different things are no more or less than each other
        others = {NO_CONTRAST: "No contrast", **({USUAL: "What is usual"} if info.usual else {})}
    versus = st.selectbox(
        "Rather than",
        list(others),
        format_func=others.__getitem__,
        key="versus",
        bind="query-params",
        help="Contrast: what speaks for the class above rather than for this one?",
    )
    return str(wanted), str(versus)


def choose_methods(info: ModelInfo) -> list[Method]:
    """Draw the picker of the methods, which are then shown side by side, and a control for each of their parameters.

    Raises SelectionError for parameters that do not go together.
    """
    kinds, unsuitable = methods(), unsuitable_methods(info)
    suitable = [name for name in kinds if name not in unsuitable]
    default = [name for name in ("gradcam",) if name in suitable] or suitable[:1]
    chosen = st.multiselect(
        "Methods",
        suitable,
        default=default,
        format_func=lambda name: kinds[name].title,
        max_selections=4,
        key="methods",
        bind="query-params",
        placeholder="Choose a method",
        help="Up to four ways to ask where the model looked, side by side.\n\n"
        + "\n".join(f"- **{kinds[name].title}**: {kinds[name].summary}" for name in suitable)
        + "".join(f"\n- ~~{kinds[name].title}~~: {plain(reason)}" for name, reason in unsuitable.items()),
    )
    return [choose_parameters(kinds[str(name)], info) for name in chosen]


def choose_every_finding(info: ModelInfo) -> bool:
    """Draw the switch to a heatmap for every finding at once, for models of several findings."""
    return info.kind == FINDINGS and st.toggle(
        "Every finding at once", key="every", bind="query-params", help="A small heatmap for each finding."
    )


def choose_parameters(kind: type[Q], info: ModelInfo) -> Q:
    """Draw a control for each parameter of a question; returns it as they are set."""
    if not kind.parameters():
        return kind()
    with st.expander(f"{kind.title} settings"):
        return kind.make({parameter.name: _choose(kind.name, parameter, info) for parameter in kind.parameters()})


def _choose(question: str, parameter: Parameter, info: ModelInfo) -> Any:
    key = f"{question}.{parameter.name}"
    title = f"{parameter.title} ({parameter.unit})" if parameter.unit else parameter.title
    common: dict[str, Any] = {"key": key, "help": parameter.help}
    if not (info.private and parameter.kind in ("layer", "text")):  # which name an upload's layers
        common["bind"] = "query-params"
    if parameter.kind == "flag":
        return st.toggle(title, bool(parameter.default), **common)
    if parameter.kind == "choice":
        return st.selectbox(title, parameter.choices, parameter.choices.index(str(parameter.default)), **common)
    if parameter.kind not in ("layer", "integer", "number"):
        return st.text_input(title, str(parameter.default or ""), max_chars=500, **common)
    if parameter.kind == "layer":
        layers = {layer.name: layer for layer in info.layers if layer.spatial}
        return st.selectbox(
            title,
            ["", *layers],
            format_func=lambda name: f"{name} · {layers[name].grid[0]}×{layers[name].grid[1]}" if name else "Automatic",
            **common,
        )
    if parameter.kind == "number" and parameter.high > 1000 * parameter.step:  # too fine for a slider
        bounds = (float(parameter.low), float(parameter.high), float(parameter.default))
        return st.number_input(title, *bounds, parameter.step, format="%g", **common)
    number = int if parameter.kind == "integer" else float
    return st.slider(
        title,
        number(parameter.low),
        number(parameter.high),
        number(parameter.default),
        number(parameter.step),
        **common,
    )


def choose_view(signed: bool, unsigned: bool) -> View:
    """Draw the controls of how heatmaps are shown, colours for the kinds of scores there are; computes nothing."""
    default = View()
    widths = [2.6, 2.6, 2.9, *[3.0] * (signed + unsigned), 3.0]
    columns = st.columns(widths, vertical_alignment="bottom", gap="small")
    size = columns[0].selectbox(
        "Size", list(SIDES), list(SIDES.values()).index(default.side), key="size", bind="query-params",
        help="Of the pictures on this page.",
    )  # fmt: skip
    opacity = columns[1].slider(
        "Opacity (%)", 0, 100, round(100 * default.opacity), 5, key="opacity", bind="query-params",
        help="How much of the picture the colours cover.",
    )  # fmt: skip
    percentile = columns[2].slider(
        "Clip at (percentile)", 90.0, 100.0, default.percentile, 0.5, key="clip", bind="query-params",
        help="Scores above this percentile of all pixels get the strongest colour: lower it to see weaker ones.",
    )  # fmt: skip
    diverging, sequential = default.diverging, default.sequential
    if signed:
        diverging = _choose_colours(columns[3], "for/against", DIVERGING, "colours", "speak for and against")
    if unsigned:
        sequential = _choose_colours(columns[-2], "of amounts", SEQUENTIAL, "amounts", "are amounts")
    with columns[-1]:
        fade = st.toggle(
            "Fade weak", default.fade, key="fade", bind="query-params",
            help="Let the picture through where scores are small.",
        )  # fmt: skip
        positive = signed and st.toggle(
            "Positive only", key="positive", bind="query-params", help="Hide what speaks against the class."
        )
    return View(SIDES[size], opacity / 100, diverging, sequential, percentile, positive, fade)


def _choose_colours(place: DeltaGenerator, what: str, maps: Mapping[str, str], key: str, scores: str) -> str:
    help = f"For methods whose scores {scores}. Readable with every colour vision."
    return str(place.selectbox(f"Colours {what}", list(maps), key=key, bind="query-params", help=help))
