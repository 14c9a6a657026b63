"""Makes examples/pan.mp4: a camera that pans and zooms over two of the images in examples/.

    python scripts/make_video.py

Every frame is an affine view of one still image, so that where anything in it should be from
frame to frame is known to the last digit (`view_of`): truth for tests of tracking and smoothing.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

ROOT = Path(__file__).parents[1]
SIZE_WH = (384, 288)
RATE = 15
SECONDS = 3.0
HEIGHT = 512  # of the still image


def still() -> npt.NDArray[np.uint8]:
    """(512, W, 3) RGB: the two portraits side by side."""
    parts = []
    for name in ("astronaut.jpg", "grace_hopper.jpg"):
        with Image.open(ROOT / "examples" / name) as image:
            width = round(image.width * HEIGHT / image.height)
            parts.append(np.asarray(image.convert("RGB").resize((width, HEIGHT))))
    return np.concatenate(parts, axis=1)


def view_of(seconds: float, still_width: int) -> npt.NDArray[np.float64]:
    """(2, 3) affine map from the still image to the frame at a time: pan, and zoom out and in."""
    share = seconds / SECONDS
    eased = share * share * (3 - 2 * share)
    scale = SIZE_WH[1] / HEIGHT * (1.15 - 0.15 * np.sin(np.pi * share))
    half = SIZE_WH[0] / scale / 2
    x = half + eased * (still_width - 2 * half)
    middle = np.array([x, HEIGHT / 2])
    shift = np.array(SIZE_WH) / 2 - scale * middle
    return np.array([[scale, 0, shift[0]], [0, scale, shift[1]]])


def main() -> None:
    """Write the video."""
    image = still()
    target = ROOT / "examples" / "pan.mp4"
    with av.open(str(target), "w") as container:
        stream = container.add_stream("libx264", rate=RATE)
        stream.width, stream.height = SIZE_WH
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": "26", "preset": "veryslow"}
        for number in range(round(SECONDS * RATE)):
            view = view_of(number / RATE, image.shape[1])
            pixels = cv2.warpAffine(
                image, view, SIZE_WH, flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REPLICATE
            )
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, RATE)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    print(f"{target}: {target.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
