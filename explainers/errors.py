"""Everything that can go wrong in Lightbox, as one tree of errors.

Each message is one or two sentences for the person at the screen: what was found, what was expected, what to do next.
"""


class LightboxError(Exception):
    """The root of every error that a page shows as a sentence."""


class ImageError(LightboxError):
    """An image, archive or folder of images that cannot be read."""


class TableError(LightboxError):
    """A table or a file of annotations that cannot be read."""


class ModelError(LightboxError):
    """A model that cannot be loaded, exported or run."""


class UnsafeFileError(ModelError):
    """A model file that could run code when opened, refused unopened."""


class UnsupportedOperatorError(ModelError):
    """An operator of the graph for which there is no rule."""


class SelectionError(LightboxError):
    """A target, layer, method or parameter that does not fit the model."""


class ComputationError(LightboxError):
    """A computation that ended without a usable result, such as a model output that is not finite."""


class LimitError(LightboxError):
    """What this server cannot take on now, because one session or all together hold as much as they may."""


class NotesError(LightboxError):
    """A name, tag or file of notes that cannot be kept or read."""


class SettingError(LightboxError):
    """A setting of the server that cannot be used."""


class CancelledError(LightboxError):
    """A computation that was stopped on request."""


def revive(name: object, message: object) -> LightboxError | None:
    """Make the error that another process names; None for what is none of this tree or says nothing."""
    kind = globals().get(str(name))
    if isinstance(kind, type) and issubclass(kind, LightboxError) and isinstance(message, str):
        return kind(message)
    return None
