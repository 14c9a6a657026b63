"""Images turned upright, as their EXIF data say."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image

_TAG = 0x0112
# What undoes each value of the EXIF tag "Orientation" (CIPA DC-008, table 6); 1 is upright.
_TO_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 if there is none or it makes no sense.

    Raises:
        OSError: the file is truncated.
    """
    try:
        value = image.getexif().get(_TAG, 1)
    except OSError:  # Pillow looks for EXIF behind a PNG's pixels, too; they may be truncated
        raise
    except Exception:  # damaged EXIF data are no reason to lose the image
        return 1
    return value if value in _TO_UPRIGHT else 1


def upright(image: Image.Image) -> Image.Image:
    """The image turned; what was given is closed then."""
    turn = _TO_UPRIGHT.get(orientation(image))
    if turn is None:
        return image
    turned = image.transpose(turn)
    image.close()  # its memory
    return turned


def upright_pixels(pixels: npt.NDArray[np.uint8], value: int) -> npt.NDArray[np.uint8]:
    """Pixels turned as `upright` turns an image, without the interpreter's lock.

    Args:
        pixels: (H, W, 3), as they are stored.
        value: their `orientation`.

    Returns:
        (H, W, 3), or (W, H, 3) for a value of 5 to 8.
    """
    if value == 1:
        return pixels
    import cv2

    turned: cv2.typing.MatLike = pixels
    if value in (5, 7):
        turned = cv2.transpose(pixels)
    match value:
        case 2:
            turned = cv2.flip(turned, 1)
        case 3 | 7:
            turned = cv2.rotate(turned, cv2.ROTATE_180)
        case 4:
            turned = cv2.flip(turned, 0)
        case 6:
            turned = cv2.rotate(turned, cv2.ROTATE_90_CLOCKWISE)
        case 8:
            turned = cv2.rotate(turned, cv2.ROTATE_90_COUNTERCLOCKWISE)
    return np.asarray(turned, np.uint8)
