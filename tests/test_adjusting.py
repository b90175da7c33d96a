"""Frames, windows and colours of the picture at hand: what is set is what is seen, wherever the picture came from."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from streamlit.testing.v1 import AppTest

from explainers.images import File, Picture, read
from tests.picture_files import archive, dicom, save, tiff

CASES = Path(__file__).parent / "cases"

RAMP = np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)


@pytest.fixture(autouse=True)
def owned(monkeypatch: pytest.MonkeyPatch) -> list[Picture]:
    """What the session brought; there is no server here to look after them."""
    found: list[Picture] = []
    monkeypatch.setattr("components.adjusting.own", found.append)
    return found


def draw() -> None:
    """A page of the controls alone."""
    import streamlit as st

    from components.adjusting import adjust

    entry = st.session_state["entry"]
    st.session_state["shown"] = adjust(entry, st.session_state["picture"])


def page(entry: object, picture: Picture | None = None) -> AppTest:
    app = AppTest.from_function(draw)
    app.session_state["entry"], app.session_state["picture"] = entry, picture or entry
    return app.run()


def shown(app: AppTest) -> Picture:
    assert not app.exception
    found: Picture = app.session_state["shown"]
    return found


def windowed(values: np.ndarray, width: float, centre: float) -> np.ndarray:
    """The formula of a linear window, written out."""
    return np.clip((values - (centre - width / 2)) / width, 0, 1) * 255


@pytest.mark.parametrize("scale", [1.0, 1e-5, 3e4])
def test_a_window_begins_at_the_one_that_is_shown_and_takes_any_width(scale: float):
    (picture,) = read(tiff(scale * RAMP), "suv.tif")
    app = page(picture)
    assert shown(app) is picture
    assert [field.value for field in app.number_input] == pytest.approx([scale, scale / 2])
    app.number_input[0].set_value(scale / 4).run()
    assert abs(shown(app).pixels[..., 0] - windowed(scale * RAMP, scale / 4, scale / 2)).max() <= 1
    app.button(key="reset_window").click().run()
    assert shown(app) is picture


def test_what_is_read_otherwise_keeps_name_label_and_privacy(owned: list[Picture]):
    first, _ = read(archive({"a/x.tif": tiff(RAMP), "b/y.tif": tiff(RAMP)}), "two.zip")
    app = page(first)
    app.number_input[1].set_value(0.9).run()
    found = shown(app)
    assert (found.name, found.label, found.private) == (first.name, first.label, True)
    assert found.digest != first.digest
    assert found.again is not None
    assert owned == [found]


def test_a_frame_is_read_from_a_file_on_the_server_and_from_a_zip_of_several(tmp_path):
    frames = np.stack([np.full((9, 11), 25 * number, np.uint8) for number in range(5)])
    (tmp_path / "clip.dcm").write_bytes(dicom(frames))
    sample = File("clip.dcm", tmp_path / "clip.dcm", label="knee")
    clip = read(archive({"a.png": save(Image.new("L", (4, 4)), "PNG"), "clip.dcm": dicom(frames)}), "both.zip")[1]
    for entry, picture in ((sample, sample.read()), (clip, clip)):
        app = page(entry, picture)
        app.slider[0].set_value(4).run()
        assert (shown(app).pixels == 75).all()
        assert shown(app).label == picture.label


def test_pictures_of_a_series_keep_the_window_but_not_those_of_another_kind():
    series = [read(tiff(np.float32(factor) * RAMP), f"{factor}.tif")[0] for factor in (1, 2, 1000)]
    app = page(series[0])
    app.number_input[0].set_value(0.5).run()
    for picture, width in ((series[1], 0.5), (series[2], 1000), (series[0], 0.5)):
        app.session_state["entry"] = app.session_state["picture"] = picture
        app.run()
        assert app.number_input[0].value == pytest.approx(width)


def test_a_picture_of_8_bits_has_no_controls():
    (picture,) = read(save(Image.new("RGB", (4, 4)), "PNG"), "a.png")
    app = page(picture)
    assert shown(app) is picture
    assert not app.expander


def test_colours_are_those_of_the_profile_until_somebody_leaves_it():
    data = (CASES / "r1_display_p3.jpeg").read_bytes()
    (picture,) = read(data, "p3.jpeg")
    app = page(picture)
    app.toggle[0].set_value(False).run()
    plain = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    assert (shown(app).pixels == plain).all()
