"""Images as Python callers give them: taken in parts, and their results handed over."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Literal, TypeAlias, TypeVar, get_args

from posepipe.errors import OptionError
from posepipe.io.images import ImageFile
from posepipe.io.inputs import AnyImages, Colour, image_files, is_live
from posepipe.runtime.local import Outcome

T = TypeVar("T")
Trouble: TypeAlias = Literal["raise", "skip"]
"""What an image that cannot be read does to a stream: end it, or be left out."""


def in_parts(
    images: AnyImages, *, colour: Colour, recursive: bool, together: int | None
) -> Iterator[Iterable[ImageFile]]:
    """The images in parts, which are finished one after the other.

    Args:
        images: whatever callers give.
        colour: the channel order of arrays.
        recursive: also search subfolders.
        together: how many images a part has. None: what has a length is one part; of a camera or a
            generator, each image is a part, so that its result comes before the next is asked for.

    Raises:
        ImageError: a path leads nowhere.
        OptionError: no such colour order, or less than one image together.
    """
    found = image_files(images, colour=colour, recursive=recursive)
    if together is None and not is_live(images):
        return iter([found])
    if together is not None and together < 1:
        raise OptionError(f"together must be at least 1 image, got {together}")
    stream = iter(found)
    return iter(lambda: list(islice(stream, together or 1)), [])


def threads_for(part: Iterable[ImageFile], workers: int) -> int:
    """How many threads read ahead: none in a part of one image."""
    return 0 if isinstance(part, list) and len(part) == 1 else workers


def results_of(
    outcomes: Iterable[Outcome[ImageFile, T]], unreadable: Trouble
) -> Iterator[tuple[ImageFile, T]]:
    """Each image with its result; an image without one raises its error, or is left out.

    Raises:
        OptionError: at once, if `unreadable` is neither.
        ImageError: when it comes to an image that cannot be read.
    """
    if unreadable not in get_args(Trouble):
        raise OptionError(f"unreadable takes 'raise' or 'skip', got {unreadable!r}")
    return _those_done(outcomes, unreadable)


def _those_done(
    outcomes: Iterable[Outcome[ImageFile, T]], unreadable: Trouble
) -> Iterator[tuple[ImageFile, T]]:
    for outcome in outcomes:
        if outcome.result is not None:
            yield outcome.item, outcome.result
        elif unreadable == "raise" and outcome.error is not None:
            raise outcome.error
