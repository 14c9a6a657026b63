"""RoIs by detectron2's rules.

torchvision's own RoIAlign is half a pixel off ("aligned" is False there) and samples four points of
a bin whatever its size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.ops import roi_align

# FPN, section 4.2: a RoI of 224 pixels, as images of ImageNet have, looks at level 4.
_CANONICAL_SIDE, _CANONICAL_LEVEL = 224, 4


def pool_rois(
    levels: Sequence[Tensor], rois: Sequence[Tensor], strides: Sequence[int], side: int
) -> Tensor:
    """(sum N, C, side, side) features of RoIs, each from the level that goes with its size.

    Args:
        levels: (B, C, h, w) features, the finest first.
        rois: (N, 4) boxes of each of the B images, in pixels of the network's input.
        strides: of the levels: 4, 8, 16 and 32, or the one of a single level.
        side: cells of the output.
    """
    image = torch.cat(
        [boxes.new_full((len(boxes), 1), number) for number, boxes in enumerate(rois)]
    )
    numbered = torch.cat([image, torch.cat(list(rois))], dim=1)
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
