"""Text that came from outside on its way onto the page: shown as it is, never read as markup.

Names of files, folders, classes, layers and operators, tags, what people typed, errors that quote any of these: all go
through ``plain`` where Streamlit reads Markdown, through ``plain_in_chart`` into a Plotly chart, through
``html.escape`` into ``st.html``, and through ``file_name`` where a file that people take along is called by them.
Options of pickers with a list, cells of tables and ``alt`` are no Markdown.
"""

from __future__ import annotations

import re
from html import escape
from string import punctuation

#: Nothing, in Markdown as Streamlit has it: what it looks for in words that are read already does not reach across.
GAP = ":small[]"

#: The signs of Markdown: it lets all of these be escaped.
SIGN = re.compile(f"[{re.escape(punctuation)}]")

#: Where what is looked for in words is parted: after the colon of addresses, icons and emoji, after the at sign of a
#: mail address, before the first dot of a host, and within an arrow, a dash or a sign of comparison.
PARTING = re.compile(r"(?<=[:@])(?=.)|(?<=www)(?=\.)|(?<=[-<>~])(?=[-=>])", re.IGNORECASE)

#: What would turn the words around it about, end the line, or cannot be sent: halves of letters, controls.
UNFIT = re.compile(r"[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


#: What cannot be in names of files on some system, or means something there.
UNKEPT = re.compile(r'[/\\:*?"<>|\ufffd%$`~#&;!\x00-\x1f]')

#: The longest name of a file without its ending, in bytes; all of it may have 255.
LONGEST = 180


def plain(text: str) -> str:
    """Keep a text from being read as Markdown: all of it is shown, on one line, and nothing comes of it."""
    parts = PARTING.split(_on_one_line(text))
    marked = GAP.join(SIGN.sub(r"\\\g<0>", part) for part in parts)
    return re.sub("^ | $", "&#32;", marked)  # what is bold must not end in a space


def plain_in_chart(text: str) -> str:
    """Keep a text from being read as Plotly reads its titles and templates: tags, entities, places of values, maths."""
    words = escape(_on_one_line(text), quote=False)
    return words.replace("%", "&#37;").replace("$", "&#36;")


def file_name(text: str, ending: str) -> str:
    """Make the name of a file that is taken along of a text: no folders, no signs that a system reads, not too long.

    ``ending`` is what follows the text, such as "-concepts.csv".
    """
    kept = UNKEPT.sub("_", _on_one_line(text)).strip(" .-") or "lightbox"
    return kept.encode()[:LONGEST].decode(errors="ignore").rstrip(" .") + ending


def _on_one_line(text: str) -> str:
    return re.sub(r"\s+", " ", UNFIT.sub("\ufffd", text))
