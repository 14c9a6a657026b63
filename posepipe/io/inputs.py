"""What callers in Python give: images as paths, arrays, Pillow's or frames of a camera; boxes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence, Sized
from pathlib import Path
from typing import Literal, TypeAlias, get_args

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from posepipe.core.boxes import Detections
from posepipe.errors import ImageError, OptionError
from posepipe.io.buckets import is_url, shown
from posepipe.io.find_images import find_images
from posepipe.io.images import ImageFile, ImageSet, rgb_pixels

AnyImage: TypeAlias = str | Path | npt.NDArray[np.uint8] | Image.Image | ImageFile
"""One image. An array is (H, W, 3), (H, W, 4) or (H, W), uint8."""

AnyImages: TypeAlias = AnyImage | ImageSet | Iterable[AnyImage]
"""Images: a folder, a pattern, a list or a lazy stream of images, a (B, H, W, 3) array."""

Colour: TypeAlias = Literal["rgb", "bgr"]
"""The order of an array's channels; OpenCV's is "bgr"."""


def one_image(image: AnyImage, *, colour: Colour = "rgb") -> ImageFile:
    """A single image as an item with the id 1 (an `ImageFile` keeps its own).

    What is not an image becomes an item whose `read` raises.

    Raises:
        OptionError: no such order of colours.
    """
    _check_colour(colour)
    return _item(image, 1, colour)


def image_files(
    images: AnyImages, *, colour: Colour = "rgb", recursive: bool = False
) -> ImageSet | Iterator[ImageFile]:
    """Images as items, lazily where they are given lazily.

    Paths, alone or in a list, are looked up (`posepipe.io.find_images.find_images`): folders and
    patterns may be among them, and the order is that of their names. Everything else keeps its
    order and gets the ids 1…n; something that is not an image is an item whose `read` raises.

    Args:
        images: see `Images`.
        colour: of arrays.
        recursive: whether folders inside folders are searched.

    Raises:
        ImageError: a path leads nowhere.
        OptionError: no such order of colours.
    """
    _check_colour(colour)
    if isinstance(images, ImageSet):
        return images
    if isinstance(images, str | Path):
        return find_images([images], recursive=recursive)
    if isinstance(images, Sequence) and images:
        paths = [path for path in images if isinstance(path, str | Path)]
        if len(paths) == len(images):
            return find_images(paths, recursive=recursive)
    several = isinstance(images, Iterable) and not (
        isinstance(images, np.ndarray) and images.ndim != 4
    )
    items: Iterable[AnyImage] = images if several else [images]  # type: ignore[list-item, assignment]  # what is left of the union
    return (_item(item, number, colour) for number, item in enumerate(items, start=1))


def own_boxes(
    image_id: int, boxes_xyxy: npt.ArrayLike, scores: npt.ArrayLike | None = None
) -> Detections:
    """A caller's boxes in place of a detector's.

    Args:
        image_id: of their image.
        boxes_xyxy: (N, 4) corners in pixels; N may be 0.
        scores: (N,) in [0, 1]; None: 1.

    Raises:
        OptionError: they have another shape, are out of range, or are no numbers.
    """
    boxes = _numbers("boxes_xyxy", boxes_xyxy)
    boxes = boxes if boxes.size else boxes.reshape(0, 4)
    given = np.ones(boxes.shape[:1], np.float32) if scores is None else _numbers("scores", scores)
    try:
        return Detections(image_id, boxes, given)
    except ValueError as error:
        raise OptionError(str(error)) from None


def is_live(images: AnyImages) -> bool:
    """Whether images come one by one from something of unknown length.

    >>> is_live(["a.jpg", "b.jpg"]), is_live(frame for frame in ())
    (False, True)
    """
    return isinstance(images, Iterable) and not isinstance(images, Sized)


def _item(image: object, number: int, colour: Colour) -> ImageFile:
    if isinstance(image, ImageFile):
        return image
    if isinstance(image, str) and is_url(image):
        path = Path(shown(image))
        return ImageFile(number, path, path.name, url=image)
    if isinstance(image, str | Path):
        path = Path(image).expanduser()
        return ImageFile(number, path, path.name)
    name = Path(f"image-{number}")
    try:
        if isinstance(image, Image.Image):
            return ImageFile(number, name, name.name, rgb_pixels(image, name, keep=True))
        return ImageFile(number, name, name.name, _rgb_of(image, colour, name))
    except ImageError as error:
        return ImageFile(number, name, name.name, problem=str(error).removeprefix(f"{name}: "))


def _rgb_of(array: object, colour: Colour, name: Path) -> npt.NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB of an array; one that is so already is kept, not copied."""
    if not isinstance(array, np.ndarray) or array.dtype != np.uint8:
        raise ImageError(f"{name}: {_no_pixels(array)}")
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    channels = 1 if array.ndim == 2 else array.shape[2] if array.ndim == 3 else 0
    if channels not in (1, 3, 4) or not array.size:
        raise ImageError(f"{name}: shape {array.shape}, (H, W, 3) is needed{_hint(array)}")
    if channels == 1:
        return np.repeat(array[:, :, None], 3, axis=2)
    if channels == 4:
        rgba = array if colour == "rgb" else cv2.cvtColor(array, cv2.COLOR_BGRA2RGBA)
        return rgb_pixels(Image.fromarray(rgba), name)
    return array if colour == "rgb" else cv2.cvtColor(array, cv2.COLOR_BGR2RGB).astype(np.uint8)


def _no_pixels(thing: object) -> str:
    """What to say of something that is not an array of bytes."""
    if thing is None:
        return "None, not an image: the camera or video gave nothing"
    if not isinstance(thing, np.ndarray):
        kind = type(thing).__name__
        article = "an" if kind[0] in "aeiou" else "a"
        return f"{article} {kind}: give a path, a numpy array of uint8 or a Pillow image"
    if thing.dtype.kind == "f":
        remedy = "where 1 is white, (255 * x).round().astype(np.uint8) makes it one"
    else:
        remedy = "scale it to 0…255, then .astype(np.uint8)"
    return f"an array of {thing.dtype}, uint8 is needed, 0…255: {remedy}"


def _hint(array: npt.NDArray[np.uint8]) -> str:
    if array.ndim == 3 and array.shape[0] in (1, 3, 4):
        return ": channels come last, .transpose(1, 2, 0) brings them there"
    return ": these are several images, use stream()" if array.ndim == 4 else ""


def _numbers(name: str, given: npt.ArrayLike) -> npt.NDArray[np.float32]:
    try:
        with np.errstate(over="ignore"):  # `Detections` says that they are not finite then
            return np.asarray(given, np.float32)
    except (TypeError, ValueError):
        raise OptionError(f"{name} must be an array of numbers") from None


def _check_colour(colour: object) -> None:
    if colour not in get_args(Colour):
        raise OptionError(f"colour takes 'rgb' or 'bgr', got {colour!r}")
