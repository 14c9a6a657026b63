"""Anchors and coded boxes by detectron2's rules.

torchvision's own anchors are rounded to whole pixels, have another order and take their strides
from the sizes of padded images.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor

RATIOS = (0.5, 1.0, 2.0)
"""Height / width of the anchors of every network."""

# A box may become at most 62.5 times as wide as its anchor: exp(4.135) must not overflow.
_LARGEST_LOG = math.log(1000.0 / 16)


def cell_anchors(sizes: Sequence[float]) -> Tensor:
    """(len(sizes) * 3, 4) anchors about (0, 0): sizes in the outer loop, ratios in the inner one.

    >>> cell_anchors([32])[1].tolist()
    [-16.0, -16.0, 16.0, 16.0]
    """
    halves = []
    for size, ratio in itertools.product(sizes, RATIOS):
        width = math.sqrt(size**2 / ratio)
        halves.append((width / 2, ratio * width / 2))
    return torch.tensor([(-w, -h, w, h) for w, h in halves], device="cpu")


def level_anchors(cell: Tensor, shape_hw: Sequence[int], stride: int) -> Tensor:
    """(h * w * A, 4) anchors of a level: (A, 4) ones at the corner of each cell, row by row."""
    height, width = shape_hw
    rows = torch.arange(height, dtype=torch.float32, device=cell.device) * stride
    columns = torch.arange(width, dtype=torch.float32, device=cell.device) * stride
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    corners = torch.stack([x, y, x, y], dim=-1).reshape(-1, 1, 4)
    return (corners + cell).reshape(-1, 4)


def decode_boxes(
    deltas: Tensor, boxes_xyxy: Tensor, weights: tuple[float, float, float, float]
) -> Tensor:
    """(N, k, 4) boxes of (N, 4k) deltas from (N, 4) boxes (R-CNN's coding).

    Args:
        deltas: by which the centre moves, in sides, and logarithms by which the sides grow.
        boxes_xyxy: what they start from.
        weights: the deltas were multiplied by these in training: x, y, width, height.
    """
    sides = boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]
    centres = boxes_xyxy[:, :2] + 0.5 * sides
    by_box = deltas.float().reshape(len(deltas), deltas.shape[1] // 4, 2, 2)
    coded = by_box / by_box.new_tensor(weights).view(2, 2)
    moved = coded[:, :, 0] * sides[:, None] + centres[:, None]
    grown = torch.exp(coded[:, :, 1].clamp(max=_LARGEST_LOG)) * sides[:, None]
    return torch.cat([moved - 0.5 * grown, moved + 0.5 * grown], dim=-1)


def clip_boxes(boxes_xyxy: Tensor, shape_hw: Sequence[int]) -> Tensor:
    """(…, 4) boxes without what lies outside an image."""
    height, width = shape_hw
    limits = boxes_xyxy.new_tensor([width, height, width, height])
    return torch.minimum(boxes_xyxy.clamp(min=0), limits)
