"""The boxes of the people in one image, and the geometry of boxes.

Boxes are (x1, y1, x2, y2) in pixels with continuous edges: the whole image is
[0, 0, W, H] (see `posepipe.core.affine`). COCO's files write (x, y, width, height).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from posepipe.core.shapes import check_same_length, checked

FloatArray = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True, eq=False)
class Detections:
    """The N people that a detector found in one image; N may be 0.

    Attributes:
        image_id: the image.
        boxes_xyxy: (N, 4) float32 pixels, x1 <= x2 and y1 <= y2; they may extend beyond the image.
        scores: (N,) float32 in [0, 1].
        size_wh: width and height of the image in pixels, if known.

    Raises:
        ValueError: a wrong shape, a value that is not finite, corners in the wrong order, or a
            score outside [0, 1].
    """

    image_id: int
    boxes_xyxy: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float32]
    size_wh: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        boxes = checked("boxes_xyxy", self.boxes_xyxy, ("N", 4), np.float32)
        scores = checked("scores", self.scores, ("N",), np.float32)
        check_same_length(boxes_xyxy=boxes, scores=scores)
        if (boxes[:, :2] > boxes[:, 2:]).any():
            raise ValueError("boxes_xyxy must have x1 <= x2 and y1 <= y2")
        if ((scores < 0) | (scores > 1)).any():
            raise ValueError("scores must lie in [0, 1]")
        object.__setattr__(self, "boxes_xyxy", boxes)
        object.__setattr__(self, "scores", scores)

    def __len__(self) -> int:
        return len(self.scores)

    @classmethod
    def none(cls, image_id: int, size_wh: tuple[int, int] | None = None) -> Detections:
        """No people in this image."""
        return cls(image_id, np.zeros((0, 4), np.float32), np.zeros(0, np.float32), size_wh)


def xyxy_to_xywh(boxes_xyxy: npt.ArrayLike) -> FloatArray:
    """(..., 4) corners as COCO's left, top, width, height.

    >>> xyxy_to_xywh([[10, 20, 40, 80]]).tolist()
    [[10.0, 20.0, 30.0, 60.0]]
    """
    boxes = _as_float(boxes_xyxy)
    return np.concatenate([boxes[..., :2], boxes[..., 2:] - boxes[..., :2]], axis=-1)


def xywh_to_xyxy(boxes_xywh: npt.ArrayLike) -> FloatArray:
    """(..., 4) COCO's left, top, width, height as corners.

    >>> xywh_to_xyxy([[10, 20, 30, 60]]).tolist()
    [[10.0, 20.0, 40.0, 80.0]]
    """
    boxes = _as_float(boxes_xywh)
    return np.concatenate([boxes[..., :2], boxes[..., :2] + boxes[..., 2:]], axis=-1)


def area(boxes_xyxy: npt.ArrayLike) -> FloatArray:
    """(...,) areas in square pixels of (..., 4) boxes; 0 where a box is empty or inside out."""
    boxes = _as_float(boxes_xyxy)
    sides: FloatArray = np.maximum(boxes[..., 2:] - boxes[..., :2], 0)
    square_pixels: FloatArray = sides[..., 0] * sides[..., 1]
    return square_pixels


def iou(boxes_xyxy: npt.ArrayLike, others_xyxy: npt.ArrayLike) -> FloatArray:
    """(N, M) intersection over union of (N, 4) boxes with (M, 4) others; 0 between empty boxes.

    >>> iou([[0, 0, 2, 2]], [[1, 0, 3, 2], [5, 5, 6, 6]]).round(3).tolist()
    [[0.333, 0.0]]
    """
    boxes, others = _as_float(boxes_xyxy), _as_float(others_xyxy)
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    shared = area(np.concatenate([low, high], axis=-1))  # (N, M)
    union = area(boxes)[:, None] + area(others)[None, :] - shared
    overlap: FloatArray = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return overlap


def clip(boxes_xyxy: npt.ArrayLike, size_wh: tuple[int, int]) -> FloatArray:
    """(..., 4) boxes cut to an image of that width and height; outside of it they become empty.

    >>> clip([[-5, 10, 30, 500]], (100, 200)).tolist()
    [[0.0, 10.0, 30.0, 200.0]]
    """
    width, height = size_wh
    return np.clip(_as_float(boxes_xyxy), 0, np.array([width, height, width, height]))


def extend(boxes_xyxy: npt.ArrayLike, margins_xy: tuple[float, float]) -> FloatArray:
    """(..., 4) boxes made larger about their centres, by a share of their own width and height.

    Args:
        boxes_xyxy: (..., 4) pixels.
        margins_xy: what is added on *each* side, as a share of the box's width and height:
            0.1 makes a box 1.2 times as wide.

    >>> extend([[10, 10, 20, 30]], (0.1, 0.15)).tolist()
    [[9.0, 7.0, 21.0, 33.0]]
    """
    boxes = _as_float(boxes_xyxy)
    added = (boxes[..., 2:] - boxes[..., :2]) * np.asarray(margins_xy)
    return np.concatenate([boxes[..., :2] - added, boxes[..., 2:] + added], axis=-1)


def grow_to_aspect(boxes_xyxy: npt.ArrayLike, aspect_wh: float) -> FloatArray:
    """(..., 4) boxes of a given width / height, by growing the side that is too short.

    The centre stays and nothing of the box is lost ("extended to a fixed aspect ratio", CPN,
    section 4.1). An empty box has no shape to keep and stays empty.

    Args:
        boxes_xyxy: (..., 4) pixels.
        aspect_wh: width / height, 0.75 for the paper's 4:3 portrait crops.

    >>> grow_to_aspect([[0, 0, 10, 40], [0, 0, 30, 8]], 0.75).tolist()
    [[-10.0, 0.0, 20.0, 40.0], [0.0, -16.0, 30.0, 24.0]]
    """
    boxes = _as_float(boxes_xyxy)
    centre = (boxes[..., :2] + boxes[..., 2:]) / 2
    width, height = np.moveaxis(boxes[..., 2:] - boxes[..., :2], -1, 0)
    half_width = np.maximum(width, height * aspect_wh) / 2
    half_height = np.maximum(height, width / aspect_wh) / 2
    half = np.stack([half_width, half_height], axis=-1)
    return np.concatenate([centre - half, centre + half], axis=-1)


def _as_float(boxes: npt.ArrayLike) -> FloatArray:
    """(..., 4) float array, float32 kept as it is; an empty list is (0, 4)."""
    array = np.asarray(boxes)
    if not np.issubdtype(array.dtype, np.floating):
        array = array.astype(np.float64)
    return array.reshape(0, 4) if array.size == 0 and array.ndim < 2 else array
