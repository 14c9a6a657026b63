"""The exceptions that posepipe raises on purpose.

::

    PosepipeError                 catch this to catch all of them
    ├── ImageError                a picture is missing, unreadable or truncated
    │   └── ImageTooLargeError    it has more pixels than are allowed
    ├── DocumentError             a JSON file (boxes, keypoints, annotations) has the wrong shape
    ├── RecipeError               a model's recipe.toml is missing or has a wrong field
    ├── WeightsError              a model's weights are missing, damaged or of another network
    ├── DownloadError             a model's weights cannot be fetched, or may not be (offline)
    ├── OptionError               a setting contradicts another one or the input
    ├── MissingDependencyError    an optional package is needed and absent
    ├── EvaluationError           results and annotations do not fit together
    └── TrainingError             a training run cannot begin, go on, or has come to nothing

Each message is one line that names the thing, its value, and the remedy. The command line
prints that line and exits with status 1.
"""

from __future__ import annotations

_LONGEST = 2000


class PosepipeError(Exception):
    """Base of every error that posepipe raises on purpose."""

    def __str__(self) -> str:
        """The message, in one line whatever names are in it; what is too long of it is cut."""
        text = "\\n".join(super().__str__().splitlines())
        return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 500]} … {text[-400:]}"


class ImageError(PosepipeError):
    """A picture is missing, unreadable, truncated or too large."""


class ImageTooLargeError(ImageError):
    """A picture has more pixels than are allowed."""


class DocumentError(PosepipeError):
    """A JSON file has the wrong shape or cannot be read or written."""


class RecipeError(PosepipeError):
    """A model's recipe is missing or has a wrong field."""


class WeightsError(PosepipeError):
    """A model's weights are missing, damaged, or belong to another network."""


class DownloadError(PosepipeError):
    """A file cannot be fetched: no network, no such file there, a wrong checksum, no room."""


class OptionError(PosepipeError):
    """A setting contradicts another one or the input."""


class MissingDependencyError(PosepipeError):
    """An optional package is needed and absent."""


class EvaluationError(PosepipeError):
    """Results and annotations do not fit together."""


class TrainingError(PosepipeError):
    """A training run cannot begin or go on, or its loss is no longer a number."""
