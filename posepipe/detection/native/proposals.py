"""The region proposal network (Ren et al. 2015), as detectron2 runs it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import batched_nms

from posepipe.detection.native.boxes import cell_anchors, clip_boxes, decode_boxes, level_anchors

_NMS_THRESHOLD = 0.7
_KEPT = 1000
_WEIGHTS = (1.0, 1.0, 1.0, 1.0)


class Proposals(NamedTuple):
    """Where something might be in one image, the likeliest first.

    Attributes:
        boxes_xyxy: (N, 4) pixels of the network's input.
        logits: (N,).
    """

    boxes_xyxy: Tensor
    logits: Tensor


class RPNHead(nn.Module):
    """A 3x3 convolution, and from it, for each anchor of a cell, a logit and four deltas."""

    def __init__(self, channels: int, anchors: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.objectness_logits = nn.Conv2d(channels, anchors, 1)
        self.anchor_deltas = nn.Conv2d(channels, anchors * 4, 1)

    def forward(self, levels: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Logits (B, A, h, w) and deltas (B, 4A, h, w) of every level."""
        inner = [F.relu(self.conv(level)) for level in levels]
        logits = [self.objectness_logits(level) for level in inner]
        return logits, [self.anchor_deltas(level) for level in inner]


class ProposalNetwork(nn.Module):
    """The head with its anchors.

    Args:
        channels: of the levels that it sees.
        sizes: of the anchors of each level, in pixels.
        strides: of the levels.
        considered: anchors of each level that NMS sees.
    """

    def __init__(
        self,
        channels: int,
        *,
        sizes: Sequence[Sequence[float]],
        strides: Sequence[int],
        considered: int,
    ) -> None:
        super().__init__()
        self._cells = [cell_anchors(of_level) for of_level in sizes]
        self._strides = tuple(strides)
        self._considered = considered
        self.rpn_head = RPNHead(channels, len(self._cells[0]))

    def forward(
        self, levels: Sequence[Tensor], shapes_hw: Sequence[tuple[int, int]]
    ) -> list[Proposals]:
        """The best 1,000 proposals of each image.

        Args:
            levels: (B, C, h, w) features.
            shapes_hw: height and width of each image without its padding.
        """
        logits, deltas = self.rpn_head(levels)
        flat = [level.permute(0, 2, 3, 1).flatten(1) for level in logits]
        coded = [
            torch.unflatten(level, 1, (-1, 4)).permute(0, 3, 4, 1, 2).flatten(1, 3)
            for level in deltas
        ]
        anchors = [
            level_anchors(cell.to(level.device), level.shape[-2:], stride)
            for cell, level, stride in zip(self._cells, logits, self._strides, strict=True)
        ]
        return [
            self._of_image(
                [level[number] for level in flat],
                [level[number] for level in coded],
                anchors,
                shape_hw,
            )
            for number, shape_hw in enumerate(shapes_hw)
        ]

    def _of_image(
        self,
        logits: Sequence[Tensor],
        deltas: Sequence[Tensor],
        anchors: Sequence[Tensor],
        shape_hw: tuple[int, int],
    ) -> Proposals:
        """One image's, ordered by logits: probabilities are equal where they saturate."""
        best = [level.topk(min(self._considered, len(level))) for level in logits]
        boxes = torch.cat(
            [
                decode_boxes(coded[chosen.indices], places[chosen.indices], _WEIGHTS)[:, 0]
                for coded, places, chosen in zip(deltas, anchors, best, strict=True)
            ]
        )
        scores = torch.cat([chosen.values for chosen in best])
        level = torch.cat(
            [torch.full_like(chosen.indices, number) for number, chosen in enumerate(best)]
        )
        finite = boxes.isfinite().all(dim=1) & scores.isfinite()
        boxes = clip_boxes(boxes, shape_hw)
        solid = (boxes[:, 2:] > boxes[:, :2]).all(dim=1)
        boxes, scores, level = (part[finite & solid] for part in (boxes, scores, level))
        kept = batched_nms(boxes, scores, level, _NMS_THRESHOLD)[:_KEPT]
        return Proposals(boxes[kept], scores[kept])
