"""Images to files, whole or not at all."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from posepipe.errors import ImageError

_OPTIONS = {
    # 4:4:4 keeps the colour of lines a pixel wide, which JPEG's usual 4:2:0 smears.
    ".jpg": [
        *(cv2.IMWRITE_JPEG_QUALITY, 95),
        *(cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444),
    ],
    ".png": [],
}
_OPTIONS[".jpeg"] = _OPTIONS[".jpg"]


def save_image(path: str | Path, rgb: npt.NDArray[np.uint8]) -> None:
    """An image into a JPEG or PNG file; missing folders are made.

    The file appears whole or not at all: it is written beside its place and then moved there.

    Args:
        path: ends with .jpg, .jpeg or .png.
        rgb: (H, W, 3) uint8 RGB, at least one pixel.

    Raises:
        ImageError: another ending, no such image, or the file cannot be written.
    """
    path = Path(path)
    encoded = encode_image(path, rgb)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Without the image's name, which may be as long as names can be.
        partial = path.with_name(f".{os.getpid()}.{threading.get_ident()}.partial")
        try:
            partial.write_bytes(encoded)
            partial.replace(path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise ImageError(f"{path} cannot be written: {error.strerror}") from None


def encode_image(name: str | Path, rgb: npt.NDArray[np.uint8]) -> bytes:
    """An image as the bytes of a JPEG or PNG file.

    Args:
        name: the file's; its ending says the format: .jpg, .jpeg or .png.
        rgb: (H, W, 3) uint8 RGB, at least one pixel.

    Raises:
        ImageError: another ending, no such image, or larger than the format allows.
    """
    suffix = Path(name).suffix
    options = _OPTIONS.get(suffix.lower())
    if options is None:
        raise ImageError(f"{name}: images are written as .jpg or .png, not as {suffix!r}")
    if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8 or not rgb.size:
        raise ImageError(f"{name}: (H, W, 3) uint8 RGB is needed, got {rgb.shape} {rgb.dtype}")
    try:
        done, encoded = cv2.imencode(suffix, cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), options)
    except cv2.error:
        done = False
    if not done:
        size = f"{rgb.shape[1]}x{rgb.shape[0]}"
        raise ImageError(f"{name}: {size} pixels cannot be written as {suffix}")
    return encoded.tobytes()
