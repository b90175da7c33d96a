"""Masks and boxes, by the names of files and from COCO and Pascal VOC: kept with their pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from explainers.cases.annotations import Box, draw_mask, read_annotations
from explainers.cases.arranging import Arrangement, arrange, read_material
from explainers.cases.masks import find_masks, read_mask
from explainers.errors import TableError
from explainers.images import Attachment, File, Samples, find
from tests.table_files import COCO, VOC


def names(*files: str) -> Samples:
    return Samples(File(name, path=Path("/data", name)) for name in files)


def understand(entries: Samples, *attachments: Attachment) -> Arrangement:
    return arrange(entries, read_material(attachments), ())


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (["x.png", "x_mask.png", "y.png"], {1: 0}),
        (["ISIC_1.jpg", "truth/ISIC_1_segmentation.png"], {1: 0}),
        (["benign/benign (1).png", "benign/benign (1)_mask.png", "benign/benign (1)_mask_1.png"], {1: 0, 2: 0}),
        (["x.png", "x-mask-0.png", "x-mask-1.png"], {1: 0, 2: 0}),
        (["t/x.png", "t/x_lesion_mask.tif", "v/x.png"], {1: 0}),
        (["images/x.jpg", "masks/x.png", "images/y.jpg", "masks/y.png"], {1: 0, 3: 2}),
        (["train/images/x.png", "test/images/x.png", "train/masks/x.png", "test/masks/x.png"], {2: 0, 3: 1}),
        (["id1/images/id1.png", "id1/masks/a.png", "id1/masks/b.png", "id2/images/id2.png"], {1: 0, 2: 0}),
        (["mask/1.png", "no_mask/1.png"], {}),
        (["with_mask/1_mask.png", "y.png"], {}),
        (["x_label.png", "y_label.png"], {}),
    ],
)
def test_masks_are_found_beside_their_pictures(files: list[str], expected: dict[int, int]) -> None:
    in_folders = ["masks" in Path(file).parts or "truth" in Path(file).parts for file in files]
    assert find_masks(files, in_folders) == expected


def test_masks_are_kept_with_their_pictures_and_are_none_themselves(tmp_path: Path) -> None:
    mask = np.zeros((6, 8), np.uint8)
    mask[1:4, 2:5] = 1
    for label in ("benign", "malignant"):
        (tmp_path / label).mkdir()
        Image.new("RGB", (8, 6)).save(tmp_path / label / "x.png")
        Image.fromarray(mask * (255 if label == "benign" else 1)).save(tmp_path / label / "x_mask.png")
        mask = mask[::-1]
    found = understand(find(tmp_path)).dataset
    assert [(entry.name, entry.label) for entry in found.entries] == [
        ("benign/x.png", "benign"),
        ("malignant/x.png", "malignant"),
    ]
    assert isinstance(found.entries, Samples)
    assert list(found.metadata["mask"]) == ["benign/x_mask.png", "malignant/x_mask.png"]
    for row, expected in enumerate([mask, mask[::-1]]):
        np.testing.assert_array_equal(read_mask(found, row, (8, 6)), expected > 0)
    larger = read_mask(found, 0, (16, 12))
    assert larger is not None
    np.testing.assert_array_equal(larger, np.kron(mask, np.ones((2, 2))) > 0)


def test_boxes_outlines_and_runs_of_coco_come_to_their_pictures() -> None:
    found = understand(names("images/x.jpg", "images/y.jpg", "images/z.jpg"), Attachment("c.json", COCO))
    assert [entry.label for entry in found.dataset.entries] == ["dog|cat", None, None]
    assert list(found.dataset.metadata["boxes"].fillna(-1)) == [3, 0, -1]
    expected = np.zeros((6, 9), bool)
    expected[1:4, 2:7] = True
    expected[2, 4] = False
    np.testing.assert_array_equal(draw_mask(found.dataset.boxes[0][:1], (9, 6)), expected)
    expected[:2, :2] = expected[5, 8] = True
    np.testing.assert_array_equal(read_mask(found.dataset, 0, (9, 6)), expected)


def test_boxes_of_pascal_voc_count_from_one() -> None:
    found = understand(names("JPEGImages/x.jpg"), Attachment("Annotations/x.xml", VOC.encode()))
    expected = [Box("cat", 0, 0, 2, 2, (9, 6)), Box("dog", 2, 1, 7, 4, (9, 6))]
    assert list(found.dataset.boxes[0]) == expected
    assert draw_mask(expected[1:], (9, 6)).sum() == 15


def test_a_mark_on_a_picture_of_another_size_is_scaled() -> None:
    assert draw_mask([Box("x", 0, 0, 2, 2, (4, 4))], (8, 8))[:4, :4].all()


@pytest.mark.parametrize("name", ["c.json", "c.xml"])
def test_other_json_and_xml_is_left_alone(name: str) -> None:
    assert read_annotations(Attachment(name, b"<a/>" if name.endswith("xml") else b'{"a": 1}')) == {}


BOMB = '<!DOCTYPE x [<!ENTITY a "x"><!ENTITY b "&a;&a;">]><annotation><filename>&b;</filename></annotation>'


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("c.xml", BOMB),
        ("c.xml", "<annotation><filename>x.jpg</filename><object><bndbox/></object></annotation>"),
        ("c.json", "{"),
        ("c.json", '{"images":' * 100_000),
        ("c.json", '{"images": [{"id": [1], "file_name": "x"}]}'),
        (
            "c.json",
            '{"images": [{"id": 1, "file_name": "x"}], "annotations": [{"image_id": 1, "bbox": [NaN, 0, 1, 1]}]}',
        ),
    ],
)
def test_broken_annotations_end_in_a_sentence(name: str, text: str) -> None:
    with pytest.raises(TableError, match="cannot be read as annotations"):
        read_annotations(Attachment(name, text.encode()))


def test_runs_that_are_longer_than_their_picture_end_in_a_sentence() -> None:
    with pytest.raises(TableError, match="not as large as its picture"):
        draw_mask([Box("x", 0, 0, 1, 1, (4, 4), runs=(10**9,))], (4, 4))
