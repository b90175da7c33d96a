"""Many pictures at once: what is known of each from folders and tables, what a model says of them, where it fails."""

from explainers.cases.dataset import Dataset

__all__ = ["Dataset"]
