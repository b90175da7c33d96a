"""The one way from a model and a picture to results: through the cache, on a worker, counted.

Importing this package is cheap; torch is loaded by the first computation.
"""

from explainers.compute.attributions import explain, methods, prefetch, submit_attribution, unsuitable_methods
from explainers.compute.concepts import (
    concept_layers,
    default_concept_layer,
    layers_below,
    prefetch_concepts,
    submit_concept_heatmaps,
    submit_concepts,
    submit_parents,
    submit_what_if,
)
from explainers.compute.parts import submit_parts, submit_similarities
from explainers.compute.predictions import predict, submit_prediction, summarise
from explainers.compute.shared import forget, shared_cache
from explainers.compute.uploads import load, prepare_upload, propose, read_class_names

__all__ = [
    "concept_layers",
    "default_concept_layer",
    "explain",
    "forget",
    "layers_below",
    "load",
    "methods",
    "predict",
    "prefetch",
    "prefetch_concepts",
    "prepare_upload",
    "propose",
    "read_class_names",
    "shared_cache",
    "submit_attribution",
    "submit_concept_heatmaps",
    "submit_concepts",
    "submit_parents",
    "submit_parts",
    "submit_prediction",
    "submit_similarities",
    "submit_what_if",
    "summarise",
    "unsuitable_methods",
]
