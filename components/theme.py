"""The icon, the accent colour, and the few rules of style that the theme's settings cannot express."""

from __future__ import annotations

import streamlit as st
from PIL import Image, ImageDraw

#: Seen on light and on dark; the theme's primary colours are its darker and lighter siblings, of which words are made.
ACCENT, ACCENT_WORDS = "#1a989f", "light-dark(#0b6e75, #4fc3c9)"

# Streamlit writes in white on the primary colour, and Plotly in grey: too faint on a dark and on a light page.
STYLE = f"""<style>
.stMainBlockContainer {{padding: 4.5rem 2rem 2rem;}}
.stSidebar .stFileUploaderDropzone {{padding: 0.5rem 0.75rem;}}
.stMain :is(h1, h2) {{padding: 0.5rem 0;}}
.stApp :is(a, button, summary, figure, main, [tabindex="0"]):focus-visible {{
  outline: 2px solid {ACCENT_WORDS}; outline-offset: 2px;}}
.stApp main:focus-visible {{outline-offset: -4px;}}
.stApp :is([data-testid^="stBaseButton-primary"], [data-tag]) {{color: light-dark(#ffffff, #14181b);}}
.stPlotlyChart :is(.xy, .infolayer) text {{fill: currentColor !important;}}
</style>"""


def apply_theme() -> None:
    """Set the spacing that puts pictures first."""
    st.html(STYLE)


def draw_icon() -> Image.Image:
    """A sheet of film on a lightbox; drawn here because named icons would be fetched from another server."""
    icon = Image.new("RGBA", (64, 64))
    draw = ImageDraw.Draw(icon)
    draw.rounded_rectangle((4, 4, 60, 60), 12, fill=ACCENT)
    draw.rounded_rectangle((14, 14, 50, 50), 4, fill="#fcfcfa")
    draw.ellipse((24, 22, 42, 40), fill="#f2a93b")
    return icon
