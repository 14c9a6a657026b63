"""RTMDet: a single-stage detector, which says at every cell of a pyramid what is there.

Lyu et al., "RTMDet: An Empirical Study of Designing Real-Time Object Detectors" (2022), written
here in plain PyTorch on `posepipe.networks.backbones.cspnext`: at strides 8, 16 and 32 each cell
gives a score for every class and the distances from its corner (x, y) = stride * index to the four
sides of a box.

The score of the published weights is trained to be the box's IoU with the truth: it says both
whether there is something and how well the box fits.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Annotated

import numpy as np
import torch
from msgspec import Meta
from torch import Tensor, nn

from posepipe.networks.backbones.cspnext import PAFPN, CSPNeXt, SeparableUnit
from posepipe.zoo.bounds import Channels, Classes
from posepipe.zoo.recipe import Table

STRIDES = (8, 16, 32)
OUTPUTS = tuple(f"{kind}_{stride}" for kind in ("logits", "distances") for stride in STRIDES)
"""The names of what an exported network gives; see `RTMDet.forward`."""
_HEAD_UNITS = 2
_PRIOR = 0.01  # what every score is before any training


class RTMDetTable(Table, frozen=True):
    """The recipe's table ``[network]`` of a detector of the backend "rtmdet"; the defaults: nano.

    Attributes:
        classes: background included, as in all detectors here; person is class 1.
        width: channels of the backbone relative to RTMDet-l's.
        depth: blocks relative to RTMDet-l's.
        channels: of the pyramid and the head.
        norm: batch normalisations; published weights come with theirs folded into convolutions.
    """

    classes: Classes = 2
    width: Annotated[float, Meta(gt=0, le=10)] = 0.25
    depth: Annotated[float, Meta(gt=0, le=10)] = 0.33
    channels: Channels = 64
    norm: bool = True


class RTMDet(nn.Module):
    """Backbone, pyramid and head.

    Attributes:
        backbone: a `CSPNeXt`.
        neck: a `PAFPN`.
        head: an `RTMDetHead`.
    """

    def __init__(self, table: RTMDetTable) -> None:
        super().__init__()
        self.backbone = CSPNeXt(width=table.width, depth=table.depth, norm=table.norm)
        self.neck = PAFPN(
            self.backbone.channels[1:], table.channels, depth=table.depth, norm=table.norm
        )
        self.head = RTMDetHead(table.channels, table.classes - 1, norm=table.norm)

    def forward(self, images: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Score logits and distances at every cell.

        Args:
            images: (B, 3, H, W), normalised, H and W multiples of 32.

        Returns:
            For each stride (B, classes, h, w) logits, and (B, 4, h, w) pixels from the cell's
            corner to the left, top, right and bottom of its box; they may be negative.
        """
        scores, distances = self.head(self.neck(self.backbone(images)[1:]))
        return scores, distances

    def lower_precision_parts(self) -> list[nn.Module]:
        """The modules that gain from a lower precision: all but the last layers.

        A score or a distance in bf16 has steps of a 128th to a 256th part of it.
        """
        head = self.head
        return [self.backbone, self.neck, *head.score_units, *head.box_units]


class RTMDetHead(nn.Module):
    """Two convolutions for the scores and two for the boxes, separate for each level.

    The paper's head shares its convolutions among levels and not their normalisations; with the
    normalisations folded into them, they are different ones.
    """

    def __init__(self, channels: int, classes: int, *, norm: bool) -> None:
        super().__init__()

        def units() -> nn.Sequential:
            return nn.Sequential(
                *(SeparableUnit(channels, channels, 3, norm=norm) for _ in range(_HEAD_UNITS))
            )

        self.score_units = nn.ModuleList(units() for _ in STRIDES)
        self.box_units = nn.ModuleList(units() for _ in STRIDES)
        self.scores = nn.ModuleList(nn.Conv2d(channels, classes, 1) for _ in STRIDES)
        self.boxes = nn.ModuleList(nn.Conv2d(channels, 4, 1) for _ in STRIDES)
        for layer in self.scores:
            assert isinstance(layer.bias, Tensor)  # noqa: S101
            nn.init.constant_(layer.bias, float(np.log(_PRIOR / (1 - _PRIOR))))

    def forward(self, levels: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """See `RTMDet.forward`."""
        scores = [
            layer(units(level))
            for layer, units, level in zip(self.scores, self.score_units, levels, strict=True)
        ]
        boxes = [
            layer(units(level)) * stride
            for layer, units, level, stride in zip(
                self.boxes, self.box_units, levels, STRIDES, strict=True
            )
        ]
        return scores, boxes


@lru_cache(maxsize=64)
def cell_corners(size_hw: tuple[int, int], device: torch.device | None = None) -> Tensor:
    """The corners (P, 2) x, y of all cells of an input's levels, in its pixels, row by row.

    >>> cell_corners((32, 32))[[0, 1, 4, -1]].tolist()
    [[0.0, 0.0], [8.0, 0.0], [0.0, 8.0], [0.0, 0.0]]
    """
    levels = []
    for stride in STRIDES:
        y, x = torch.meshgrid(
            torch.arange(size_hw[0] // stride, dtype=torch.float32, device=device) * stride,
            torch.arange(size_hw[1] // stride, dtype=torch.float32, device=device) * stride,
            indexing="ij",
        )
        levels.append(torch.stack([x, y], dim=-1).flatten(0, 1))
    return torch.cat(levels)


def flat(levels: Sequence[Tensor]) -> Tensor:
    """(B, C, h, w) of every level as (B, P, C), in the order of `cell_corners`."""
    return torch.cat([level.flatten(2).transpose(1, 2) for level in levels], dim=1)


def decoded(distances: Tensor, corners: Tensor) -> Tensor:
    """Boxes (B, P, 4) of distances (B, P, 4) from corners (P, 2)."""
    return torch.cat([corners - distances[..., :2], corners + distances[..., 2:]], dim=-1)
