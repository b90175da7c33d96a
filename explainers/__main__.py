"""Lightbox from the command line: ``python -m explainers COMMAND``, see ``python -m explainers --help``."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from explainers.errors import LightboxError, SelectionError
from explainers.info import ModelInfo
from explainers.jobs import Progress
from explainers.options import add_options, name_parts, read_dataset, read_parameters, read_subject
from explainers.parameters import Parameter
from explainers.predictions import Prediction
from explainers.questions import Question, questions
from explainers.settings import settings

#: An array of more numbers than this is not written as JSON but by ``--array``.
NUMBERS = 10_000

JSON: Mapping[str, Any] = {
    "--json": {"type": Path, "help": "where to write the result as JSON (default: standard output)"}
}
ATTRIBUTE: Mapping[str, Any] = {
    "--method": {"default": "gradcam", "help": "see `python -m explainers methods` (default: gradcam)"},
    "--set": {"action": "append", "default": [], "metavar": "NAME=VALUE", "help": "a parameter; may be repeated"},
    "--out": {"type": Path, "help": "where to write the heatmap as PNG"},
    "--array": {"type": Path, "help": "where to write scores and picture as .npz"},
    **JSON,
}
INDEX: Mapping[str, Any] = {
    "--out": {"required": True, "type": Path, "metavar": "STORE", "help": "the index's folder, which may be there"},
    "--layers": {"default": "", "metavar": "A,B", "help": "names of layers (default: a late one with places)"},
    "--composite": {"default": "automatic", "help": "the rules of relevance (default: automatic)"},
    "--batch": {"type": int, "default": 16, "help": "images that go through the network at once (default: 16)"},
    "--dask": {"default": "", "metavar": "ADDRESS", "help": "compute on the workers of this Dask scheduler"},
}
FAILURES: Mapping[str, Any] = {
    "--out": {"type": Path, "metavar": "CASES.CSV", "help": "where to write a row for each image"},
    "--slices": {"type": int, "default": 10, "help": "how many of the worst slices are told (default: 10)"},
}
PROTOTYPES: Mapping[str, Any] = {
    "--class": {"dest": "target", "default": "predicted", "help": "predicted, a class name or a class index"},
    "--strategies": {"type": int, "default": 0, "help": "how many the class has (default: as its samples show)"},
    "--unusual": {"type": float, "default": 5.0, "help": "percent of less typical samples below which it is unusual"},
    "--unlike": {"type": float, "default": 0.5, "help": "percent below which it is unlike anything seen for the class"},
    **JSON,
}


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code: 0, or 1 after an error, which is told in a sentence."""
    options = parser().parse_args(arguments)
    try:
        settings()  # a wrong one is told before anything is computed with it
        options.run(options)
    except LightboxError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def parser() -> ArgumentParser:
    """Describe the commands and their options."""
    top = ArgumentParser(prog="python -m explainers", description="See where a vision model looked.")
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    for name, (run, about, options, help) in COMMANDS.items():
        command = commands.add_parser(name, help=help)
        command.set_defaults(run=run)
        add_options(command, about, options)
    asking = commands.add_parser("ask", help="ask any question, see `python -m explainers questions`")
    names = asking.add_subparsers(required=True, metavar="QUESTION")
    for name, kind in questions().items():
        describe_question(names.add_parser(name, help=kind.summary, description=kind.summary), kind)
    return top


def describe_question(command: ArgumentParser, kind: type[Question[Any, Any]]) -> None:
    """Give a question's command its options: what it is asked about, its parameters, and where the answer goes."""
    command.set_defaults(run=ask_question, question=kind)
    add_options(
        command, name_parts(kind.subject), {"--array": {"type": Path, "help": "the whole answer as .npz"}, **JSON}
    )
    for parameter in kind.parameters():
        words = tell_parameter(parameter).replace("%", "%%")
        command.add_argument(f"--{parameter.name}", dest=f"set_{parameter.name}", metavar="VALUE", help=words)


def list_models(options: Namespace) -> None:
    """Print the sample models, one to a line."""
    import sample_models

    for model in sample_models.models().values():
        print(f"{model.name:24} {model.sentence}")


def list_questions(options: Namespace, family: str = "", option: str = "--") -> None:
    """Print what can be asked, with parameters and sources."""
    for question in questions(family).values():
        print(f"{question.name:24} {question.summary}")
        print(f"{'':24} about: {', '.join(name_parts(question.subject))} · {question.citation}")
        for parameter in question.parameters():
            print(f"{'':24}   {option}{parameter.name}={tell_parameter(parameter)}")


def tell_parameter(parameter: Parameter) -> str:
    """Say a parameter's default, bounds and meaning."""
    bounds = f", {parameter.low:g} to {parameter.high:g}" if parameter.high else ""
    choices = f", {' | '.join(parameter.choices)}" if parameter.choices else ""
    empty = "none" if parameter.kind == "text" else "automatic"
    default = empty if parameter.default in ("", ()) else parameter.default
    return f"{default}{bounds}{choices}: {parameter.help}"


def ask_question(options: Namespace) -> None:
    """Ask a question about what the options say, and write the answer."""
    from explainers.asking import ask
    from explainers.results import store

    about = read_subject(options.question.subject, options)
    found = ask(options.question.make(read_parameters(options.question, options, about)), about).result()
    if options.array:
        options.array.write_bytes(store(found))
    write_json(tell_result(vars(found)), options.json)


def tell_result(found: Any) -> Any:
    """Make plain values of a result, without arrays of more than NUMBERS numbers."""
    if isinstance(found, np.ndarray):
        return found.tolist() if found.size <= NUMBERS else f"{found.dtype}{list(found.shape)}: written by --array"
    if isinstance(found, Mapping):
        return {str(key): tell_result(value) for key, value in found.items()}
    if isinstance(found, (list, tuple)):
        return [tell_result(value) for value in found]
    return tell_result(vars(found)) if hasattr(found, "__dict__") else found


def attribute_image(options: Namespace) -> None:
    """Explain an image and write what was asked for."""
    from components.heatmap import View, blend, encode_png
    from explainers.asking import ask
    from explainers.attribution.method import make_method, pack
    from explainers.predictions import Predict
    from explainers.subjects import Case
    from explainers.targets import name_target

    given = split_pairs(options.set)
    case = read_subject(Case, options)
    prediction, attribution = ask(Predict(), case).result(), ask(make_method(options.method, given), case).result()
    crop = case.info.preprocessing.view(case.picture)
    if options.out:
        options.out.write_bytes(encode_png(blend(crop, attribution.values, attribution.signed, View()), 2))
    if options.array:
        options.array.write_bytes(pack(crop, attribution))
    said = [tell_output(case.info, prediction, index) for index in prediction.top()]
    result = {"predictions": said, "target": name_target(case.info, case.target), "output": attribution.output}
    sums = {"sum": attribution.total, "expected": attribution.expected}
    write_json({**result, **sums, "provenance": attribution.provenance}, options.json)


def tell_output(info: ModelInfo, prediction: Prediction, index: int) -> dict[str, Any]:
    """Write one output as JSON values: how likely it is, or a number with its unit."""
    score = float(prediction.logits[index])
    named: dict[str, Any] = {"class": info.class_names[index], "index": index}
    if not len(prediction.probabilities):
        return {**named, "value": score, "unit": info.unit}
    return {**named, "probability": round(float(prediction.probabilities[index]), 6), "logit": score}


def judge_image(options: Namespace) -> None:
    """Compare the decision on an image with those in an index, and write what was found."""
    from explainers.asking import ask
    from explainers.index.subjects import CaseInIndex, IndexLayer
    from explainers.prototypes.decisions import JudgeDecision, Thresholds, summarise
    from explainers.prototypes.strategies import FindStrategies

    thresholds = Thresholds(options.unusual, options.unlike)
    case = read_subject(CaseInIndex, options)
    decision = ask(JudgeDecision(strategies=options.strategies, **vars(thresholds)), case).result()
    strategies = ask(FindStrategies(decision.klass, options.strategies), case.narrow(IndexLayer)).result()
    summary = summarise(decision, strategies, case.info.decision_names, thresholds=thresholds)
    write_json({**summary, "provenance": decision.provenance}, options.json)


def build_index(options: Namespace) -> None:
    """Build an index, or go on with it, and tell what was added; stopped by Ctrl-C it keeps what was done."""
    from explainers.concepts.layers import list_layers
    from explainers.index import building
    from explainers.index.subjects import ManyInputs

    about = read_subject(ManyInputs, options)
    given = [name.strip() for name in options.layers.split(",") if name.strip()]
    layers = given or [list_layers(about.model).default]
    chosen = {"composite": options.composite, "batch": options.batch, "cluster": options.dask}
    job = building.start(about.model, about.samples, options.out, layers, **chosen)
    built = wait_for(job)
    for sentence in (*built.notes, *built.unreadable):
        print(sentence, file=sys.stderr)
    print(f"{built.added} of {len(about.samples)} images added to {options.out}")


def tell_failures(options: Namespace) -> None:
    """Print how right a model is on many images and for whom it fails; write the cases where that is asked for."""
    from explainers.asking import ask
    from explainers.cases.figures import summarise, why_nothing
    from explainers.cases.outcomes import find_outcomes
    from explainers.cases.predictions import PredictAll, ask_about
    from explainers.cases.report import tell_figure, tell_slices, tell_summary
    from explainers.cases.slices import find_slices
    from explainers.cases.table import tabulate, write_cases
    from explainers.subjects import Network

    about = read_subject(Network, options)
    dataset = read_dataset(options, {"model": about.model})
    predictions = wait_for(ask(PredictAll(), ask_about(about.model, dataset.entries)))
    outcomes = find_outcomes(about.info, dataset, predictions)
    table = tabulate(about.info, dataset, predictions, {}, outcomes)
    for sentence in predictions.unreadable:
        print(sentence, file=sys.stderr)
    if options.out:
        options.out.write_bytes(write_cases(table))
    if reason := why_nothing(outcomes):
        raise SelectionError(reason)
    figures, slices = summarise(outcomes), find_slices(outcomes, table)
    print(*tell_summary(outcomes, figures[0], slices), *map(tell_figure, figures), sep="\n")
    print(*tell_slices(slices, figures[0].unit, options.slices), sep="\n")


def wait_for(job: Any) -> Any:
    """Wait for the end of a computation and show how far it is; stopped by Ctrl-C it keeps what was done."""
    try:
        while not job.wait(0.5):
            show_progress(job.steps)
    except KeyboardInterrupt:
        job.cancel()
    finally:
        if sys.stderr.isatty():
            print(file=sys.stderr)
    return job.result()


def show_progress(steps: Progress) -> None:
    """Overwrite one line on a terminal with how far a build is."""
    if sys.stderr.isatty():
        left = "" if steps.seconds_left is None else f", {steps.seconds_left:.0f} s left"
        print(f"\r\033[K{steps.done} of {steps.total} images, {steps.rate:.1f} a second{left}", end="", file=sys.stderr)


def write_json(result: Any, file: Path | None) -> None:
    """Write a result as JSON to a file, or to standard output."""
    text = json.dumps(result, indent=2, ensure_ascii=False)
    if file:
        file.write_text(text + "\n")
    else:
        print(text)


def split_pairs(given: list[str]) -> dict[str, str]:
    """Split NAME=VALUE options; raises SelectionError."""
    for item in given:
        if "=" not in item:
            raise SelectionError(f"'--set {item}' lacks a value; write --set NAME=VALUE.")
    return dict(item.split("=", 1) for item in given)


#: The commands but for ``ask``: what each runs, what it is about, its own options, and what it does.
COMMANDS: Mapping[str, tuple[Any, tuple[str, ...], Mapping[str, Any], str]] = {
    "models": (list_models, (), {}, "list the sample models"),
    "methods": (
        partial(list_questions, family="attribution", option="--set "), (), {},
        "list the attribution methods and their parameters",
    ),
    "questions": (list_questions, (), {}, "list all that can be asked, with its parameters and sources"),
    "attribute": (
        attribute_image, ("model", "picture", "target"), ATTRIBUTE, "explain what a model says about an image",
    ),
    "index": (
        build_index, ("model", "samples"), INDEX,
        "store what a model uses in each image of a folder; run again to go on",
    ),
    "failures": (
        tell_failures, ("model", "samples"), FAILURES, "say how right a model is on many images, and for whom it fails",
    ),
    "prototypes": (
        judge_image, ("model", "picture", "index", "layer"), PROTOTYPES,
        "say whether a decision is ordinary for its class",
    ),
}  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
