"""Lightbox as a library: load a model, read an image, explain a decision. Importing it is free of torch."""

from explainers.compute import explain, load, predict
from explainers.images import read
from explainers.targets import choose_target

__all__ = ["choose_target", "explain", "load", "predict", "read"]
