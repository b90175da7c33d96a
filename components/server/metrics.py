"""What the server has done and holds, in figures, as Prometheus reads them: one value a line, no names of anybody."""

from __future__ import annotations

import gc
import os
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import fields
from pathlib import Path

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from streamlit.runtime import get_instance

from components.server.door import Door
from components.server.processes import children
from explainers import events, under_way
from explainers.cache import Cache, shared_cache
from explainers.index.building import builds
from explainers.owners import Budget

#: The format, and what of the cache's figures can fall.
FORMAT = "text/plain; version=0.0.4; charset=utf-8"
GAUGES = frozenset({"entries", "bytes"})

#: A figure: name, what it says, its labels and its value.
Figure = tuple[str, str, dict[str, str], float]


async def tell_metrics(request: Request) -> Response:
    """Answer with all figures of this moment."""
    return PlainTextResponse(await run_in_threadpool(write), media_type=FORMAT)


def write() -> str:
    """Write all figures: of each name first what it is, then a line for each value."""
    lines, known = list[str](), set[str]()
    for name, help_text, labels, value in find():
        if name not in known:
            known.add(name)
            kind = "counter" if name.endswith("_total") else "gauge"
            lines += [f"# HELP {name} {help_text}", f"# TYPE {name} {kind}"]
        inner = ",".join(f'{label}="{_escape(text)}"' for label, text in labels.items())
        lines.append(f"{name}{{{inner}}} {value:g}" if inner else f"{name} {value:.12g}")
    return "\n".join(lines) + "\n"


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def find() -> Iterator[Figure]:
    """Find all figures, those of one name in a row."""
    yield from _find_of_caches()
    yield "lightbox_computations_under_way", "Computations under way.", {}, under_way.count()
    for (event, kind), count in sorted(events.counts().items()):
        yield "lightbox_events_total", "What happened, by kind.", {"event": event, "kind": kind}, count
    yield from _find_of_sessions()
    yield from _find_of_process()


def _find_of_caches() -> Iterator[Figure]:
    caches: dict[str, Cache] = {"results": shared_cache(), "builds": builds()}
    counters = {name: cache.counters for name, cache in caches.items()}
    for field in fields(counters["results"]):
        if not isinstance(getattr(counters["results"], field.name), int):
            continue
        name = f"lightbox_cache_{field.name}" + ("" if field.name in GAUGES else "_total")
        for cache, one in counters.items():
            yield name, f"Of the cache: {field.name.replace('_', ' ')}.", {"cache": cache}, getattr(one, field.name)
    for cache, of in caches.items():
        waiting = sum(not computation.started for computation in list(of._under_way.values()))
        yield "lightbox_computations_waiting", "Computations that wait for a worker.", {"cache": cache}, waiting
    for kind, count in sorted(counters["results"].computed.items()):
        yield "lightbox_computed_total", "Computations that ended with a result.", {"kind": kind}, count


def _find_of_sessions() -> Iterator[Figure]:
    yield "lightbox_sessions", "Browsers connected now.", {}, Door.connected
    held = getattr(get_instance().uploaded_file_mgr, "file_storage", {})
    files = [file for session in list(held.values()) for file in list(session.values())]
    yield "lightbox_uploads", "Files that were uploaded and are held now.", {}, len(files)
    yield "lightbox_uploads_bytes", "Bytes of these files.", {}, sum(len(file.data) for file in files)
    budgets = sorted(Budget.every, key=lambda budget: budget.what)
    for budget in budgets:
        yield (
            "lightbox_held",
            "What all sessions together hold of what is bounded.",
            {"what": budget.what},
            budget.held(),
        )
    for budget in budgets:
        yield "lightbox_held_limit", "What all may hold together.", {"what": budget.what}, budget.total


def _find_of_process() -> Iterator[Figure]:
    for module, count in sorted(Counter(children().values()).items()):
        yield "lightbox_child_processes", "Processes that the server started.", {"module": module}, count
    yield "lightbox_threads", "Threads of the server.", {}, threading.active_count()
    yield "lightbox_garbage_objects", "Objects that wait for garbage collection.", {}, sum(gc.get_count())
    with suppress(OSError):
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        yield "lightbox_memory_bytes", "Memory of the server.", {}, pages * os.sysconf("SC_PAGE_SIZE")
        yield "lightbox_open_files", "Open files and connections.", {}, len(list(Path("/proc/self/fd").iterdir()))
