"""What one browser session works on: a model, and pictures to click through. Uploads live and end here."""

from __future__ import annotations

import operator
import threading
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import streamlit as st
from streamlit.runtime import get_instance
from streamlit.runtime.pages_manager import PagesManager
from streamlit.runtime.scriptrunner import get_script_run_ctx
from streamlit.runtime.uploaded_file_manager import UploadedFile

import sample_models
from components.belongings import disown, own, settle_samples
from components.plain_text import plain
from components.sharing import be_guest, draw_sharing_of_pictures, name_in_links, shared_models, shared_pictures
from components.telling_errors import tell_error
from components.understanding import understand
from components.waiting import reading
from explainers.cases.dataset import Dataset, collect
from explainers.errors import ImageError, LimitError
from explainers.images import Attachment, Contents, Kept, Picture, Sample, Samples, find, read_contents, read_folder
from explainers.images.contents import find_attachments
from explainers.images.formats import ACCEPTED
from explainers.index.samples import Upload
from explainers.info import ModelInfo
from explainers.settings import settings
from sample_models import SampleModel
from sample_models.tracing import prepare

SAMPLES, TESTS, YOURS, SHARED, FOLDER = "Samples", "All test pictures", "Yours", "Shared", "Folder"

#: The keys of the uploads of files and of a folder.
UPLOADERS = ("uploaded_images", "uploaded_folder")

_opening = threading.Lock()


@dataclass(frozen=True)
class Workspace:
    """The chosen model, the pictures to choose from with what is known of them, and which of them are in the strip."""

    model: Any
    dataset: Dataset
    rows: Sequence[int]

    @property
    def pictures(self) -> Sequence[Sample | Picture]:
        """All pictures to choose from, whether the filter lets them through or not."""
        return self.dataset.entries

    def open_next(self, index: int) -> Picture:
        """Open the picture that comes behind the one at an index of ``pictures`` in the strip, or its first one."""
        place = (self.rows.index(index) + 1) % len(self.rows) if index in self.rows else 0
        return open_picture(self.pictures[self.rows[place]])

    @property
    def shown(self) -> Sequence[Sample | Picture]:
        """The pictures in the strip, in its order."""
        return [self.pictures[row] for row in self.rows]

    def turn_to(self, pictures: Sequence[Sample | Picture]) -> Workspace:
        """The same model with other pictures, all of them in the strip."""
        return Workspace(self.model, collect(pictures), range(len(pictures)))


def current_workspace() -> Workspace:
    """The workspace that the entry has set up before it ran the page.

    Streamlit takes a folder named ``pages`` for its older kind of multi-page app until the entry has run once. So the
    first visit to a fresh server, if it is to another page than the first, runs that page alone; it begins anew then.
    """
    if "workspace" not in st.session_state:
        PagesManager.uses_pages_directory = False
        st.rerun()
    workspace: Workspace = st.session_state["workspace"]
    return workspace


def went_back() -> bool:
    """Tell whether the browser's Back or Forward began this run: what its link says goes before what was chosen."""
    context = get_script_run_ctx()
    return bool(context and context.is_history_navigation)


def say_in_link(key: str, value: str) -> None:
    """Have the page's link say a choice, or "" for nothing about it.

    Nothing is sent when it does already: a whole address that arrives late would undo what the browser wrote since.
    """
    if not value:
        st.query_params.pop(key, None)
    elif st.query_params.get(key) != value:
        st.query_params[key] = value


def uploaded_models() -> dict[str, Any]:
    """The models that this session has accepted, by their names."""
    models: dict[str, Any] = st.session_state.setdefault("uploaded_models", {})
    return models


def keep_model(model: Any) -> None:
    """Keep an uploaded model for this session and choose it."""
    own(model)
    uploaded_models()[model.info.name] = model
    st.session_state["chosen_model"] = model.info.name


def remove_model(name: str) -> None:
    """Remove a model that this session has accepted, and all that follows from it."""
    removed = uploaded_models().pop(name, None)
    st.session_state.pop("chosen_model", None)
    if removed is not None and all(one.info.digest != removed.info.digest for one in uploaded_models().values()):
        disown(removed.info.digest)


@st.cache_resource(show_spinner=False)
def open_sample(name: str) -> Any:
    """Load a sample model once for the whole server, one after the other.

    Two at once would import parts of torch that need each other, and one of them find a part half imported.
    """
    prepare(name)
    with _opening:
        model = sample_models.load(name)
        settle_samples()
        return model


def choose_model() -> Any:
    """Draw the model picker; returns the chosen model."""
    if st.session_state.get("model_file") is None:  # it was removed, or its page was left
        st.session_state.pop("tested", None)
        st.session_state.pop("proposals", None)
    samples, shared = sample_models.models(), shared_models()
    uploads = offer_uploads(shared)
    names = [*samples, *uploads]
    follow_link(names, {*samples, *shared})

    def title(name: str) -> str:
        if name in samples:
            return samples[name].title
        info = uploads[name].info
        return f"{info.name} · shared" if name_in_links(info.digest) in shared else str(info.name)

    # The widget's own value is dropped when its page is left, so the choice is kept beside it.
    chosen = st.selectbox(
        "Model",
        names,
        index=names.index(st.session_state["chosen_model"]),
        format_func=title,
        help="The model that is looked into. Bring your own on the page *Model*.",
    )
    st.session_state["chosen_model"] = chosen
    if chosen in uploads:
        link = name_in_links(uploads[chosen].info.digest)
        say_in_link("model", link if link in shared else "")
        if chosen in shared:
            be_guest()
        return uploads[chosen]
    say_in_link("model", chosen)
    return draw_sample_model(samples[chosen])


def offer_uploads(shared: Mapping[str, Any]) -> dict[str, Any]:
    """List the uploaded models to choose from: the session's own by their names, others' by what links call them."""
    own = uploaded_models()
    digests = {model.info.digest for model in own.values()}
    return {**own, **{name: model for name, model in shared.items() if model.info.digest not in digests}}


def follow_link(names: Sequence[str], linkable: Collection[str]) -> None:
    """Choose the model that the link names, where it was not followed yet; says so if that is not here."""
    linked = st.query_params.get("model")
    if linked in names and (went_back() or "chosen_model" not in st.session_state):
        st.session_state["chosen_model"] = linked
    elif linked and linked not in linkable:
        st.warning("The link names a model that is not here, or no longer; a sample model is shown instead.")
    if (chosen := st.session_state.get("chosen_model")) not in names:
        if chosen:
            said = "The model that was chosen is not here any more; a sample model is shown instead."
            st.toast(said, icon=":material/group_off:", duration="long")
        st.session_state["chosen_model"] = names[0]


def draw_sample_model(sample: SampleModel) -> Any:
    """Say what a sample model is, and open it."""
    st.caption(sample.sentence)
    with st.expander("What should you find here? (spoiler)"):
        st.markdown(sample.spoiler)
    with st.spinner(f"Opening {sample.title} …"):
        return open_sample(sample.name)


def choose_pictures(info: ModelInfo) -> Dataset:
    """Draw the picker of where pictures come from, and the upload; returns the pictures to choose from."""
    root = settings().data
    files, folder = map(_uploaded, UPLOADERS)
    shared = shared_pictures()
    samples = sample_models.models()
    sample = samples.get(info.name) or next(iter(samples.values()))
    there = {SAMPLES: True, TESTS: sample.tests, YOURS: files or folder, SHARED: shared, FOLDER: root}
    sources = [name for name, pictures in there.items() if pictures]
    if len(files) + len(folder) != st.session_state.get("seen_files", 0):
        st.session_state["seen_files"] = len(files) + len(folder)
        st.session_state["source"] = YOURS if files or folder else SAMPLES
    if "next_source" in st.session_state:
        st.session_state["source"] = st.session_state.pop("next_source")
    if st.session_state.get("source", SAMPLES) not in sources:  # such as tests that another model does not bring
        st.session_state["source"] = SAMPLES
    source = choose_source(sources) if len(sources) > 1 else SAMPLES
    yours = draw_upload(files, folder)
    draw_sharing_of_pictures(yours.pictures)
    if source == YOURS:
        return _keep(understand(yours.pictures, yours.attachments, info))
    if source == SHARED:
        be_guest()
        return _keep(understand(shared, (), info))
    if source == FOLDER and root:
        return _keep(understand(*_list_folder(root), info))
    return _keep(collect_samples(sample, sample.tests if source == TESTS else sample.pictures))


@lru_cache(maxsize=32)
def collect_samples(sample: SampleModel, pictures: Samples) -> Dataset:
    """Make a data set of pictures that a sample model brings, with all that is known of them."""
    return Dataset(pictures, sample.describe(pictures))


def keep_source() -> None:
    """Have the page that is switched to show pictures from where they come now, and know of the uploads.

    A switch in a run forgets what widgets say until the browser tells it again.
    """
    if "source" in st.session_state:
        st.session_state["next_source"] = st.session_state["source"]
    st.session_state["kept_files"] = {key: _uploaded(key) for key in UPLOADERS}


def _uploaded(key: str) -> Sequence[UploadedFile]:
    """The files of an uploader, without those that were removed while nobody worked here."""
    files = [file for file in st.session_state.get(key) or [] if isinstance(file, UploadedFile)]
    kept: dict[str, Sequence[UploadedFile]] = st.session_state.get("kept_files", {})
    if files or key not in kept:
        kept.pop(key, None)
        return files
    context = get_script_run_ctx()
    held = get_instance().uploaded_file_mgr.get_files(
        context.session_id if context else "", [file.file_id for file in kept[key]]
    )
    there = {record.file_id for record in held}
    return [file for file in kept[key] if file.file_id in there]


def _keep(dataset: Dataset) -> Dataset:
    """Give the data set of the last run where it is the same, so that what was found about it stays."""
    before: Dataset | None = st.session_state.get("dataset")
    if before is dataset:
        return dataset
    if before is not None and len(before.entries) == len(dataset.entries):
        same = all(map(operator.is_, before.entries, dataset.entries))
        if same and before.metadata.equals(dataset.metadata):
            return before
    st.session_state["dataset"] = dataset
    return dataset


def _list_folder(root: Path) -> tuple[Samples, tuple[Attachment, ...]]:
    """List the folder on the server once for a session, and anew where somebody asks for it; raises ImageError."""
    if st.button("List anew", icon=":material/refresh:", help="Look for new pictures in the folder on the server."):
        st.session_state.pop("listed", None)
    if "listed" not in st.session_state:
        with st.spinner("Listing the folder …"):
            st.session_state["listed"] = find(root), find_attachments(root)
    listed: tuple[Samples, tuple[Attachment, ...]] = st.session_state["listed"]
    return listed


def draw_upload(files: Sequence[UploadedFile], folder: Sequence[UploadedFile]) -> Contents:
    """Draw the uploads of files and of a whole folder; returns what is in them."""
    help = (
        f"{ACCEPTED}, or a zip of them (folders in it give labels), and tables that say something about them. "
        "They are seen in this session only unless you share them, stay in memory and are gone when it ends. "
        "DICOM headers are dropped; text burned into the pixels stays."
    )
    st.file_uploader("Add your images", accept_multiple_files=True, key="uploaded_images", help=help)
    place = st.expander("Add a whole folder", key="add_folder", on_change="rerun")
    if place.open or folder:
        place.file_uploader(
            "A folder of images", accept_multiple_files="directory", key="uploaded_folder",
            help=f"With the folders in it, which give labels, as in a zip of it. {help}",
        )  # fmt: skip
    found = read_uploads(files, folder)
    for note in dict.fromkeys(found.notes):
        st.caption(plain(note))
    return found


def choose_source(sources: Sequence[str]) -> str:
    """Draw the picker of where pictures come from."""
    picked = st.segmented_control(
        "Images",
        sources,
        required=True,
        default=None if "source" in st.session_state else SAMPLES,
        key="source",
        bind="query-params",
        help="Where the pictures in the strip come from.",
    )
    return str(picked)


def read_uploads(files: Sequence[UploadedFile], folder: Sequence[UploadedFile]) -> Contents:
    """Read each uploaded file once, and a folder as a zip of it; says what is wrong with those that cannot be read."""
    known: dict[str, Contents | str] = st.session_state.setdefault("read_files", {})
    packed = " ".join(file.file_id for file in folder)
    wanted = {file.file_id: file for file in files} | ({packed: None} if folder else {})
    gone = [known.pop(key) for key in set(known) - set(wanted)]
    if gone:
        st.session_state.pop("read_otherwise", None)  # it may be of what is gone
    for key, file in wanted.items():
        if key not in known:
            name = file.name if file else "the folder"
            try:
                with reading(name, key, partial(_stop, key, name)):
                    known[key] = found = read_contents(file.getvalue(), name) if file else _read_folder(folder)
                own(*found.pictures, *found.attachments)
            except (ImageError, LimitError) as error:
                known[key] = str(error)
    if gone:
        kept, removed = (find_digests(contents) for contents in (known.values(), gone))
        disown(*removed - kept)
    for one in known.values():
        if isinstance(one, str):
            tell_error(one, "broken_image")
    return join([one for one in known.values() if not isinstance(one, str)])


def _read_folder(files: Sequence[UploadedFile]) -> Contents:
    return read_folder([(file.name, file.getvalue()) for file in files])


def _stop(key: str, name: str) -> None:
    """Have a file not read that somebody does not wait for."""
    st.session_state["read_files"][key] = f"Reading {name} was stopped. Remove it, and add it anew to have it read."


def find_digests(contents: Iterable[Contents | str]) -> set[str]:
    """The digests of all pictures that files hold."""
    return {picture.digest for one in contents if isinstance(one, Contents) for picture in one.pictures}


def join(found: Sequence[Contents]) -> Contents:
    """Put what several files hold together."""
    return Contents(
        tuple(picture for one in found for picture in one.pictures),
        tuple(attachment for one in found for attachment in one.attachments),
        tuple(note for one in found for note in one.notes),
    )


def open_picture(entry: Sample | Picture) -> Picture:
    """Give the picture of a strip's entry; those on the server are read once for everybody."""
    if isinstance(entry, Upload):  # of an index of uploads, which nothing holds when their session has ended
        return entry.read()
    return entry if isinstance(entry, Picture) else _kept.read(entry)


#: The pictures of the server that were read.
_kept = Kept()
