"""Whole networks: images in, all boxes of all classes out, before NMS."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from posepipe.detection.native.boxes import (
    cell_anchors,
    clip_boxes,
    decode_boxes,
    level_anchors,
)
from posepipe.detection.native.heads import CascadeHeads, FastRCNNHeads, Res5Heads, RoIHeads, Scored
from posepipe.detection.native.proposals import ProposalNetwork
from posepipe.networks.native.backbone import LastLevel, LastTwoLevels, Pyramid, SingleLevel
from posepipe.networks.native.tables import NetworkTable

_SIZES = (32, 64, 128, 256, 512)
_PYRAMID_STRIDES = (4, 8, 16, 32, 64)
_POOLED_STRIDES = _PYRAMID_STRIDES[:4]
# Anchors of each level that the RPN's NMS sees: of a pyramid, or of a single level.
_CONSIDERED, _CONSIDERED_ALONE = 1000, 6000
_RETINA_STRIDES = (8, 16, 32, 64, 128)
_RETINA_CONSIDERED = 1000
_RETINA_CONVOLUTIONS = 4


class Found(NamedTuple):
    """The boxes of one image that score high enough.

    Attributes:
        boxes_xyxy: (N, 4) pixels of the network's input.
        scores: (N,).
        classes: (N,) int64, the network's own numbers from 0.
    """

    boxes_xyxy: Tensor
    scores: Tensor
    classes: Tensor


class NativeNetwork(nn.Module, ABC):
    """A detection network with detectron2's names of weights.

    Attributes:
        multiple: of pixels, to which batches are padded.
        clips: whether boxes end at the image's edges before NMS sees them.
    """

    multiple: int = 32
    clips: bool = True

    @abstractmethod
    def forward(
        self, images: Tensor, shapes_hw: Sequence[tuple[int, int]], min_score: float
    ) -> list[Found]:
        """All boxes of all classes of each image, before NMS.

        Args:
            images: (B, 3, H, W) normalised, in the recipe's colour order, padded with zeros.
            shapes_hw: height and width of each image without its padding.
            min_score: boxes that do not score higher are left out.
        """

    @abstractmethod
    def lower_precision_parts(self) -> list[nn.Module]:
        """The modules that gain from a lower precision: convolutions and linear layers."""


class RCNN(NativeNetwork):
    """Faster R-CNN (Ren et al. 2015) and its kin: a backbone, proposals, and heads for them."""

    def __init__(
        self,
        backbone: nn.Module,
        proposal_generator: ProposalNetwork,
        roi_heads: RoIHeads,
        *,
        multiple: int,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.proposal_generator = proposal_generator
        self.roi_heads = roi_heads
        self.multiple = multiple

    def forward(
        self, images: Tensor, shapes_hw: Sequence[tuple[int, int]], min_score: float
    ) -> list[Found]:
        """See `NativeNetwork.forward`."""
        levels = self.backbone(images)
        proposals = self.proposal_generator(levels, shapes_hw)
        rois = [image.boxes_xyxy for image in proposals]
        return [
            _found(scored, shape_hw, min_score)
            for scored, shape_hw in zip(
                self.roi_heads(levels, rois, shapes_hw), shapes_hw, strict=True
            )
        ]

    def lower_precision_parts(self) -> list[nn.Module]:
        """See `NativeNetwork.lower_precision_parts`."""
        heads = self.roi_heads.lower_precision_parts()
        return [self.backbone, self.proposal_generator.rpn_head, *heads]


def _found(scored: Scored, shape_hw: tuple[int, int], min_score: float) -> Found:
    """Those of an image's boxes that score high enough; rows that are not finite are left out."""
    boxes, scores = scored
    finite = boxes.isfinite().flatten(1).all(dim=1) & scores.isfinite().all(dim=1)
    boxes, scores = clip_boxes(boxes[finite], shape_hw), scores[finite]
    row, kind = (scores > min_score).nonzero(as_tuple=True)
    chosen = boxes[row, 0] if boxes.shape[1] == 1 else boxes[row, kind]
    return Found(chosen, scores[row, kind], kind)


class RetinaHead(nn.Module):
    """RetinaNet's two towers, shared by all levels (Lin et al. 2017)."""

    def __init__(self, channels: int, *, anchors: int, classes: int) -> None:
        super().__init__()
        self.cls_subnet = _tower(channels)
        self.bbox_subnet = _tower(channels)
        self.cls_score = nn.Conv2d(channels, anchors * classes, 3, padding=1)
        self.bbox_pred = nn.Conv2d(channels, anchors * 4, 3, padding=1)

    def forward(self, levels: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Logits (B, A * classes, h, w) and deltas (B, 4A, h, w) of every level."""
        logits = [self.cls_score(self.cls_subnet(level)) for level in levels]
        return logits, [self.bbox_pred(self.bbox_subnet(level)) for level in levels]


def _tower(channels: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for _ in range(_RETINA_CONVOLUTIONS):
        layers += [nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU()]
    return nn.Sequential(*layers)


class RetinaNet(NativeNetwork):
    """RetinaNet (Lin et al. 2017): no proposals, each anchor has scores and a box."""

    clips = False

    def __init__(self, table: NetworkTable) -> None:
        super().__init__()
        top_block = LastTwoLevels(table.backbone_channels * 8, table.channels)
        self.backbone = Pyramid(table, finest=3, top_block=top_block)
        sizes = [[size * 2 ** (third / 3) for third in range(3)] for size in _SIZES]
        self._cells = [cell_anchors(of_level) for of_level in sizes]
        self._classes = table.classes
        self.head = RetinaHead(table.channels, anchors=len(self._cells[0]), classes=table.classes)

    def forward(
        self, images: Tensor, shapes_hw: Sequence[tuple[int, int]], min_score: float
    ) -> list[Found]:
        """See `NativeNetwork.forward`."""
        logits, deltas = self.head(self.backbone(images))
        by_level = [
            self._of_level(*level, min_score)
            for level in zip(logits, deltas, self._cells, _RETINA_STRIDES, strict=True)
        ]
        return [
            Found(*(torch.cat(parts) for parts in zip(*of_image, strict=True)))
            for of_image in zip(*by_level, strict=True)
        ]

    def _of_level(
        self, logits: Tensor, deltas: Tensor, cell: Tensor, stride: int, min_score: float
    ) -> list[Found]:
        """The best 1,000 boxes of one level of each image."""
        anchors = level_anchors(cell.to(logits.device), logits.shape[-2:], stride)
        by_anchor = [
            torch.unflatten(part, 1, (len(cell), -1)).permute(0, 3, 4, 1, 2).flatten(1, 3)
            for part in (logits, deltas)
        ]
        found = []
        for scores, coded in zip(by_anchor[0].sigmoid(), by_anchor[1], strict=True):
            anchor, kind = (scores > min_score).nonzero(as_tuple=True)
            best = scores[anchor, kind].topk(min(_RETINA_CONSIDERED, len(anchor)))
            anchor, kind = anchor[best.indices], kind[best.indices]
            boxes = decode_boxes(coded[anchor], anchors[anchor], (1.0, 1.0, 1.0, 1.0))[:, 0]
            found.append(Found(boxes, best.values, kind))
        return found

    def lower_precision_parts(self) -> list[nn.Module]:
        """See `NativeNetwork.lower_precision_parts`."""
        return [self.backbone, self.head]


def build_network(table: NetworkTable) -> NativeNetwork:
    """The network of a table, with random weights."""
    if table.architecture == "retinanet":
        return RetinaNet(table)
    if table.features == "fpn":
        backbone: nn.Module = Pyramid(table, finest=2, top_block=LastLevel())
        proposals = ProposalNetwork(
            table.channels,
            sizes=[[size] for size in _SIZES],
            strides=_PYRAMID_STRIDES,
            considered=_CONSIDERED,
        )
        kind = CascadeHeads if table.architecture == "cascade_rcnn" else FastRCNNHeads
        heads: RoIHeads = kind(table, channels=table.channels, strides=_POOLED_STRIDES)
        return RCNN(backbone, proposals, heads, multiple=32)
    if table.features == "c4":
        backbone, channels = SingleLevel(table, last=4), table.backbone_channels * 4
        heads = Res5Heads(table)
    else:
        backbone, channels = SingleLevel(table, last_dilation=2), table.backbone_channels * 8
        heads = FastRCNNHeads(table, channels=channels, strides=(16,))
    proposals = ProposalNetwork(
        channels, sizes=[_SIZES], strides=(16,), considered=_CONSIDERED_ALONE
    )
    return RCNN(backbone, proposals, heads, multiple=1)
