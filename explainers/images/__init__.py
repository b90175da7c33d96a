"""Pictures from files, archives and folders, whatever their format, as 8-bit colour with notes on what was done."""

from explainers.images.folder import File, Sample, Samples, find
from explainers.images.picture import Picture, thumbnail
from explainers.images.reading import read

__all__ = ["File", "Picture", "Sample", "Samples", "find", "read", "thumbnail"]
