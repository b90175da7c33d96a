"""What a model says of many pictures: forward passes alone, in batches, while others are read. Free of torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from jaxtyping import Bool, Float32

from explainers.asking import ask, is_known
from explainers.cache import Cache
from explainers.errors import ComputationError, ImageError
from explainers.images import Picture, Sample
from explainers.index.loading import run_ahead
from explainers.index.samples import Upload
from explainers.index.subjects import ManyInputs
from explainers.info import ModelInfo
from explainers.jobs import Progress
from explainers.predictions import Prediction, summarise
from explainers.preprocessing import Preprocessing
from explainers.questions import Question
from explainers.results import Result

#: How many pictures are a question of their own, so that a stop loses no more; how many go through the network at once,
#: and how many batches are read ahead of it.
CHUNK, BATCH, AHEAD = 128, 16, 2


@dataclass(frozen=True)
class Predictions(Result):
    """What a model says of many pictures, in their order.

    ``digests`` name the pixels. What was not ``read`` has no digest and zeros for numbers; ``unreadable`` says why in
    sentences. ``logits`` and ``probabilities`` are those of ``explainers.predictions.Prediction``.
    """

    digests: tuple[str, ...]
    logits: Float32[np.ndarray, "sample class"]
    probabilities: Float32[np.ndarray, "sample likely"]
    read: Bool[np.ndarray, " sample"]
    unreadable: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.digests)

    def __getitem__(self, row: int) -> Prediction:
        return Prediction(self.logits[row], self.probabilities[row])


@dataclass(frozen=True)
class PredictAll(Question[ManyInputs, Predictions]):
    """The model's outputs for many pictures; CHUNK of them at a time, each a question that is answered once."""

    name = "predictions"
    title = "Predictions of many pictures"
    summary = "What the model says of each of many pictures, class by class."
    citation = "Bridle 1990, doi:10.1007/978-3-642-76153-9_28 (softmax)"
    subject = ManyInputs

    def answer(self, about: ManyInputs, progress: Progress) -> Predictions:
        """Ask about one part after the other; what was answered stays when this is stopped."""
        total, found = len(about.samples), list[Predictions]()
        if total <= CHUNK:
            return join(about.info, [*predict_batches(about, progress)])
        for first in range(0, total, CHUNK):
            progress(first, total)
            part = replace(about, samples=about.samples[first : first + CHUNK])
            found.append(ask(self, part).result())
        progress(total, total)
        return join(about.info, found)


def ask_about(model: object, entries: Sequence[Sample | Picture]) -> ManyInputs:
    """Make of entries what ``PredictAll`` is asked about: without labels and captions, which change no prediction."""
    return ManyInputs(model, tuple(strip(entry) for entry in entries))  # type: ignore[arg-type]  # a Model


def strip(entry: Sample | Picture) -> Sample:
    """Leave of a picture only what says where its pixels are."""
    if isinstance(entry, Picture):
        return Upload(entry.name, picture=entry)
    return entry if entry.label is None and not entry.caption else replace(entry, label=None, caption="")


def find_predictions(about: ManyInputs, cache: Cache | None = None) -> Predictions | None:
    """Give the predictions if they were computed before; None where that is still to be done."""
    if not is_known(PredictAll(), about, cache=cache):
        return None
    return ask(PredictAll(), about, cache=cache).result()


def predict_batches(about: ManyInputs, progress: Progress) -> Iterator[Predictions]:
    """Run the model on batches of pictures, while another thread reads the next ones."""
    batches = [about.samples[first : first + BATCH] for first in range(0, len(about.samples), BATCH)]
    done = 0
    with ThreadPoolExecutor(1, thread_name_prefix="reading") as pool:
        read = partial(read_batch, about.info.preprocessing)
        for batch in run_ahead(lambda samples: pool.submit(read, samples), batches, AHEAD, progress.check):
            yield predict_batch(about, batch)
            done += len(batch)
            progress(done, len(about.samples))


#: A picture's digest and what the model sees of it, or why it could not be read.
Read = tuple[str, Float32[np.ndarray, "channel height width"]] | str


def read_batch(preprocessing: Preprocessing, samples: Sequence[Sample]) -> list[Read]:
    """Read pictures and prepare them."""
    found = list[Read]()
    for sample in samples:
        try:
            picture = sample.read()
            found.append((picture.digest, preprocessing.prepare(picture)))
        except ImageError as error:
            found.append(str(error))
    return found


def predict_batch(about: ManyInputs, batch: Sequence[Read]) -> Predictions:
    """Run the model once on those pictures of a batch that could be read."""
    import torch

    inputs = [one[1] for one in batch if not isinstance(one, str)]
    outputs = iter(about.model(torch.from_numpy(np.stack(inputs))).float().numpy() if inputs else ())
    return join(
        about.info,
        [
            refuse(about.info, one) if isinstance(one, str) else predict_one(about.info, one[0], next(outputs))
            for one in batch
        ],
    )


def predict_one(info: ModelInfo, content: str, outputs: Float32[np.ndarray, "class *places"]) -> Predictions:
    """Make predictions for one picture; of one for which outputs are no numbers, a refusal."""
    try:
        one = summarise(info, outputs)
    except ComputationError as error:
        return refuse(info, str(error))
    return Predictions((content,), one.logits[None], one.probabilities[None], np.array([True]))


def refuse(info: ModelInfo, why: str) -> Predictions:
    """Make predictions for one picture about which nothing can be said."""
    empty = summarise(info, np.zeros(info.output_shape, np.float32))
    zeros = np.zeros_like(empty.logits), np.zeros_like(empty.probabilities)
    return Predictions(("",), zeros[0][None], zeros[1][None], np.array([False]), (why,))


def join(info: ModelInfo, parts: Sequence[Predictions]) -> Predictions:
    """Put the predictions of parts behind one another."""
    if not parts:
        none = refuse(info, "")
        return Predictions((), none.logits[:0], none.probabilities[:0], none.read[:0])
    return Predictions(
        tuple(one for part in parts for one in part.digests),
        np.concatenate([part.logits for part in parts]),
        np.concatenate([part.probabilities for part in parts]),
        np.concatenate([part.read for part in parts]),
        tuple(one for part in parts for one in part.unreadable),
    )
