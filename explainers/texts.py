"""Text files as programs write them, whatever their encoding."""

from __future__ import annotations

import codecs

MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",  # before that of UTF-16, with which it begins
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


def decode_text(data: bytes) -> str | None:
    """Decode text in UTF-8, in another encoding with its mark, in UTF-16, or as Windows writes it in the west.

    None for what is no text.
    """
    for encoding in guess_encodings(data):
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError:
            continue
        if encoding == "utf-8-sig" or all(letter.isprintable() or letter.isspace() for letter in set(text)):
            return text
    return None


def guess_encodings(data: bytes) -> tuple[str, ...]:
    """List the encodings to try, the likeliest first; text in the west has a zero in every other byte of UTF-16."""
    for mark, encoding in MARKS.items():
        if data.startswith(mark):
            return (encoding,)
    head = data[:1000]
    if head and len(head) % 2 == 0 and head.count(0) > len(head) // 4:
        return ("utf-16-le" if head[1] == 0 else "utf-16-be",)
    return ("utf-8-sig", "cp1252")
