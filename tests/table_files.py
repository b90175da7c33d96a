"""Tables and annotations as programs write them."""

from __future__ import annotations

import io
import json

import numpy as np
import openpyxl
import pandas as pd

#: A mask of 6 × 9 pixels (rows 1 to 3, columns 2 to 6 without the middle) as pycocotools 2.0.11 encodes it.
RUNS = "=3300NN02200;"

COCO = json.dumps(
    {
        "images": [{"id": 7, "file_name": "x.jpg", "width": 9, "height": 6}, {"id": 8, "file_name": "data/y.jpg"}],
        "categories": [{"id": 3, "name": "cat"}, {"id": 90, "name": "dog"}],
        "annotations": [
            {"image_id": 7, "category_id": 90, "bbox": [2, 1, 5, 3], "segmentation": {"counts": RUNS, "size": [6, 9]}},
            {"image_id": 7, "category_id": 3, "bbox": [0, 0, 2, 2], "segmentation": [[0, 0, 2, 0, 2, 2, 0, 2]]},
            {"image_id": 7, "category_id": 90, "bbox": [8, 5, 1, 1]},
            {"image_id": 99, "category_id": 3, "bbox": [0, 0, 1, 1]},
        ],
    }
).encode()

VOC = """<annotation><folder>x</folder><filename>x.jpg</filename><size><width>9</width><height>6</height></size>
<object><name>cat</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></object>
<object><name>dog</name><bndbox><xmin>3</xmin><ymin>2</ymin><xmax>7</xmax><ymax>4</ymax></bndbox></object>
</annotation>"""


def write_excel() -> bytes:
    book = openpyxl.Workbook()
    for row in (["Study 12, exported in May"], [], ["Image", "Diagnosis", "Age", "Sum"], ["a", "dog", 50, "=1+1"]):
        book.active.append(row)
    book.active.append(["b", "cat", None, 2.5])
    book.create_sheet("About").append(["Written by hand"])
    file = io.BytesIO()
    book.save(file)
    return file.getvalue()


def write_parquet() -> bytes:
    file = io.BytesIO()
    table = pd.DataFrame({"Diagnosis": pd.Categorical(["dog", "cat"]), "Age": [50, None], "Sum": [np.nan, 2.5]})
    table.set_index(pd.Index(["a", "b"], name="Image")).assign(raw=[b"x", b"y"]).to_parquet(file)
    return file.getvalue()
