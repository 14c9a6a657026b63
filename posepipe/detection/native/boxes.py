"""Anchors, coded boxes and RoIs by detectron2's rules.

torchvision's own anchors are rounded to whole pixels, have another order and take their strides
from the sizes of padded pictures; its RoIAlign is half a pixel off ("aligned" is False there) and
samples four points of a bin whatever its size.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.ops import roi_align

RATIOS = (0.5, 1.0, 2.0)
"""Height / width of the anchors of every network."""

# A box may become at most 62.5 times as wide as its anchor: exp(4.135) must not overflow.
_LARGEST_LOG = math.log(1000.0 / 16)
# FPN, section 4.2: a RoI of 224 pixels, as pictures of ImageNet have, looks at level 4.
_CANONICAL_SIDE, _CANONICAL_LEVEL = 224, 4


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
    """(…, 4) boxes without what lies outside a picture."""
    height, width = shape_hw
    limits = boxes_xyxy.new_tensor([width, height, width, height])
    return torch.minimum(boxes_xyxy.clamp(min=0), limits)


def pool_rois(
    levels: Sequence[Tensor], rois: Sequence[Tensor], strides: Sequence[int], side: int
) -> Tensor:
    """(sum N, C, side, side) features of RoIs, each from the level that goes with its size.

    Args:
        levels: (B, C, h, w) features, the finest first.
        rois: (N, 4) boxes of each of the B pictures, in pixels of the network's input.
        strides: of the levels: 4, 8, 16 and 32, or the one of a single level.
        side: cells of the output.
    """
    picture = torch.cat(
        [boxes.new_full((len(boxes), 1), number) for number, boxes in enumerate(rois)]
    )
    numbered = torch.cat([picture, torch.cat(list(rois))], dim=1)
    if len(levels) == 1:
        return _aligned(levels[0], numbered, side, strides[0])
    chosen = _level_of(numbered[:, 1:], strides)
    pooled = levels[0].new_zeros((len(numbered), levels[0].shape[1], side, side))
    for number, (level, stride) in enumerate(zip(levels, strides, strict=True)):
        own = (chosen == number).nonzero()[:, 0]
        pooled[own] = _aligned(level, numbered[own], side, stride)
    return pooled


def _aligned(level: Tensor, numbered: Tensor, side: int, stride: int) -> Tensor:
    """RoIAlign (He et al. 2017) as detectron2's "ROIAlignV2": exact, and every cell counts."""
    pooled: Tensor = roi_align(level, numbered, side, 1 / stride, sampling_ratio=0, aligned=True)
    return pooled


def _level_of(boxes_xyxy: Tensor, strides: Sequence[int]) -> Tensor:
    sides = boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]
    size = torch.sqrt(sides[:, 0] * sides[:, 1])
    level = torch.floor(_CANONICAL_LEVEL + torch.log2(size / _CANONICAL_SIDE + 1e-8))
    finest, coarsest = (int(math.log2(stride)) for stride in (strides[0], strides[-1]))
    return level.clamp(min=finest, max=coarsest).to(torch.int64) - finest
