"""Lightbox from the command line: ``python -m explainers attribute|index|prototypes|models|methods``."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from explainers.errors import LightboxError, SelectionError
from explainers.jobs import Progress

if TYPE_CHECKING:
    from explainers.images import Samples


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code: 0, or 1 after an error, which is told in a sentence."""
    options = parser().parse_args(arguments)
    try:
        options.run(options)
    except LightboxError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def parser() -> argparse.ArgumentParser:
    """Describe the commands and their options."""
    top = argparse.ArgumentParser(prog="python -m explainers", description="See where a vision model looked.")
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    models = commands.add_parser("models", help="list the sample models")
    models.set_defaults(run=list_models)
    methods = commands.add_parser("methods", help="list the attribution methods and their parameters")
    methods.set_defaults(run=list_methods)
    attribute = commands.add_parser("attribute", help="explain what a model says about an image")
    attribute.set_defaults(run=attribute_image)
    add = attribute.add_argument
    add("--model", required=True, help="a sample model's name, or a model file")
    add("--architecture", help="for a checkpoint, such as timm/resnet50; guessed if left out")
    add("--classes", type=Path, help="a file of class names (text, CSV or JSON)")
    add("--image", required=True, type=Path, help="an image file")
    add("--method", default="gradcam", help="see `python -m explainers methods` (default: gradcam)")
    add("--set", action="append", default=[], metavar="NAME=VALUE", help="a parameter of the method; may be repeated")
    add("--target", default="predicted", help="predicted, a class name or a class index (default: predicted)")
    add("--versus", default="", help="contrast with a class: predicted (the next best), a name or an index")
    add("--out", type=Path, help="where to write the heatmap as PNG")
    add("--array", type=Path, help="where to write scores and picture as .npz")
    add("--json", type=Path, help="where to write the result as JSON (default: standard output)")
    index = commands.add_parser("index", help="store what a model uses in each image of a folder; run again to go on")
    index.set_defaults(run=build_index)
    add = index.add_argument
    add("--model", required=True, help="a sample model's name, or a model file")
    add("--architecture", help="for a checkpoint, such as timm/resnet50; guessed if left out")
    add("--classes", type=Path, help="a file of class names (text, CSV or JSON)")
    add("--data", type=Path, help="a folder of images, whose folders give labels (default: the sample model's own)")
    add("--out", required=True, type=Path, metavar="STORE", help="the folder of the index, which may be there already")
    add("--layers", default="", metavar="A,B", help="names of layers (default: a late one with places)")
    add("--composite", default="automatic", help="the rules of relevance (default: automatic)")
    add("--batch", type=int, default=16, help="images that go through the network at once (default: 16)")
    add("--dask", default="", metavar="ADDRESS", help="compute on the workers of the Dask scheduler at this address")
    prototypes = commands.add_parser("prototypes", help="say whether a decision is ordinary for its class")
    prototypes.set_defaults(run=judge_image)
    add = prototypes.add_argument
    add("--model", required=True, help="a sample model's name, or a model file")
    add("--architecture", help="for a checkpoint, such as timm/resnet50; guessed if left out")
    add("--classes", type=Path, help="a file of class names (text, CSV or JSON)")
    add("--store", required=True, type=Path, help="an index of pictures to compare with, see the command index")
    add("--image", required=True, type=Path, help="an image file")
    add("--layer", default="", help="a layer of the index (default: its first)")
    add("--class", dest="target", default="predicted", help="predicted, a class name or a class index")
    add("--strategies", type=int, help="how many strategies the class has (default: as many as its samples show)")
    add("--unusual", type=float, default=5.0, help="percent of less typical samples below which it is unusual")
    add("--unlike", type=float, default=0.5, help="percent below which it is unlike anything seen for the class")
    add("--json", type=Path, help="where to write the result as JSON (default: standard output)")
    return top


def list_models(options: argparse.Namespace) -> None:
    """Print the sample models, one to a line."""
    import sample_models

    for model in sample_models.models().values():
        print(f"{model.name:24} {model.sentence}")


def list_methods(options: argparse.Namespace) -> None:
    """Print the methods with their parameters."""
    from explainers.compute import methods

    for method in methods().values():
        print(f"{method.name:24} {method.summary}")
        for parameter in method.parameters:
            bounds = f", {parameter.low:g} to {parameter.high:g}" if parameter.high else ""
            choices = f", {' | '.join(parameter.choices)}" if parameter.choices else ""
            default = parameter.default if parameter.default != "" else "automatic"
            print(f"{'':24}   --set {parameter.name}={default}{bounds}{choices}: {parameter.help}")


def attribute_image(options: argparse.Namespace) -> None:
    """Explain an image and write what was asked for."""
    from components.heatmap import View, blend, encode_png
    from explainers import compute, images
    from explainers.results import pack
    from explainers.targets import choose_target, name_target

    picture = images.read(read_file(options.image), options.image.name)[0]
    model = open_model(options)
    prediction = compute.predict(model, picture)
    target = choose_target(model.info, prediction, options.target, options.versus)
    attribution = compute.explain(model, picture, options.method, target, parameters(options.set))
    crop = model.info.preprocessing.crop(picture.pixels)
    if options.out:
        options.out.write_bytes(encode_png(blend(crop, attribution.values, attribution.signed, View()), 2))
    if options.array:
        options.array.write_bytes(pack(crop, attribution))
    result: dict[str, Any] = {
        "predictions": [
            {
                "class": model.info.class_names[index],
                "index": index,
                "probability": round(float(prediction.probabilities[index]), 6),
                "logit": float(prediction.logits[index]),
            }
            for index in prediction.top()
        ],
        "target": name_target(model.info, target),
        "output": attribution.output,
        "sum": attribution.total,
        "expected": attribution.expected,
        "provenance": attribution.provenance,
    }
    write_json(result, options.json)


def judge_image(options: argparse.Namespace) -> None:
    """Compare the decision on an image with those in an index, and write what was found."""
    from explainers import compute, images
    from explainers.index import open_index
    from explainers.prototypes.decisions import Thresholds, judge, summarise
    from explainers.prototypes.submitting import comparable_classes, find_row, submit_strategies, submit_vectors
    from explainers.results import Target
    from explainers.targets import choose_target

    thresholds, index = Thresholds(options.unusual, options.unlike), open_index(options.store)
    model, picture = open_model(options), images.read(read_file(options.image), options.image.name)[0]
    if model.info.digest != index.recipe.digest:
        raise SelectionError(
            f"The index in {options.store} belongs to another model ({index.recipe.model}). Build one of this."
        )
    layer = options.layer or next(iter(index.recipe.layers))
    klass = choose_target(model.info, compute.predict(model, picture), options.target).index
    vectors = submit_vectors(index, layer).result()
    counts = dict.fromkeys(comparable_classes(vectors)) | {klass: options.strategies}
    strategies = {
        other: submit_strategies(index, layer, vectors, other, count).result() for other, count in counts.items()
    }
    rules = {name: getattr(index.recipe, name) for name in ("composite", "epsilon", "gamma")}
    found = compute.submit_concepts(model, picture, Target(klass), layer, rules).result()
    row = find_row(index, picture.digest)
    decision = judge(vectors, strategies, klass, found.relevance, row, thresholds)
    summary = summarise(decision, strategies[klass], model.info.class_names, thresholds=thresholds)
    write_json({**summary, "provenance": found.provenance}, options.json)


def write_json(result: dict[str, Any], file: Path | None) -> None:
    """Write a result as JSON to a file, or to standard output."""
    text = json.dumps(result, indent=2, ensure_ascii=False)
    if file:
        file.write_text(text + "\n")
    else:
        print(text)


def build_index(options: argparse.Namespace) -> None:
    """Build an index, or go on with it, and tell what was added; stopped by Ctrl-C it keeps what was done."""
    from explainers.concepts.layers import default_layer
    from explainers.index import building

    samples = find_samples(options)
    model = open_model(options)
    layers = [name.strip() for name in options.layers.split(",")] if options.layers else [default_layer(model)]
    job = building.start(
        model, samples, options.out, layers, composite=options.composite, batch=options.batch, cluster=options.dask
    )
    try:
        while not job.wait(0.5):
            show_progress(job.steps)
    except KeyboardInterrupt:
        job.cancel()
    finally:
        if sys.stderr.isatty():
            print(file=sys.stderr)
    built = job.result()
    for sentence in (*built.notes, *built.unreadable):
        print(sentence, file=sys.stderr)
    print(f"{built.added} of {len(samples)} images added to {options.out}")


def find_samples(options: argparse.Namespace) -> Samples:
    """List the images of the folder, or without one those that a sample model brings."""
    import sample_models
    from explainers import images

    if options.data:
        return images.find(options.data)
    if options.model not in sample_models.models():
        raise SelectionError(f"{options.model} is no sample model and brings no images. Give a folder with --data.")
    return sample_models.models()[options.model].references


def show_progress(steps: Progress) -> None:
    """Overwrite one line on a terminal with how far a build is."""
    if sys.stderr.isatty():
        left = "" if steps.seconds_left is None else f", {steps.seconds_left:.0f} s left"
        print(f"\r\033[K{steps.done} of {steps.total} images, {steps.rate:.1f} a second{left}", end="", file=sys.stderr)


def open_model(options: argparse.Namespace) -> Any:
    """Load a sample model by its name, or a model file."""
    import sample_models

    if options.model in sample_models.models():
        return sample_models.load(options.model)
    if not Path(options.model).is_file():
        raise SelectionError(
            f"'{options.model}' is neither a sample model ({', '.join(sample_models.models())}) nor a file. "
            "See `python -m explainers models`."
        )
    from explainers.graph.class_names import read_class_names
    from explainers.graph.loader import load

    names = read_class_names(read_file(options.classes), options.classes.name) if options.classes else ()
    file = Path(options.model)
    return load(read_file(file), file.name, architecture=options.architecture, class_names=names)


def read_file(path: Path) -> bytes:
    """Read a file; raises SelectionError if there is none."""
    if not path.is_file():
        raise SelectionError(f"There is no file {path}. Check its name.")
    return path.read_bytes()


def parameters(given: list[str]) -> dict[str, str]:
    """Split NAME=VALUE options."""
    for item in given:
        if "=" not in item:
            raise SelectionError(f"'--set {item}' lacks a value; write --set NAME=VALUE.")
    return dict(item.split("=", 1) for item in given)


if __name__ == "__main__":
    sys.exit(main())
