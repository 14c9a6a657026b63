"""Box heads: what is in each RoI, and where exactly."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from posepipe.detection.native.boxes import clip_boxes, decode_boxes
from posepipe.networks.native.backbone import make_stage
from posepipe.networks.native.rois import pool_rois
from posepipe.networks.native.tables import NetworkTable

Weights = tuple[float, float, float, float]
_WEIGHTS: Weights = (10.0, 10.0, 5.0, 5.0)
# Cascade R-CNN's three stages expect boxes of IoU 0.5, 0.6 and 0.7, whose deltas get smaller.
_CASCADE_WEIGHTS: tuple[Weights, ...] = (
    _WEIGHTS,
    (20.0, 20.0, 10.0, 10.0),
    (30.0, 30.0, 15.0, 15.0),
)


class Scored(NamedTuple):
    """All boxes of one image, before anything is left out.

    Attributes:
        boxes_xyxy: (N, k, 4) in pixels of the network's input, not clipped; k is 1 where one box
            holds for all classes, else the number of classes.
        scores: (N, classes), background left out.
    """

    boxes_xyxy: Tensor
    scores: Tensor


class Predictor(nn.Module):
    """From a RoI's vector to its classes' logits, the background last, and deltas."""

    def __init__(self, vector: int, classes: int, *, boxes: int) -> None:
        super().__init__()
        self.cls_score = nn.Linear(vector, classes + 1)
        self.bbox_pred = nn.Linear(vector, boxes * 4)

    def forward(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """(N, classes + 1) logits and (N, 4 * boxes) deltas of (N, vector)."""
        return self.cls_score(vectors), self.bbox_pred(vectors)


class BoxHead(nn.Module):
    """Two fully connected layers."""

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(inputs, hidden)
        self.fc2 = nn.Linear(hidden, hidden)

    def forward(self, pooled: Tensor) -> Tensor:
        """(N, hidden) vectors of (N, C, 7, 7) features."""
        return F.relu(self.fc2(F.relu(self.fc1(pooled.flatten(1)))))


class RoIHeads(nn.Module, ABC):
    """What finds boxes in proposals."""

    @abstractmethod
    def forward(
        self,
        levels: Sequence[Tensor],
        rois: Sequence[Tensor],
        shapes_hw: Sequence[tuple[int, int]],
    ) -> list[Scored]:
        """All boxes of each image.

        Args:
            levels: (B, C, h, w) features, the finest first; more than are pooled from is legal.
            rois: (N, 4) proposals of each image.
            shapes_hw: height and width of each image without its padding.
        """

    @abstractmethod
    def lower_precision_parts(self) -> list[nn.Module]:
        """The modules that gain from a lower precision."""


class FastRCNNHeads(RoIHeads):
    """Fast R-CNN's head on RoIs of 7x7 cells (Girshick 2015; FPN, section 4.2)."""

    def __init__(self, table: NetworkTable, *, channels: int, strides: Sequence[int]) -> None:
        super().__init__()
        self._strides = tuple(strides)
        self.box_head = BoxHead(channels * 7 * 7, table.hidden)
        self.box_predictor = Predictor(table.hidden, table.classes, boxes=table.classes)

    def forward(
        self,
        levels: Sequence[Tensor],
        rois: Sequence[Tensor],
        shapes_hw: Sequence[tuple[int, int]],
    ) -> list[Scored]:
        """See `RoIHeads.forward`."""
        pooled = pool_rois(levels[: len(self._strides)], rois, self._strides, side=7)
        logits, deltas = self.box_predictor(self.box_head(pooled))
        return _scored(logits, deltas, rois)

    def lower_precision_parts(self) -> list[nn.Module]:
        """See `RoIHeads.lower_precision_parts`."""
        return [self.box_head, self.box_predictor]


class Res5Heads(RoIHeads):
    """The backbone's fifth stage run for each RoI of 14x14 cells, and its mean (He et al. 2016)."""

    def __init__(self, table: NetworkTable) -> None:
        super().__init__()
        self.res5 = make_stage(table, 5)
        vector = table.backbone_channels * 8
        self.box_predictor = Predictor(vector, table.classes, boxes=table.classes)

    def forward(
        self,
        levels: Sequence[Tensor],
        rois: Sequence[Tensor],
        shapes_hw: Sequence[tuple[int, int]],
    ) -> list[Scored]:
        """See `RoIHeads.forward`."""
        features = self.res5(pool_rois(levels, rois, (16,), side=14))
        logits, deltas = self.box_predictor(features.mean(dim=(2, 3)))
        return _scored(logits, deltas, rois)

    def lower_precision_parts(self) -> list[nn.Module]:
        """See `RoIHeads.lower_precision_parts`."""
        return [self.res5, self.box_predictor]


class CascadeHeads(RoIHeads):
    """Three heads, each looking where the one before found its boxes (Cai, Vasconcelos 2018).

    Scores are the mean of all heads', boxes the last one's, one for all classes.
    """

    def __init__(self, table: NetworkTable, *, channels: int, strides: Sequence[int]) -> None:
        super().__init__()
        self._strides = tuple(strides)
        stages = range(len(_CASCADE_WEIGHTS))
        heads = [BoxHead(channels * 7 * 7, table.hidden) for _ in stages]
        predictors = [Predictor(table.hidden, table.classes, boxes=1) for _ in stages]
        self.box_head = nn.ModuleList(heads)
        self.box_predictor = nn.ModuleList(predictors)

    def forward(
        self,
        levels: Sequence[Tensor],
        rois: Sequence[Tensor],
        shapes_hw: Sequence[tuple[int, int]],
    ) -> list[Scored]:
        """See `RoIHeads.forward`."""
        by_stage = []
        for head, predictor, weights in zip(
            self.box_head, self.box_predictor, _CASCADE_WEIGHTS, strict=True
        ):
            pooled = pool_rois(levels[: len(self._strides)], rois, self._strides, side=7)
            logits, deltas = predictor(head(pooled))
            scored = _scored(logits, deltas, rois, weights)
            by_stage.append(scored)
            rois = [
                clip_boxes(image.boxes_xyxy[:, 0], shape_hw)
                for image, shape_hw in zip(scored, shapes_hw, strict=True)
            ]
        return [
            Scored(
                stages[-1].boxes_xyxy,
                torch.stack([stage.scores for stage in stages]).sum(dim=0) * (1 / len(stages)),
            )
            for stages in zip(*by_stage, strict=True)
        ]

    def lower_precision_parts(self) -> list[nn.Module]:
        """See `RoIHeads.lower_precision_parts`."""
        return [*self.box_head, *self.box_predictor]


def _scored(
    logits: Tensor,
    deltas: Tensor,
    rois: Sequence[Tensor],
    weights: Weights = _WEIGHTS,
) -> list[Scored]:
    """The boxes of each image from the deltas of all images' RoIs."""
    counts = [len(boxes) for boxes in rois]
    scores = torch.split(logits.softmax(dim=-1)[:, :-1], counts)
    decoded = torch.split(decode_boxes(deltas, torch.cat(list(rois)), weights), counts)
    return list(map(Scored, decoded, scores))
