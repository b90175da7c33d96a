"""Lightbox as a library: load a model, read an image, ask about a decision. Importing it is free of torch."""

from explainers.asking import ask
from explainers.attribution.method import make_method
from explainers.graph.sandbox import load
from explainers.images import read
from explainers.predictions import predict
from explainers.subjects import Case, Input
from explainers.targets import choose_target

__all__ = ["Case", "Input", "ask", "choose_target", "load", "make_method", "predict", "read"]
