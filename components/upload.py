"""The form by which a person brings a model: guesses to confirm, a test, then acceptance."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import isfinite, nan
from typing import Any

import streamlit as st

import sample_models
from components.belongings import own
from components.following import answer
from components.panels import tell_cut
from components.plain_text import plain
from components.prediction import draw_prediction
from components.session import keep_model, keep_source, open_picture, remove_model, uploaded_models
from components.sharing import draw_sharing_of_model
from components.telling_errors import telling_errors
from explainers.errors import ModelError
from explainers.graph import sandbox
from explainers.images import Picture, Sample
from explainers.isolation import hearing
from explainers.opening import open_class_names
from explainers.outputs import BINARY, KINDS, MAPS, NUMBERS, describe_other, fitting_kinds, name_outputs
from explainers.predictions import Predict
from explainers.preprocessing import INTERPOLATIONS, Preprocessing
from explainers.proposal import Proposal
from explainers.subjects import Input

HELP = """**What can be uploaded**

- weights as `.safetensors`, or as `.pt` / `.pth` saved by `torch.save(model.state_dict(), "weights.pt")`,
  of an architecture that timm or torchvision knows;
- a whole network as `.pt2`, saved by `torch.export.save(program, "model.pt2")`;
- a whole network as `.onnx` in one file, from PyTorch
  `torch.onnx.export(model, image, "model.onnx", external_data=False)` or from any other framework.

A file that could run code when opened is refused. What you upload is seen in this session only unless you share it,
stays in memory and is gone when the session ends."""

#: What may be used of a picture.
STRETCH, BORDERS, CUT = "All of it, squeezed", "All of it, with borders", "The middle, edges cut off"
FITS = (STRETCH, BORDERS, CUT)


def draw_upload(pictures: Sequence[Sample | Picture]) -> None:
    """Draw the upload from file to acceptance; the next step is always the last thing on the page."""
    file = st.file_uploader("Model file", key="model_file", help=HELP)
    names_file = st.file_uploader(
        "Class names (optional)",
        type=["txt", "csv", "tsv", "json", "yaml", "yml", "names", "pbtxt"],
        key="names_file",
        help="One name to a line; or a CSV table with a column of names; or JSON or YAML: a list, or indices with "
        "names, such as Hugging Face's config.json, COCO's categories or YOLO's data.yaml.",
    )
    if file is None:
        st.markdown(HELP)
        sandbox.prepare()
        return
    with telling_errors():
        proposal = _propose(file)
        class_names = _read_names(names_file) if names_file else ()
        settings = _fill_form(proposal, class_names)
        if settings is not None:
            st.session_state["tested"] = (file.file_id, _load(file, settings))
        fileid, model = st.session_state.get("tested", ("", None))
        if fileid == file.file_id:
            _draw_test(model, pictures)


def _read_names(file: Any) -> tuple[str, ...]:
    """Read a file of class names once; raises ModelError."""
    known: dict[str, tuple[str, ...]] = st.session_state.setdefault("read_names", {})
    if file.file_id not in known:
        known.clear()
        with _waiting("Reading the class names …") as waiting, hearing(waiting):
            known[file.file_id] = open_class_names(file.getvalue(), file.name)
    return known[file.file_id]


def draw_own_model(model: Any) -> None:
    """Let the owner of an uploaded model share it, take it back or remove it."""
    draw_sharing_of_model(model)
    st.button(
        "Remove this model", icon=":material/delete:", key="remove_model", on_click=remove_model,
        args=(model.info.name,), help="From this server's memory, with all that was computed with it.",
    )  # fmt: skip


def _propose(file: Any) -> Proposal:
    """Look at an uploaded file, and again when another part or architecture is chosen for it."""
    first = _look(file)
    chosen: dict[str, str] = {}
    if first.networks:
        chosen["network"] = st.selectbox(
            "Network",
            first.networks,
            format_func=lambda name: name or "the file's own",
            help="The file holds several networks, the likeliest first.",
        )
    if first.outputs:
        names = {output.name: f"{output.name} · {' × '.join(map(str, output.shape))}" for output in first.outputs}
        chosen["output"] = st.selectbox(
            "Output", list(names), format_func=names.__getitem__, help="Which of the model's outputs is explained."
        )
    usual = {"network": first.network, "output": first.outputs[0].name if first.outputs else ""}
    chosen = {part: name for part, name in chosen.items() if name != usual[part]}
    proposal = _look(file, **chosen)
    if not proposal.choices:
        return proposal
    fits = {guess.architecture: f"{guess.fitting} of {guess.tensors} tensors fit" for guess in proposal.guesses}
    architecture = st.selectbox(
        "Architecture",
        [*fits, *(choice for choice in proposal.choices if choice not in fits)],
        format_func=lambda choice: f"{choice} · {fits[choice]}" if choice in fits else choice,
        help="The network that the weights belong to, best guess first. Type to search.",
    )
    return proposal if architecture == proposal.architecture else _look(file, architecture=architecture, **chosen)


def _look(file: Any, **chosen: str) -> Proposal:
    """Read an uploaded file once for each choice of a part of it and of an architecture."""
    known: dict[tuple[Any, ...], Proposal] = st.session_state.setdefault("proposals", {})
    key = (file.file_id, *sorted(chosen.items()))
    if key not in known:
        if not chosen:
            known.clear()  # another file: what was found in the last one is of no more use
        with _waiting("Looking at the file …") as waiting:
            known[key] = sandbox.propose(file.getvalue(), file.name, waiting=waiting, tell=waiting.tell, **chosen)
    return known[key]


def _fill_form(proposal: Proposal, class_names: Sequence[str]) -> dict[str, Any] | None:
    """Draw the form with the guesses filled in; returns the settings once they are to be tested."""
    for note in proposal.notes:
        st.caption(plain(note))
    kind = _choose_kind(proposal)
    if kind is None:
        return None
    guess, names = proposal.preprocessing, tuple(class_names) or proposal.class_names
    with st.form("model_form"):
        name = st.text_input("Name", proposal.name, max_chars=80, help="Under which you find it in the model picker.")
        left, right = st.columns(2)
        height = left.number_input("Height (pixels)", 8, 2048, guess.size[0], help="Of the model's input.")
        width = right.number_input("Width (pixels)", 8, 2048, guess.size[1], help="Of the model's input.")
        resize, borders = _choose_fit(guess)
        mean, std, scaling = _choose_scaling(guess)
        shown = _choose_shown(proposal.channels)
        meaning = _name_outputs(kind, proposal, names)
        if not st.form_submit_button("Test this model", type="primary", icon=":material/science:"):
            return None
    size = (int(height), int(width))
    mean_numbers, std_numbers = _split("mean", mean, proposal.channels), _split("std", std, proposal.channels)
    return {
        "name": _free_name(name or proposal.name),
        "architecture": proposal.architecture,
        **({"network": proposal.network} if proposal.networks else {}),
        **({"output": proposal.outputs[0].name} if proposal.outputs else {}),
        "kind": kind,
        **_read_meaning(meaning),
        "preprocessing": Preprocessing(size, resize, mean_numbers, std_numbers, scaling, borders, shown),
    }


def _choose_kind(proposal: Proposal) -> str | None:
    """Draw the picker of what the outputs mean, with the guess and its reason; None where they cannot be explained."""
    fitting = fitting_kinds(proposal.shape)
    if not fitting:
        st.warning(describe_other(proposal.shape), icon=":material/crop_free:")
        return None
    words = MAPS if len(proposal.shape) == 3 else KINDS
    kind = st.selectbox(
        "What its outputs mean",
        fitting,
        fitting.index(proposal.kind),
        format_func=words.__getitem__,
        help="From this follow the percentages, what can be explained, and what cases are compared with.",
    )
    st.caption(plain(proposal.reason))
    return str(kind)


def _choose_fit(guess: Preprocessing) -> tuple[int, bool]:
    """Draw the pickers of what is used of a picture; returns the length to resize to, 0 for all of it, and borders."""
    left, right = st.columns([2, 1])
    fit = left.selectbox(
        "What is used of a picture",
        FITS,
        FITS.index(CUT if guess.resize else BORDERS if guess.borders else STRETCH),
        help="What is cut off cannot be seen by the model, nor in any heatmap.",
    )
    usual = guess.resize or round(min(guess.size) * 256 / 224)
    resize = right.number_input(
        "Resize (pixels)", 8, 4096, usual, help="To cut: what the picture's shorter side is scaled to before the cut."
    )
    return int(resize) if fit == CUT else 0, fit == BORDERS


def _choose_scaling(guess: Preprocessing) -> tuple[str, str, str]:
    """Draw the fields of the normalisation and of how pictures are scaled; returns them as typed."""
    left, right = st.columns(2)
    mean = left.text_input("Mean", _join(guess.mean), help="Subtracted from values between 0 and 1: one a colour.")
    std = right.text_input("Std", _join(guess.std), help="Values are divided by it: one a colour.")
    kinds = list(INTERPOLATIONS)
    kind = st.selectbox("Interpolation", kinds, kinds.index(guess.interpolation), help="How pictures are scaled.")
    return mean, std, str(kind)


def _choose_shown(channels: int) -> tuple[int, ...]:
    """Draw the pickers of which channels of many are shown as colours; nothing for grey and colour pictures."""
    if channels in (1, 3):
        return ()
    places = st.columns(3)
    return tuple(
        int(place.selectbox(f"Shown as {colour}", range(channels), min(number, channels - 1)) or 0)
        for number, (place, colour) in enumerate(zip(places, ("red", "green", "blue"), strict=True))
    )


def _name_outputs(kind: str, proposal: Proposal, names: Sequence[str]) -> dict[str, Any]:
    """Draw the fields for what outputs of a kind are called and measured in; returns what was typed."""
    if kind == BINARY:
        no, yes = name_outputs(kind, 1, names)
        left, right = st.columns(2)
        return {
            "class_names": (
                left.text_input("Name of no", no, max_chars=80, help="What a low score means, such as benign."),
                right.text_input("Name of yes", yes, max_chars=80, help="What a high score means, such as malignant."),
            )
        }
    count = f"{len(names):,} class names." if names else "no class names yet."
    st.caption(f"{proposal.classes:,} output{'s' * (proposal.classes > 1)}; {count}")
    if kind != NUMBERS:
        return {"class_names": tuple(names)}
    left, right = st.columns(2)
    return {
        "class_names": tuple(names),
        "unit": left.text_input("Unit", max_chars=30, help="What the numbers are measured in, such as years."),
        "usual": right.text_input(
            "Usual value (optional)",
            help="One for each number, with commas between them: then you can ask what speaks for more than usual.",
        ),
    }


def _read_meaning(meaning: Mapping[str, Any]) -> dict[str, Any]:
    """Read what was typed about the outputs; raises ModelError."""
    usual = str(meaning.get("usual", "")).strip()
    return {**meaning, "usual": _read_numbers("usual value", usual) if usual else ()}


@dataclass(frozen=True)
class Waiting:
    """What is called all the time while something is waited for, at a place for a sentence; any click ends it."""

    place: Any

    def __call__(self) -> None:
        """Hear a click meanwhile."""
        self.place.empty()

    def tell(self, sentence: str) -> None:
        """Say meanwhile who comes before."""
        self.place.caption(sentence)


@contextmanager
def _waiting(what: str) -> Iterator[Waiting]:
    """Say what is waited for, with a button to stop it; gives what the wait calls, so that any click ends it."""
    place = st.empty()
    with place.container():
        st.button("Stop", icon=":material/stop:", key=f"stop-{what}")
        with st.spinner(what, show_time=True):
            yield Waiting(st.empty())
    place.empty()


def _load(file: Any, settings: dict[str, Any]) -> Any:
    with _waiting("Opening the model and tracing its graph …") as waiting:
        model = sandbox.load(file.getvalue(), file.name, waiting, tell=waiting.tell, **settings)
    model = replace(model, info=replace(model.info, private=True))
    own(model)
    return model


def _draw_test(model: Any, pictures: Sequence[Sample | Picture]) -> None:
    """Show what the model says about the picture at hand, and let the person accept it or go back to the form."""
    st.markdown("**A test before you accept it**")
    picture = open_picture(pictures[st.session_state.get("picture", 0) % len(pictures)])
    left, right = st.columns(2, gap="medium")
    words = f"{picture.name}, as the model sees it"
    left.image(model.info.preprocessing.view(picture), plain(words), "stretch", alt=words)
    with right:
        if cut := tell_cut(model.info, picture):
            st.caption(cut)
        draw_prediction(model.info, answer("test", Predict(), Input(model, picture), "Asking the model"))
        st.caption(
            "Does this make sense? If not, check architecture, normalisation and class names above and test again."
        )
        if st.button("Use this model", type="primary", icon=":material/check:"):
            keep_model(model)
            del st.session_state["tested"]
            # With None, Streamlit fails where a picker is bound to the link.
            keep_source()
            st.switch_page("pages/attribution.py", query_params={})


def _free_name(name: str) -> str:
    """Tell an uploaded model from the others by its name."""
    taken = {*uploaded_models(), *sample_models.models()}
    return next(free for free in (name, *(f"{name} ({number})" for number in range(2, 1000))) if free not in taken)


def _join(numbers: Sequence[float]) -> str:
    return ", ".join(f"{number:g}" for number in numbers)


def _read_numbers(what: str, text: str) -> tuple[float, ...]:
    """Read numbers with commas between them; raises ModelError."""
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        numbers = (nan,)
    if not all(map(isfinite, numbers)):
        raise ModelError(f"The {what} is '{text}'; give a number, or several with commas between them.")
    return numbers


def _split(what: str, text: str, channels: int) -> tuple[float, ...]:
    """Read a number for each channel; one counts for all of them."""
    numbers = _read_numbers(what, text)
    if len(numbers) not in (1, channels) or (what != "mean" and not all(numbers)):
        raise ModelError(
            f"The {what} is '{text}'; give one number, or one for each of the {channels} channels with commas between "
            "them" + ("." if what == "mean" else ", none of them zero.")
        )
    return numbers * (channels // len(numbers))
