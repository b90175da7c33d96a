"""Which frame of a series, and which window of brightness, a picture is seen through."""

from __future__ import annotations

import streamlit as st

from components.belongings import own
from explainers.images import Picture, Reading, Sample, read


def adjust(entry: Sample | Picture, picture: Picture) -> Picture:
    """Draw controls for a picture with frames or with more than 8 bits; returns it as they are set.

    Raises ImageError.
    """
    deep = any("8 bit" in note or note.startswith("window") for note in picture.notes)
    if picture.frames < 2 and not deep:
        return picture
    frame, window = 1, None
    with st.expander("Frame and brightness", expanded=picture.frames > 1):
        if picture.frames > 1:
            frame = st.slider(
                "Frame", 1, picture.frames, key=f"frame-{picture.digest}", help="Of the series in this file."
            )
        if deep and st.toggle("Set the window", key=f"set-{picture.digest}", help="As on a viewer of radiographs."):
            width = st.number_input(
                "Width", 1.0, 1e6, 400.0, key=f"width-{picture.digest}", help="In the file's units."
            )
            centre = st.number_input(
                "Centre", -1e6, 1e6, 40.0, key=f"centre-{picture.digest}", help="In the file's units."
            )
            window = (width, centre)
    if (frame, window) == (1, None):
        return picture
    if isinstance(entry, Sample):
        return entry.read(Reading(frame, window))
    return _read_again(picture, frame, window)


def _read_again(picture: Picture, frame: int, window: tuple[float, float] | None) -> Picture:
    """Read the uploaded file that a picture came from with other settings; one out of a zip archive stays as it is."""
    for file in st.session_state["uploaded_images"]:
        found = st.session_state["read_files"].get(file.file_id)
        if not isinstance(found, str) and found == (picture,):
            found = read(file.getvalue(), file.name, Reading(frame, window))
            own(found[0].digest)
            return found[0]
    return picture
