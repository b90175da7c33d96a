"""The cache's counters as figures with units."""

from __future__ import annotations

import streamlit as st

from explainers.cache import Counters


def draw_counters(counters: Counters, limit: int) -> None:
    """Draw what was asked for, what it cost, and what the cache holds."""
    found = counters.hits + counters.disk_hits + counters.joined
    figures = [
        ("Predictions computed", counters.computed.get("Prediction", 0), "Each distinct one once."),
        ("Heatmaps computed", counters.computed.get("Attribution", 0), "Each distinct one once."),
        ("Answered without computing", found, "From memory, from disk, or by joining another request."),
        ("Forward passes", counters.forward, "Calls of a network on a batch of images."),
        ("Backward passes", counters.backward, "Gradients or relevance through a network."),
        ("Images through a network", counters.images, "The images of all forward passes."),
        (
            "Results in memory",
            counters.entries,
            f"{counters.evictions:,} left to make room.",
        ),
        ("Memory used (MB)", round(counters.bytes / 1e6, 1), f"Of at most {limit / 1e6:,.0f} MB."),
        ("Stopped or failed", counters.cancelled + counters.errors, "Never kept: asked again, tried again."),
    ]
    for start in range(0, len(figures), 3):
        for column, (title, value, help) in zip(st.columns(3), figures[start : start + 3], strict=True):
            column.metric(title, f"{value:,}", help=help)
    st.caption(
        f"{counters.hits:,} from memory · {counters.disk_hits:,} from disk · {counters.joined:,} joined another "
        f"request · {counters.misses:,} computations begun"
    )
