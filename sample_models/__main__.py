"""Train the sample models, or report their figures: ``python -m sample_models train [NAME ...]``, ``... report``."""

from __future__ import annotations

import argparse
import sys

from explainers.errors import LightboxError
from explainers.settings import settings
from sample_models import models


def main(arguments: list[str] | None = None) -> int:
    """Do what the command line asks for; returns the exit code."""
    options = parser().parse_args(arguments)
    try:
        settings()
        if options.command == "train":
            from sample_models.training.recipes import train

            train(options.names)
        elif options.command == "keep":
            for model in sorted(models().values(), key=lambda model: model.name != options.name):
                model.load()
        else:
            from sample_models.report import measure, write

            print(write(measure()))
    except LightboxError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    top = argparse.ArgumentParser(prog="python -m sample_models", description="The models that come with Lightbox.")
    commands = top.add_subparsers(dest="command", required=True)
    training = commands.add_parser("train", help="train the named models, or all, and write weights and cards")
    training.add_argument("names", nargs="*", metavar="NAME")
    keeping = commands.add_parser("keep", help="trace all models, so that each opens at once, a named one first")
    keeping.add_argument("name", choices=models())
    commands.add_parser("report", help="measure the shipped models and print the figures")
    return top


if __name__ == "__main__":
    sys.exit(main())
