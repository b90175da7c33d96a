"""Class names as tools write them: in the order of the outputs, or refused in a sentence."""

from __future__ import annotations

import json

import pytest

from explainers.errors import ModelError
from explainers.graph.class_names import read_class_names
from tests.conftest import ROOT

CASES = ROOT / "tests" / "cases"

COCO = [
    {"supercategory": "person", "id": 1, "name": "person"},
    {"id": 90, "name": "toothbrush"},
    {"id": 13, "name": "stop sign"},
]

FEATURES = {"image": {"_type": "Image"}, "label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}

README = """
dataset_info:
  features:
  - name: image
    dtype: image
  - name: label
    dtype:
      class_label:
        names:
          '0': cat
          '1': dog
"""

LABEL_MAP = "item {\n  id: 2\n  name: 'n02'\n  display_name: \"dog\"\n}\nitem {\n  id: 1\n  name: 'cat'\n}\n"


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("config.json", {"id2label": {str(place): f"name {place}" for place in range(11)}}, None),
        ("config.json", {"label2id": {"dog": "1", "cat": "0"}}, ("cat", "dog")),
        ("config.json", {"vision": {"id2label": {"1": "dog", "0": "cat"}}, "labels": None}, ("cat", "dog")),
        ("timm.json", {"num_classes": 2, "label_names": ["cat", "dog"], "label_descriptions": {}}, ("cat", "dog")),
        ("metadata.json", {"packageName": "@teachablemachine/image", "labels": ["cat", "dog"]}, ("cat", "dog")),
        ("instances.json", {"info": {}, "images": [], "categories": COCO}, ("person", "stop sign", "toothbrush")),
        ("list.json", COCO, ("person", "stop sign", "toothbrush")),
        ("list.json", [{"id": "1", "name": "dog"}, {"id": "0", "name": "cat"}], ("cat", "dog")),
        ("labels.json", [{"name": "cat", "attributes": []}, {"name": "dog", "attributes": []}], ("cat", "dog")),
        ("class_indices.json", {"dog": 1, "cat": 0}, ("cat", "dog")),
        ("classes.json", {"idx_to_class": {"0": "cat", "1": "dog"}}, ("cat", "dog")),
        ("index_to_name.json", {"index_to_name": {"0": "cat", "1": "dog"}, "nc": 2}, ("cat", "dog")),
        ("learner.json", {"vocab": ["cat", "dog"]}, ("cat", "dog")),
        ("dataset_info.json", {"features": FEATURES}, ("cat", "dog")),
        ("README.yaml", README, ("cat", "dog")),
        ("data.yaml", "train: ../train/images\nnc: 2\nnames: ['cat', 'no']\n", ("cat", "no")),
        ("coco128.yml", "path: ../coco\nnames:\n  0: cat\n  1: dog\nnc: 2\n", ("cat", "dog")),
        ("coco.names", "cat\ndog\n", ("cat", "dog")),
        ("label_map.pbtxt", LABEL_MAP, ("cat", "dog")),
        ("labels.txt", "0\tcat\n1\tdog\n", ("cat", "dog")),
        ("names.tsv", "id\tname\n1\tdog\n0\tcat\n", ("cat", "dog")),
        ("names.txt", "Me\u0301lanome\nnaevus\n", ("M\u00e9lanome", "naevus")),
    ],
)
def test_names_are_read_as_tools_write_them(name: str, text: object, expected: tuple[str, ...] | None) -> None:
    written = text if isinstance(text, str) else json.dumps(text)
    assert read_class_names(written.encode(), name) == (expected or tuple(f"name {place}" for place in range(11)))


def test_the_files_that_people_brought_are_read() -> None:
    read = {name: read_class_names((CASES / name).read_bytes(), name) for name in KNOWN}
    assert read == KNOWN


KNOWN = {"k_config.json": ("cat", "dog"), "k_labels_teachable_machine.txt": ("cat", "dog", "bird")}


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("data.yaml", "nc: 3\nnames: [cat, dog]\n", "3 classes \\(nc\\) and names 2"),
        ("list.json", '[{"id": 1, "name": "cat"}, {"id": 1, "name": "dog"}]', "same id"),
        ("list.json", '[{"id": 1, "file": "cat"}]', "without a name"),
        ("labels.xml", "<labels><label>cat</label></labels>", "XML or HTML"),
        ("label_map.pbtxt", "item {\n id: 7\n name: 'cat'\n}\n", "without a gap"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_a_sentence(name: str, text: str, told: str) -> None:
    with pytest.raises(ModelError, match=told):
        read_class_names(text.encode(), name)


def test_yaml_that_names_its_parts_again_and_again_is_searched_once() -> None:
    lines = ["a0: &a0 [[x]]"]
    lines += [f"a{place}: &a{place} [{', '.join([f'*a{place - 1}'] * 9)}]" for place in range(1, 40)]
    with pytest.raises(ModelError):
        read_class_names("\n".join(lines).encode(), "names.yaml")
