"""The one way to ask: through the cache, on a worker, counted, with where the answer comes from. Free of torch."""

from __future__ import annotations

import time
from dataclasses import asdict, replace
from functools import partial
from typing import Any

from explainers.breakdown import telling_breakdown
from explainers.cache import Cache, Job, code_digest, current_cache, digest, shared_cache
from explainers.errors import SelectionError
from explainers.jobs import Passes, Progress, passes
from explainers.questions import A, Question, R
from explainers.relevance.concepts.tapes import TAPES
from explainers.subjects import Network
from explainers.under_way import computing
from explainers.versions import versions


def ask(question: Question[A, R], about: A, *, cache: Cache | None = None, urgency: int = 0) -> Job[R]:
    """Ask a question; its answer is computed once, however many ask, and nothing of an upload reaches the disk.

    ``urgency`` 1 lets others go first. What is asked within another answer is there when this returns. Whatever breaks
    down in answering is a ComputationError of the job. Raises SelectionError if the question cannot be asked of the
    model.
    """
    about = about.narrow(question.subject)  # type: ignore[assignment]  # which is A
    if isinstance(about, Network) and (reason := question.unsuitable(about.info)):
        raise SelectionError(reason)
    uploads = about.uploads
    job = (cache or current_cache()).submit(
        identify(question, about),
        lambda progress: _answer(question, about, progress),
        durable=question.durable and not uploads,
        about=uploads,
        urgency=urgency,
        here=question.instant,
    )
    job.adapt = partial(add_names, names=about.names)
    return job


def add_names(found: R, names: dict[str, Any]) -> R:
    """Say in an answer's provenance what who asks calls what it is about: equal things may have other names."""
    return replace(found, provenance={**names, **found.provenance}) if names else found


def is_known(question: Question[A, R], about: A, *, cache: Cache | None = None) -> bool:
    """Tell whether a question was answered before, so that asking it again costs nothing."""
    return (cache or current_cache()).holds(identify(question, about))


def identify(question: Question[A, R], about: A) -> str:
    """Name a question about something by all that the answer depends on: the key under which it is kept."""
    about = about.narrow(question.subject)  # type: ignore[assignment]  # which is A
    named = about.class_names if question.reads_labels else ()
    return digest(code_digest(), versions(), question.name, asdict(question), about.identity, named)


def _answer(question: Question[A, R], about: A, progress: Progress) -> R:
    start = time.perf_counter()
    with computing(question.name, progress), telling_breakdown(question.title):
        found = question.answer(about, progress)
        found.require_finite(question.title)
    provenance: dict[str, Any] = {
        **about.description,
        "question": question.name,
        "parameters": asdict(question),
        "citation": question.citation,
        **found.provenance,
        "passes": vars(passes.get(Passes())),
        "seconds": round(time.perf_counter() - start, 3),
        "computed": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "versions": versions(),
    }
    return replace(found, provenance=provenance)


def forget(content: str) -> None:
    """Drop all answers and recorded passes of a picture or model, by its digest, when its session ends."""
    shared_cache().forget(content)
    TAPES.forget(content)
