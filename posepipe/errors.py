"""The exceptions that posepipe raises on purpose.

::

    PosepipeError                 catch this to catch all of them
    ├── ImageError                an image is missing, unreadable or truncated
    │   └── ImageTooLargeError    it has more pixels than are allowed
    ├── DocumentError             a JSON file (boxes, keypoints, annotations) has the wrong shape
    ├── RecipeError               a model's recipe.toml is missing or has a wrong field
    ├── WeightsError              a model's weights are missing, damaged or of another network
    ├── DownloadError             a model's weights cannot be downloaded, or may not be (offline)
    ├── OptionError               a setting contradicts another one or the input
    ├── MissingDependencyError    an optional package is needed and not installed
    ├── EvaluationError           results and annotations do not fit together
    └── TrainingError             a training run cannot start or continue, or has failed

Each message is one line that names the thing, its value, and the remedy. The command line
prints that line and exits with status 1.
"""

from __future__ import annotations

_LONGEST = 2000


class PosepipeError(Exception):
    """Base of every error that posepipe raises on purpose."""

    def __str__(self) -> str:
        """The message in one line, truncated if it is too long."""
        text = "\\n".join(super().__str__().splitlines())
        return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 500]} … {text[-400:]}"


class ImageError(PosepipeError):
    """An image is missing, unreadable, truncated or too large."""


class ImageTooLargeError(ImageError):
    """An image has more pixels than are allowed."""


class DocumentError(PosepipeError):
    """A JSON file has the wrong shape or cannot be read or written."""


class RecipeError(PosepipeError):
    """A model's recipe is missing or has a wrong field."""


class WeightsError(PosepipeError):
    """A model's weights are missing, damaged, or belong to another network."""


class DownloadError(PosepipeError):
    """A download failed: no network, no such file, a wrong checksum, or a full disk."""


class OptionError(PosepipeError):
    """A setting contradicts another one or the input."""


class MissingDependencyError(PosepipeError):
    """An optional package is needed and not installed."""


class EvaluationError(PosepipeError):
    """Results and annotations do not fit together."""


class TrainingError(PosepipeError):
    """A training run cannot start or continue, or its loss is not finite."""
