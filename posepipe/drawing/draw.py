"""Poses and detections onto images: limbs, keypoints, boxes and scores."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from posepipe.core.boxes import Detections, area
from posepipe.core.poses import Poses
from posepipe.core.skeleton import Skeleton
from posepipe.drawing.shapes import (
    Canvas,
    Colour,
    Rectangle,
    draw_disc,
    draw_frame,
    draw_label,
    draw_segment,
    label_size_wh,
)
from posepipe.drawing.style import DrawStyle, person_colour
from posepipe.errors import ImageError
from posepipe.io.inputs import AnyImage, one_image

DARK: Colour = (24, 24, 28)  # outlines and the background of labels
SMALLEST_RING = 2.0  # pixels of radius, below which a ring around a keypoint is only noise


def draw_poses(
    image: AnyImage,
    poses: Poses,
    *,
    style: DrawStyle | None = None,
) -> npt.NDArray[np.uint8]:
    """Draw people's skeletons, boxes and scores onto a copy of the image.

    Large people are drawn first, so that they do not hide small ones. Labels are drawn last and
    avoid each other where possible.

    Args:
        image: a path, a Pillow image, or an (H, W, 3) array of uint8 RGB, which is not changed.
        poses: the poses of this image; may be empty.
        style: colours, and what to draw; None: the default style.

    Returns:
        (H, W, 3) uint8 RGB, a new array.

    Raises:
        ImageError: the image cannot be read, or an array is not (H, W, 3) uint8.
    """
    style = style or DrawStyle()
    canvas = _copy(image if isinstance(image, np.ndarray) else one_image(image).read())
    sizes = np.array([_person_size(poses, index, style) for index in range(len(poses))])
    shown = [index for index in np.argsort(-sizes) if poses.scores[index] >= style.min_score]
    if style.boxes:
        for index in shown:
            _draw_box(canvas, poses.boxes_xyxy[index], _ink(poses, index, style))
    if style.skeletons and shown and canvas.size:
        plain = canvas.copy()
        for index in shown:
            _draw_skeleton(canvas, poses.keypoints[index], sizes[index], poses.skeleton, style)
        cv2.addWeighted(canvas, style.opacity, plain, 1 - style.opacity, 0, dst=canvas)
    if style.scores or style.ids:
        texts = [_label(poses, index, style) for index in shown]
        inks = [_ink(poses, index, style) for index in shown]
        _draw_labels(canvas, poses.boxes_xyxy[shown], texts, inks)
    return canvas


def draw_detections(
    image: npt.NDArray[np.uint8], detections: Detections, *, style: DrawStyle | None = None
) -> npt.NDArray[np.uint8]:
    """The image with the boxes and scores of detections.

    Args:
        image: (H, W, 3) uint8 RGB; it stays as it is.
        detections: of this image; there may be none.
        style: `min_score`, `boxes`, `scores` and `box` are used; None is the default style.

    Returns:
        (H, W, 3) uint8 RGB, a new array.

    Raises:
        ImageError: the image is not (H, W, 3) uint8.
    """
    style = style or DrawStyle()
    canvas = _copy(image)
    boxes = detections.boxes_xyxy.astype(np.float64)
    shown = [
        index for index in np.argsort(-area(boxes)) if detections.scores[index] >= style.min_score
    ]
    if style.boxes:
        for index in shown:
            _draw_box(canvas, boxes[index], style.box)
    if style.scores:
        texts = [f"{detections.scores[index]:.2f}" for index in shown]
        _draw_labels(canvas, boxes[shown], texts, [style.box] * len(shown))
    return canvas


def _copy(image: npt.NDArray[np.uint8]) -> Canvas:
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ImageError(
            f"an image to draw on must be (H, W, 3) uint8 RGB, got {image.shape} {image.dtype}"
        )
    return np.array(image, order="C")


def _person_size(poses: Poses, index: int, style: DrawStyle) -> float:
    """The diagonal in pixels of the keypoints that are drawn, or of the box if it is smaller."""
    points = poses.keypoints[index]
    points = points[points[:, 2] >= style.min_confidence, :2]
    box = poses.boxes_xyxy[index]
    of_box = float(np.hypot(*(box[2:] - box[:2])))
    if len(points) < 2:
        return of_box
    of_points = float(np.hypot(*(points.max(axis=0) - points.min(axis=0))))
    return min(of_points, of_box) if of_box > 0 else of_points


def _draw_skeleton(
    canvas: Canvas,
    keypoints: npt.NDArray[np.float64],
    size: float,
    skeleton: Skeleton,
    style: DrawStyle,
) -> None:
    """One person: a dark outline below everything, then limbs, then keypoints."""
    width = style.limb_width or _limb_width(canvas, size)
    outline = max(0.75, 0.25 * width)
    radius = 0.85 * width
    sure = keypoints[:, 2] >= style.min_confidence
    limbs = [(a, b) for a, b in skeleton.limbs if sure[a] and sure[b]]
    points = np.flatnonzero(sure)
    for a, b in limbs:
        draw_segment(canvas, keypoints[a, :2], keypoints[b, :2], width + 2 * outline, DARK)
    for point in points:
        draw_disc(canvas, keypoints[point, :2], radius + outline, DARK)
    for a, b in limbs:
        colour = _colour(_limb_side(skeleton, a, b), style)
        draw_segment(canvas, keypoints[a, :2], keypoints[b, :2], width, colour)
    for point in points:
        colour = _colour(skeleton.side(int(point)), style)
        if radius < SMALLEST_RING:
            draw_disc(canvas, keypoints[point, :2], radius, colour)
        else:
            draw_disc(canvas, keypoints[point, :2], radius, (255, 255, 255))
            draw_disc(canvas, keypoints[point, :2], 0.68 * radius, colour)


def _limb_side(skeleton: Skeleton, start: int, end: int) -> str:
    """The side of a limb: that of its ends, where a middle end takes the other's side."""
    sides = {skeleton.side(start), skeleton.side(end)} - {"middle"}
    return sides.pop() if len(sides) == 1 else "middle"


def _colour(side: str, style: DrawStyle) -> Colour:
    return {"left": style.left, "right": style.right}.get(side, style.middle)


def _limb_width(canvas: Canvas, person_size: float) -> float:
    """In pixels: a share of the person, within limits that grow with the image."""
    unit = _unit(canvas)
    return float(min(max(person_size * 0.014, 1.2 * unit), 5.0 * unit))


def _unit(canvas: Canvas) -> float:
    """How many pixels one pixel of a 640-pixel image is here; at least 0.75."""
    longer_side: int = max(canvas.shape[:2])
    return max(0.75, longer_side / 640)


def _number(poses: Poses, index: int, style: DrawStyle) -> int | None:
    """The number that a person is shown with, if any."""
    if not style.ids or poses.track_ids is None or poses.track_ids[index] < 1:
        return None
    return int(poses.track_ids[index])


def _ink(poses: Poses, index: int, style: DrawStyle) -> Colour:
    number = _number(poses, index, style)
    return style.box if number is None else person_colour(number)


def _label(poses: Poses, index: int, style: DrawStyle) -> str:
    number = _number(poses, index, style)
    parts = [
        *([] if number is None else [f"#{number}"]),
        *([f"{poses.scores[index]:.2f}"] if style.scores else []),
    ]
    return ": ".join(parts)


def _draw_box(canvas: Canvas, box_xyxy: npt.NDArray[np.float64], colour: Colour) -> None:
    """A light line with a shadow on both sides, legible on any ground."""
    width = max(1, round(_unit(canvas)))
    outer = box_xyxy + width * np.array([-1, -1, 1, 1])
    draw_frame(canvas, outer, 3 * width, DARK, opacity=0.4)
    draw_frame(canvas, box_xyxy, width, colour, opacity=0.9)


def _draw_labels(
    canvas: Canvas,
    boxes_xyxy: npt.NDArray[np.float64],
    texts: Sequence[str],
    inks: Sequence[Colour],
) -> None:
    """Labels at the corners of boxes, the first corner where no other label is."""
    height = max(13, round(15 * _unit(canvas)))
    taken: list[Rectangle] = []
    for box, text, ink in zip(boxes_xyxy, texts, inks, strict=True):
        if not text:
            continue
        place = _place_of_label(canvas, box, label_size_wh(text, height), taken)
        if place is not None:
            taken.append(place)
            draw_label(canvas, text, place[:2], height, ink=ink, ground=DARK)


def _place_of_label(
    canvas: Canvas,
    box_xyxy: npt.NDArray[np.float64],
    size_wh: tuple[int, int],
    taken: list[Rectangle],
) -> Rectangle | None:
    """Where a label goes: above, below or inside its box, within the image.

    None where the box lies outside the image.
    """
    height, width = canvas.shape[:2]
    left, top, right, bottom = (round(float(edge)) for edge in np.clip(box_xyxy, -1e6, 1e6))
    if right <= 0 or bottom <= 0 or left >= width or top >= height:
        return None
    label_width, label_height = size_wh
    corners = [
        (left, top - label_height),
        (right - label_width, top - label_height),
        (left, bottom),
        (right - label_width, bottom),
        (left, top),
        (right - label_width, bottom - label_height),
    ]
    places = []
    for x, y in corners:
        x_in = min(max(x, 0), max(0, width - label_width))
        y_in = min(max(y, 0), max(0, height - label_height))
        places.append((x_in, y_in, x_in + label_width, y_in + label_height))
    free = (place for place in places if not any(_overlap(place, other) for other in taken))
    return next(free, places[0])


def _overlap(one: Rectangle, other: Rectangle) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
