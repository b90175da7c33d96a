"""Pictures from files, archives and folders, whatever their format, as 8-bit colour with notes on what was done."""

from explainers.images.apart import following, read, read_contents, read_folder
from explainers.images.contents import Attachment, Contents
from explainers.images.folder import File, Sample, Samples, find
from explainers.images.kept import Kept
from explainers.images.picture import Picture, Reading, thumbnail

__all__ = [
    "Attachment",
    "Contents",
    "File",
    "Kept",
    "Picture",
    "Reading",
    "Sample",
    "Samples",
    "find",
    "following",
    "read",
    "read_contents",
    "read_folder",
    "thumbnail",
]
