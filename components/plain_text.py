"""Text that came from outside on its way onto the page: shown as it is, never read as markup."""

from __future__ import annotations


def plain(text: str) -> str:
    """Keep names from being read as Markdown."""
    return "".join(f"\\{sign}" if sign in "\\`*_{}[]<>()#+-.!|~$:" else sign for sign in text)
