"""Anti-aliased shapes at sub-pixel positions: segments, discs, frames and labels.

Each function draws into the canvas that it is given, an (H, W, 3) uint8 RGB array. Points are
(x, y) with integer pixel centres (`posepipe.core.affine`); whatever lies outside is cut off.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

Canvas = npt.NDArray[np.uint8]
Colour = tuple[int, int, int]
Rectangle = tuple[int, int, int, int]
Numbers = Sequence[float] | npt.NDArray[np.float64]
_BITS = 4  # of a pixel's fraction, for OpenCV's fixed-point coordinates
_TURNS = np.linspace(0, 2 * np.pi, 32, endpoint=False)
_CIRCLE = np.stack([np.cos(_TURNS), np.sin(_TURNS)], axis=1)  # cv2.circle makes diamonds when small


def draw_segment(
    canvas: Canvas, start_xy: Numbers, end_xy: Numbers, width: float, colour: Colour
) -> None:
    """A straight stroke with round ends, `width` pixels thick."""
    ends = _cut(np.array([start_xy, end_xy], dtype=np.float64), canvas, width)
    if ends is None:
        return
    along = ends[1] - ends[0]
    length = float(np.hypot(*along))
    if length > 0:
        across = np.array([-along[1], along[0]]) * (width / 2 / length)
        corners = np.stack([ends[0] + across, ends[1] + across, ends[1] - across, ends[0] - across])
        cv2.fillConvexPoly(canvas, _fixed(corners), colour, cv2.LINE_AA, _BITS)
    for end in ends:
        draw_disc(canvas, end, width / 2, colour)


def draw_disc(canvas: Canvas, centre_xy: Numbers, radius: float, colour: Colour) -> None:
    """A filled circle."""
    x, y = (float(value) for value in centre_xy)
    height, width = canvas.shape[:2]
    if -radius - 1 <= x <= width + radius and -radius - 1 <= y <= height + radius:
        outline = np.array([x, y]) + max(radius, 0.5) * _CIRCLE
        cv2.fillConvexPoly(canvas, _fixed(outline), colour, cv2.LINE_AA, _BITS)


def draw_frame(
    canvas: Canvas, box_xyxy: Numbers, width: int, colour: Colour, *, opacity: float = 1.0
) -> None:
    """The outline of a box with continuous edges, `width` whole pixels thick, inside the box."""
    limits = np.array([canvas.shape[1], canvas.shape[0]] * 2)
    left, top, right, bottom = np.clip(np.round(box_xyxy), -width, limits + width).astype(int)
    if right <= left or bottom <= top:
        return
    inner_top, inner_bottom = min(top + width, bottom), max(bottom - width, top + width)
    for x1, y1, x2, y2 in (
        (left, top, right, inner_top),
        (left, inner_bottom, right, bottom),
        (left, inner_top, min(left + width, right), inner_bottom),
        (max(right - width, left + width), inner_top, right, inner_bottom),
    ):
        strip = canvas[max(y1, 0) : max(y2, 0), max(x1, 0) : max(x2, 0)]
        strip[...] = np.round(strip * (1 - opacity) + np.array(colour) * opacity)


def label_size_wh(text: str, height: int) -> tuple[int, int]:
    """Width and height in pixels of a label that is `height` pixels high."""
    return _text_mask(text, height).shape[1], height


def draw_label(
    canvas: Canvas, text: str, left_top: tuple[int, int], height: int, ink: Colour, ground: Colour
) -> None:
    """A line of text on a plain background; the part outside the image is cut off."""
    mask = _text_mask(text, height)
    x, y = left_top
    top, bottom = max(y, 0), min(y + mask.shape[0], canvas.shape[0])
    left, right = max(x, 0), min(x + mask.shape[1], canvas.shape[1])
    if top >= bottom or left >= right:
        return
    share = mask[top - y : bottom - y, left - x : right - x, None]
    mixed = np.array(ink) * share + np.array(ground) * (1 - share)
    canvas[top:bottom, left:right] = np.round(mixed).astype(np.uint8)


@lru_cache(maxsize=512)
def _text_mask(text: str, height: int) -> npt.NDArray[np.float64]:
    """(height, w) ink of a string in [0, 1], centred, with a margin at both sides."""
    font = ImageFont.load_default(max(6.0, height * 0.8))
    left, _, right, _ = font.getbbox(text)
    _, top, _, bottom = font.getbbox("0")  # one base line for all texts
    margin = max(2, round(height * 0.25))
    width = int(np.ceil(right - left)) + 2 * margin
    page = Image.new("L", (width, height), 0)
    origin = (margin - left, round((height - (bottom - top)) / 2 - top))
    ImageDraw.Draw(page).text(origin, text, fill=255, font=font)
    mask: npt.NDArray[np.float64] = np.asarray(page, dtype=np.float64) / 255
    mask.setflags(write=False)
    return mask


def _cut(
    ends_xy: npt.NDArray[np.float64], canvas: Canvas, width: float
) -> npt.NDArray[np.float64] | None:
    """(2, 2) the part of a segment near the image, None if there is none.

    OpenCV's fixed-point coordinates overflow far outside. Each pair of parallel edges keeps the
    part of the segment between them (Liang and Barsky 1984).
    """
    beyond = width + 2
    low, high = -beyond, np.array([canvas.shape[1], canvas.shape[0]]) + beyond
    start, along = ends_xy[0], ends_xy[1] - ends_xy[0]
    enter, leave = 0.0, 1.0
    for axis in (0, 1):
        if along[axis] == 0:
            if not low <= start[axis] <= high[axis]:
                return None
            continue
        crossings = sorted(
            ((low - start[axis]) / along[axis], (high[axis] - start[axis]) / along[axis])
        )
        enter, leave = max(enter, crossings[0]), min(leave, crossings[1])
    if enter > leave:
        return None
    return np.stack([start + enter * along, start + leave * along])


def _fixed(points_xy: npt.NDArray[np.float64]) -> npt.NDArray[np.int32]:
    return np.round(points_xy * (1 << _BITS)).astype(np.int32)
