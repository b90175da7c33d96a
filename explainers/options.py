"""What questions are asked about, as a command line says it: its options, and how it is read from them."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from explainers.errors import SelectionError
from explainers.outputs import KINDS
from explainers.questions import Question
from explainers.subjects import S, Subject

if TYPE_CHECKING:
    from explainers.cases.arranging import Arrangement, Choice, Material
    from explainers.cases.dataset import Dataset

#: What has been read so far, by the subject's field.
About = Mapping[str, Any]

OPTIONS: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "model": {
        "--model": {"required": True, "help": "a sample model's name, or a model file"},
        "--architecture": {"help": "for a checkpoint, such as timm/resnet50; guessed if left out"},
        "--kind": {"choices": [*KINDS], "help": "what the outputs mean; guessed if left out"},
        "--unit": {"default": "", "help": "what numbers are measured in, such as years"},
        "--classes": {"type": Path, "dest": "class_names", "help": "a file of class names (text, CSV or JSON)"},
    },
    "picture": {"--image": {"required": True, "type": Path, "help": "an image file"}},
    "target": {
        "--target": {"default": "predicted", "help": "predicted, a class name or a class index (default: predicted)"},
        "--versus": {"default": "", "help": "contrast with a class: predicted (the next best), a name or an index"},
    },
    "index": {"--store": {"required": True, "type": Path, "help": "an index of pictures, see the command index"}},
    "layer": {"--layer": {"default": "", "help": "a layer of the index (default: its first)"}},
    "samples": {
        "--data": {
            "type": Path,
            "help": "a folder of images, whose folders, or tables in it, give labels (default: the model's)",
        },
        "--table": {"type": Path, "help": "a table about the images: CSV, Excel or Parquet (default: those in --data)"},
        "--label": {"default": "", "metavar": "COLUMN", "help": "the table's column of labels, or several: A,B"},
        "--classes-from-folders": {
            "action": "store_true",
            "help": "call the model's classes as the labels are, in alphabetical order",
        },
    },
}


def add_options(command: ArgumentParser, about: Iterable[str], options: Mapping[str, Mapping[str, Any]]) -> None:
    """Give a command the options that say what it is about, by the fields of subjects, and its own by their names."""
    for part in (*(OPTIONS[name] for name in about), options):
        for name, details in part.items():
            command.add_argument(name, **details)


def read_subject(kind: type[S], options: Namespace) -> S:
    """Read what a question is asked about; raises LightboxError."""
    about: dict[str, Any] = {}
    for name in name_parts(kind):
        about[name] = READERS[name](options, about)
    if "samples" in about and options.data:
        about["model"] = settle_names(options, about)
    return kind(**about)


def read_parameters(kind: type[Question[Any, Any]], options: Namespace, about: Subject) -> dict[str, str]:
    """Read the parameters that were given; a class may be called by its name."""
    names = {name.casefold(): str(index) for index, name in enumerate(about.class_names)}
    given = {parameter: getattr(options, f"set_{parameter.name}") for parameter in kind.parameters()}
    return {
        parameter.name: ",".join(names.get(part.strip().casefold(), part) for part in text.split(","))
        if parameter.kind in ("class", "classes")
        else text
        for parameter, text in given.items()
        if text is not None
    }


def name_parts(kind: type[Subject]) -> list[str]:
    """Name what a subject consists of."""
    return [field.name for field in fields(kind)]  # type: ignore[arg-type]  # subjects are dataclasses


def read_model(options: Namespace, about: About) -> Any:
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

    classes, file = options.class_names, Path(options.model)
    names = read_class_names(read_file(classes), classes.name) if classes else ()
    given = {"architecture": options.architecture, "kind": options.kind, "unit": options.unit}
    return load(read_file(file), file.name, class_names=names, **given)


def read_picture(options: Namespace, about: About) -> Any:
    """Read the image file, of several frames or pages the first."""
    from explainers import images

    return images.read(read_file(options.image), options.image.name)[0]


def read_target(options: Namespace, about: About) -> Any:
    """Find which output of the model is meant for the picture."""
    from explainers.predictions import predict
    from explainers.targets import choose_target

    model, versus = about["model"], getattr(options, "versus", "")
    return choose_target(model.info, predict(model, about["picture"]), options.target, versus)


def read_index(options: Namespace, about: About) -> Any:
    """Open the index."""
    from explainers.index import open_index

    return open_index(options.store)


def read_layer(options: Namespace, about: About) -> str:
    """Choose the layer of the index."""
    return options.layer or str(next(iter(about["index"].recipe.layers)))


def read_samples(options: Namespace, about: About) -> Any:
    """List the images of the folder with their labels, or without one those that a sample model brings."""
    import sample_models

    if options.data:
        return arrange_samples(options, about).entries
    if options.table or options.label or options.classes_from_folders:
        raise SelectionError("--table, --label and --classes-from-folders are about a folder. Give it with --data.")
    if options.model not in sample_models.models():
        raise SelectionError(f"{options.model} is no sample model and brings no images. Give a folder with --data.")
    return sample_models.models()[options.model].references


def read_dataset(options: Namespace, about: About) -> Dataset:
    """Read all that is known of the images of the folder; without one, of those that a sample model is tested on."""
    import sample_models
    from explainers.cases.dataset import Dataset

    if options.data:
        return arrange_samples(options, about)
    samples, known = read_samples(options, about), sample_models.models()[options.model]
    return Dataset(known.tests or samples, known.describe(known.tests or samples))


def arrange_samples(options: Namespace, about: About) -> Dataset:
    """List the images of the folder with labels from folders or tables; says on standard error how."""
    from explainers import images
    from explainers.cases.arranging import arrange, read_material
    from explainers.images.contents import Attachment, find_attachments

    samples = images.find(options.data)
    table = options.table
    attachments = (Attachment(table.name, read_file(table)),) if table else find_attachments(options.data)
    material, class_names = read_material(attachments), about["model"].info.class_names
    found = arrange(samples, material, class_names)
    if options.label:
        labels = tuple(part.strip() for part in options.label.split(","))
        found = arrange(samples, material, class_names, choose_labels(found, material, labels))
    for note in found.dataset.notes if attachments else ():
        print(note, file=sys.stderr)
    return found.dataset


def choose_labels(found: Arrangement, material: Material, labels: tuple[str, ...]) -> Choice:
    """Take other columns of a table as labels; raises SelectionError if no table about the images has them."""
    from explainers.cases.arranging import TABLES, Choice
    from explainers.cases.columns import Columns

    chosen = {
        name: Columns(columns.file, labels)
        for name, columns in found.columns.items()
        if {*labels} <= {*material.tables[name].columns}
    }
    if not chosen:
        known = "; ".join(f"{name}: {', '.join(map(str, material.tables[name].columns))}" for name in found.columns)
        raise SelectionError(
            f"No table about these images has the columns {', '.join(labels)}. There are {known or 'no tables'}."
        )
    return Choice(source=TABLES, columns=tuple(chosen.items()))


def settle_names(options: Namespace, about: About) -> Any:
    """Say which labels are no class of the model, and in which orders they may be; returns the model as asked for."""
    import sample_models
    from explainers.cases.dataset import collect
    from explainers.cases.orders import compare_orders, find_orders, rename
    from explainers.labels import tell_strange

    model, dataset = about["model"], collect(about["samples"])
    sentence = tell_strange([sample.label for sample in about["samples"]], model.info)
    if not sentence:
        return model
    print(sentence, file=sys.stderr)
    orders = find_orders(model.info, dataset) if options.model not in sample_models.models() else []
    if not options.classes_from_folders:
        for order in compare_orders(model, dataset) if orders else ():
            print(f"If the classes are {order.sentence}.", file=sys.stderr)
        if orders:
            print("Give --classes-from-folders for the alphabetical order, or --classes.", file=sys.stderr)
        return model
    if not orders:
        raise SelectionError("The labels cannot name the model's classes: there are not as many. Give --classes.")
    return rename(model, orders[0].names)


READERS: Mapping[str, Callable[[Namespace, About], Any]] = {
    "model": read_model,
    "picture": read_picture,
    "target": read_target,
    "index": read_index,
    "layer": read_layer,
    "samples": read_samples,
}


def read_file(path: Path) -> bytes:
    """Read a file; raises SelectionError if there is none."""
    if not path.is_file():
        raise SelectionError(f"There is no file {path}. Check its name.")
    return path.read_bytes()
