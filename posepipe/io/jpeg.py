"""JPEG files decoded in one call, during which other threads of Python run.

Pillow asks for the interpreter's lock again for every 64 KB of a file, and holds it while it hands
over the pixels, so threads that read wait for each other. simplejpeg is libjpeg-turbo's own
interface: one call without the lock. In its strict mode whatever libjpeg warns of (a truncated
or damaged file) is an error, and then Pillow has the last word, as for everything unusual.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from io import BytesIO
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile, get_sampling

_USUAL_SAMPLINGS = (0, 1, 2)  # of chroma, as Pillow numbers them: 4:4:4, 4:2:2, 4:2:0
# A longer file holds something else than one image; it is not read whole.
_MOST_BYTES_PER_PIXEL, _MOST_BYTES_BESIDE = 1, 2**20


def jpeg_pixels(image: Image.Image) -> npt.NDArray[np.uint8] | None:
    """The pixels of a JPEG file whose header Pillow has read, as they are stored.

    They are Pillow's to the last bit (`_decoder` checks that). Of several images in the file
    (MPO), the first is read.

    Args:
        image: just opened; Pillow can still load it afterwards.

    Returns:
        (H, W, 3) uint8 RGB, not yet turned as EXIF data say. None leaves the file to Pillow: not a
        JPEG, of a rare kind (CMYK, chroma sampled in another way than most do), damaged or
        truncated.
    """
    if not isinstance(image, JpegImageFile) or not _is_usual(image) or image.fp is None:
        return None
    decode = _decoder()
    width, height = image.size
    length = image.fp.seek(0, 2)
    if decode is None or length > _MOST_BYTES_PER_PIXEL * width * height + _MOST_BYTES_BESIDE:
        return None
    image.fp.seek(0)
    data = image.fp.read()
    # The array is as large as the header that was checked says, whatever the file has become.
    pixels = np.empty((height, width, 3), np.uint8)
    try:
        decoded = decode(data, "RGB", buffer=pixels)
    except (ValueError, RuntimeError):
        return None
    return pixels if decoded.shape == pixels.shape else None


def _is_usual(image: JpegImageFile) -> bool:
    return image.mode == "L" or (image.mode == "RGB" and get_sampling(image) in _USUAL_SAMPLINGS)


@cache
def _decoder() -> Callable[..., npt.NDArray[np.uint8]] | None:
    """The decoder of simplejpeg, if it is installed and gives the pixels that Pillow gives.

    Both contain a libjpeg of their own or the system's, which may be of different versions.
    """
    try:
        from simplejpeg import decode_jpeg

        right = all(
            np.array_equal(decode_jpeg(data, "RGB"), _by_pillow(data)) for data in _examples()
        )
    except Exception:  # absent, or built for another numpy: `posepipe doctor` tells
        return None
    return decode_jpeg if right else None


def _by_pillow(data: bytes) -> npt.NDArray[np.uint8]:
    return np.asarray(Image.open(BytesIO(data)).convert("RGB"))


def _examples() -> list[bytes]:
    """A small JPEG of every kind that `jpeg_pixels` decodes."""
    numbers = np.arange(31 * 33 * 3).reshape(31, 33, 3) ** 2 // 7
    image = Image.fromarray((numbers % 256).astype(np.uint8))

    def saved(image: Image.Image, **options: Any) -> bytes:
        file = BytesIO()
        image.save(file, "JPEG", **options)
        return file.getvalue()

    progressive = saved(image, progressive=True)
    last_scan = progressive.rindex(b"\xff\xda")  # without it, libjpeg smooths the image
    return [
        *(saved(image, subsampling=sampling) for sampling in _USUAL_SAMPLINGS),
        saved(image.convert("L")),
        progressive,
        progressive[:last_scan] + b"\xff\xd9",
    ]
