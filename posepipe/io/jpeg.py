"""JPEG files decoded in one call, during which other threads of Python run.

Pillow asks for the interpreter's lock again for every 64 KB of a file, and holds it while it hands
over the pixels, so threads that read wait for each other. simplejpeg is libjpeg-turbo's own
interface: one call without the lock. In its strict mode whatever libjpeg warns of (a truncated
or damaged file) is an error, and then Pillow has the last word, as for everything unusual.
"""

from __future__ import annotations

import stat
from collections.abc import Callable
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile, get_sampling

Pixels: TypeAlias = npt.NDArray[np.uint8]
Decoder: TypeAlias = Callable[..., Pixels]
_USUAL_SAMPLINGS = (0, 1, 2)  # of chroma, as Pillow numbers them: 4:4:4, 4:2:2, 4:2:0
_JFIF = b"\xff\xd8\xff\xe0"
_FRAMES, _SCAN, _PROFILE = (0xC0, 0xC2), 0xDA, 0xE2  # frames: baseline, progressive
# JFIF, tables of Huffman's codes, of quanta, the interval of restarts, comments.
_PLAIN = (_JFIF[3], 0xC4, 0xDB, 0xDD, 0xFE, _SCAN)
_PLAIN_SAMPLINGS = (b"\x11\x11\x11", b"\x21\x11\x11", b"\x22\x11\x11")  # as `_USUAL_SAMPLINGS`
# A longer file holds something else than one image; it is not read whole.
_MOST_BYTES_PER_PIXEL, _MOST_BYTES_BESIDE = 1, 2**20


def jpeg_pixels(image: Image.Image) -> Pixels | None:
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
    return _decoded(image.fp.read(), (width, height), decode)


def plain_pixels(source: Path | bytes, most_pixels: int) -> Pixels | None:
    """The pixels of a JPEG file whose header says nothing that only Pillow understands.

    That is most of those on the web and none of a camera's: a JFIF header, perhaps a colour profile
    (which is not applied), no EXIF or XMP data that may say how the image is turned. Reading such a
    file takes one call for its bytes and one for its pixels, and a third of the time in which
    others of Python's threads wait.

    Args:
        source: any file, or what is in one.
        most_pixels: larger images are left to Pillow.

    Returns:
        (H, W, 3) uint8 RGB. None leaves the file to Pillow, errors and all.
    """
    decode = _decoder()
    if decode is None:
        return None
    try:
        data = source if isinstance(source, bytes) else _jfif_bytes(source, most_pixels)
        width, height = _plain_size(data)
        if not 0 < width * height <= most_pixels:
            return None
        return _decoded(data, (width, height), decode)
    except (OSError, ValueError, MemoryError):
        return None


def _jfif_bytes(path: Path, most: int) -> bytes:
    """What is in a file, or nothing if it is not a JFIF file or holds more bytes than `most`."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode) or status.st_size > most:  # a pipe would wait for ever
        return b""
    with path.open("rb", buffering=0) as file:
        begins = file.read(len(_JFIF))
        return begins + file.readall() if begins == _JFIF else b""


def _plain_size(data: bytes) -> tuple[int, int]:
    """Width and height of a JFIF file, by its segments before the pixels; (0, 0) if unusual."""
    size, place = (0, 0), 2
    if not data.startswith(_JFIF):
        return size
    while data[place : place + 1] == b"\xff" and place + 4 <= len(data):
        marker, length = data[place + 1], int.from_bytes(data[place + 2 : place + 4], "big")
        segment = data[place + 4 : place + 2 + length]
        if len(segment) != length - 2 or not _is_plain(marker, segment):
            break
        if marker in _FRAMES:
            size = int.from_bytes(segment[3:5], "big"), int.from_bytes(segment[1:3], "big")
        if marker == _SCAN:
            return size
        place += 2 + length
    return 0, 0


def _is_plain(marker: int, segment: bytes) -> bool:
    """Whether a segment is of the usual kind and as long as Pillow wants it to be."""
    if marker in _FRAMES:
        bits, components, samplings = segment[:1], segment[5:6], segment[7::3]
        grey = components == b"\x01" and len(segment) == 9
        colour = components == b"\x03" and len(segment) == 15 and samplings in _PLAIN_SAMPLINGS
        return bits == b"\x08" and (grey or colour)
    if marker == _PROFILE:
        return segment.startswith(b"ICC_PROFILE\0") and len(segment) > 14
    return marker in _PLAIN and (marker != _JFIF[3] or len(segment) >= 14)


def _is_usual(image: JpegImageFile) -> bool:
    if image.mode == "L":
        return True
    whole = image.mode == "RGB" and len(image.layer) == 3  # a damaged header may have none
    return whole and get_sampling(image) in _USUAL_SAMPLINGS


def _decoded(data: bytes, size_wh: tuple[int, int], decode: Decoder) -> Pixels | None:
    """The pixels of a file; None if it is damaged, or of another size than its header was."""
    width, height = size_wh
    pixels = np.empty((height, width, 3), np.uint8)
    try:
        decoded = decode(data, "RGB", buffer=pixels)
    except (ValueError, RuntimeError):
        return None
    return pixels if decoded.shape == pixels.shape else None


@cache
def _decoder() -> Decoder | None:
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


def _by_pillow(data: bytes) -> Pixels:
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
