"""What is known of the pictures from folders and tables: how it was understood, and ways to correct that."""

from __future__ import annotations

from collections.abc import Sequence

from explainers.cases.dataset import Dataset, collect
from explainers.images import Attachment, Picture, Sample


def understand(entries: Sequence[Sample | Picture], attachments: Sequence[Attachment]) -> Dataset:
    """Draw how folders and tables were understood, with pickers to correct that; returns the pictures as understood."""
    return collect(entries)
