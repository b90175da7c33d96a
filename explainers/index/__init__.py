"""The index: one pass over a reference set, from which reference samples, prototypes and outliers are read.

Importing and reading it is free of torch.
"""

from explainers.index.reading import Index, open_index
from explainers.index.recipe import Recipe
from explainers.index.samples import Upload

__all__ = ["Index", "Recipe", "Upload", "open_index"]
