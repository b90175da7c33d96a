"""Pictures from files, archives and folders, whatever their format, as 8-bit colour with notes on what was done."""

from explainers.images.contents import Attachment, Contents
from explainers.images.folder import File, Sample, Samples, find
from explainers.images.picture import Picture, Reading, thumbnail
from explainers.images.reading import read, read_contents

__all__ = [
    "Attachment",
    "Contents",
    "File",
    "Picture",
    "Reading",
    "Sample",
    "Samples",
    "find",
    "read",
    "read_contents",
    "thumbnail",
]
