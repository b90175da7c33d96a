"""What is known of one picture besides its pixels."""

from __future__ import annotations

from html import escape
from typing import Any

import pandas as pd
import streamlit as st

from explainers.cases.dataset import Dataset

STYLE = """<style>
.lightbox-known {width: 100%; font-size: 0.85rem; border-collapse: collapse; overflow-wrap: anywhere;}
.lightbox-known :is(th, td) {text-align: left; vertical-align: top; padding: 2px 8px 2px 0; font-weight: 400;}
.lightbox-known th {opacity: 0.75; width: 45%;}
</style>"""


def draw_metadata(dataset: Dataset, row: int) -> None:
    """Draw what is known of a picture, as it is written; nothing where nothing is."""
    known = {str(name): write(value) for name, value in dataset.metadata.iloc[row].items()}
    rows = [(name, value) for name, value in known.items() if value]
    if not rows:
        return
    if label := dataset.entries[row].label:
        rows.insert(0, ("label", label))
    with st.expander("About this picture"):
        cells = "".join(f'<tr><th scope="row">{escape(name)}</th><td>{escape(value)}</td></tr>' for name, value in rows)
        st.html(f'{STYLE}<table class="lightbox-known">{cells}</table>')


def write(value: Any) -> str:
    """Write a cell: whole numbers without decimals, nothing where nothing is known."""
    if pd.isna(value):
        return ""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
