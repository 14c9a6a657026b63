"""The losses of a single-stage detector: what its cells should learn.

Which cells find a person depends on their output now (dynamic soft label assignment; Lyu et al.,
"RTMDet", 2022, section 3.3): each person gets the cells within its box whose score, overlap and
distance from the middle cost least, and as many as their overlaps with it add up to. A cell's score
learns the overlap that its box has now (quality focal loss; Li et al. 2020), its box a generalised
IoU. Cells in ignored regions that find nobody learn nothing.

The whole batch is assigned at once, without waiting for the device.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import generalized_box_iou_loss

from posepipe.detection.rtmdet import RTMDetPreprocessing
from posepipe.detection.rtmdet_network import STRIDES, RTMDet, cell_corners, decoded, flat
from posepipe.networks.precision import to_float32
from posepipe.training.detector.batches import DetectionBatch, Target
from posepipe.training.detector.table import DetectorTrainingTable
from posepipe.training.pose.losses import Losses, Part

NAMES = ("score", "box")
_MOST_CELLS = 13  # of a person: the paper's code
_OVERLAP_COST = 3.0
_MIDDLE_RADIUS = 3.0  # cells from a box's middle at which distance costs 1, and tenfold a cell on
_NEVER = 1e8
_CELLS_PER_BOX = 8.0  # about as many as a box gets: keeps the losses near 1


class DenseLosses(nn.Module):
    """A single-stage detector as the training loop runs it: a batch in, its losses out.

    Attributes:
        network: the detector; in training mode.
    """

    def __init__(
        self,
        network: RTMDet,
        preprocessing: RTMDetPreprocessing,
        table: DetectorTrainingTable,
        *,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        self.network, self._table, self._dtype = network, table, dtype
        self._fill = preprocessing.fill
        self._preprocessing = preprocessing

    def forward(self, batch: DetectionBatch) -> tuple[Losses, None]:
        """The two losses of a batch; nothing that is mined has a name."""
        pixels = batch.pixels
        for place, (height, width) in zip(pixels, batch.sizes_hw, strict=True):
            place[height:] = self._fill
            place[:, width:] = self._fill
        device = pixels.device
        with torch.autocast(device.type, dtype=self._dtype, enabled=self._dtype != torch.float32):
            outputs: Any = to_float32(self.network(self._preprocessing.normalisation(pixels)))
        with torch.autocast(device.type, enabled=False):
            corners = cell_corners((pixels.shape[1], pixels.shape[2]), device)
            logits, boxes = flat(outputs[0]), decoded(flat(outputs[1]), corners)
            losses = self._losses(logits, boxes, corners, batch)
        counts = box_counts(batch)
        return {name: Part(loss, counts[name]) for name, loss in losses.items()}, None

    def _losses(
        self, logits: Tensor, boxes: Tensor, corners: Tensor, batch: DetectionBatch
    ) -> dict[str, Tensor]:
        """The sums of the losses over all cells (B, P) of a batch."""
        truth = Truth.of(batch.targets)
        strides = cell_strides((batch.pixels.shape[1], batch.pixels.shape[2]), boxes.device)
        index, overlaps = assign_cells(boxes.detach(), logits.detach(), corners, strides, truth)
        positive = index >= 0
        found = index.clamp(min=0)
        classes = truth.classes.gather(1, found) - 1
        wanted = torch.zeros_like(logits).scatter(
            2, classes.clamp(min=0)[..., None], torch.where(positive, overlaps, 0.0)[..., None]
        )
        quality = (wanted - logits.sigmoid()).abs().square() * F.binary_cross_entropy_with_logits(
            logits, wanted, reduction="none"
        )
        counts = positive | ~within(corners, truth.ignored_xyxy).any(dim=2)
        score = (quality * counts[..., None]).sum()
        target = truth.boxes_xyxy.gather(1, found[..., None].expand(-1, -1, 4))
        # A box that stands for all cells without a person: its loss is 0 and so is its gradient.
        same = torch.tensor([0.0, 0.0, 1.0, 1.0], device=boxes.device)
        giou = generalized_box_iou_loss(
            torch.where(positive[..., None], boxes, same),
            torch.where(positive[..., None], target, same),
        )
        box = (giou * torch.where(positive, overlaps, 0.0)).sum()
        return {
            "score": score / _CELLS_PER_BOX,
            "box": self._table.box_weight * box / _CELLS_PER_BOX,
        }


def box_counts(batch: DetectionBatch) -> dict[str, Tensor]:
    """What each loss of a batch is divided by: its boxes, and one for each image."""
    boxes = sum(len(target.boxes_xyxy) for target in batch.targets)
    count = torch.tensor(float(boxes + len(batch)), device=batch.pixels.device)
    return dict.fromkeys(NAMES, count)


@dataclass(frozen=True, eq=False)
class Truth:
    """What is in the images of a batch, padded to the same number of boxes.

    Attributes:
        boxes_xyxy: (B, G, 4); G >= 1. Padding has no area, so no cell lies within it.
        classes: (B, G) from 1 on; 0 for padding.
        ignored_xyxy: (B, M, 4); M >= 1; padded likewise.
    """

    boxes_xyxy: Tensor
    classes: Tensor
    ignored_xyxy: Tensor

    @classmethod
    def of(cls, targets: tuple[Target, ...]) -> Truth:
        """The targets of a batch, side by side."""

        def padded(tensors: list[Tensor]) -> Tensor:
            most = max(1, *(len(tensor) for tensor in tensors))
            return torch.stack(
                [
                    F.pad(tensor, (*[0, 0] * (tensor.dim() - 1), 0, most - len(tensor)))
                    for tensor in tensors
                ]
            )

        return cls(
            padded([target.boxes_xyxy for target in targets]),
            padded([target.classes for target in targets]),
            padded([target.ignored_xyxy for target in targets]),
        )


def cell_strides(size_hw: tuple[int, int], device: torch.device | None = None) -> Tensor:
    """The stride (P,) of every cell of `cell_corners`."""
    numbers = [(size_hw[0] // stride) * (size_hw[1] // stride) for stride in STRIDES]
    return torch.cat(
        [
            torch.full((number,), float(stride), device=device)
            for number, stride in zip(numbers, STRIDES, strict=True)
        ]
    )


def within(corners: Tensor, boxes_xyxy: Tensor) -> Tensor:
    """Which of the points (P, 2) lie inside which of the boxes (B, G, 4): (B, P, G)."""
    points, boxes = corners[None, :, None], boxes_xyxy[:, None]
    return ((points > boxes[..., :2]) & (points < boxes[..., 2:])).all(dim=-1)


def overlaps_of(boxes_xyxy: Tensor, truth_xyxy: Tensor) -> Tensor:
    """IoU (B, P, G) of boxes (B, P, 4) and (B, G, 4); boxes turned inside out have none."""
    first, second = boxes_xyxy[:, :, None], truth_xyxy[:, None]
    shared = (
        (torch.minimum(first[..., 2:], second[..., 2:]))
        - torch.maximum(first[..., :2], second[..., :2])
    ).clamp(min=0)
    shared_area = shared[..., 0] * shared[..., 1]
    areas = [(b[..., 2:] - b[..., :2]).clamp(min=0).prod(dim=-1) for b in (first, second)]
    overlap: Tensor = shared_area / (areas[0] + areas[1] - shared_area).clamp(min=1e-6)
    return overlap


@torch.no_grad()
def assign_cells(
    boxes_xyxy: Tensor, logits: Tensor, corners: Tensor, strides: Tensor, truth: Truth
) -> tuple[Tensor, Tensor]:
    """Which person each cell should find: RTMDet's dynamic soft label assignment.

    Args:
        boxes_xyxy: (B, P, 4) that the cells give now.
        logits: (B, P, classes) that they give now.
        corners: (P, 2) of the cells.
        strides: (P,) of the cells.
        truth: what is there.

    Returns:
        (B, P) int64 the place of the person in `truth`, -1 for nobody; and (B, P) the IoU with it,
        any value where there is nobody.
    """
    overlap = overlaps_of(boxes_xyxy, truth.boxes_xyxy)
    inside = within(corners, truth.boxes_xyxy)
    overlap = torch.where(inside, overlap, 0.0)
    classes = (truth.classes - 1).clamp(min=0)[:, None].expand(-1, len(corners), -1)
    scores = logits.gather(2, classes)  # (B, P, G), of each person's class
    cost = F.binary_cross_entropy_with_logits(scores, overlap, reduction="none")
    cost = cost * (overlap - scores.sigmoid()).square()
    cost = cost - _OVERLAP_COST * (overlap + 1e-7).log()
    middles = (truth.boxes_xyxy[..., :2] + truth.boxes_xyxy[..., 2:]) / 2
    away = (corners[None, :, None] - middles[:, None]).norm(dim=-1) / strides[None, :, None]
    cost = cost + 10 ** (away.clamp(max=_MIDDLE_RADIUS + 6) - _MIDDLE_RADIUS)
    cost = torch.where(inside, cost, _NEVER)
    most = min(_MOST_CELLS, len(corners))
    wanted = overlap.topk(most, dim=1).values.sum(dim=1).int().clamp(min=1)  # (B, G)
    cheapest = cost.topk(most, dim=1, largest=False)
    rank = torch.arange(most, device=cost.device)[None, :, None]
    chosen = (rank < wanted[:, None]) & (cheapest.values < _NEVER)
    matches = torch.zeros_like(inside).scatter(1, cheapest.indices, chosen)
    # A cell that several want goes to the one whose cost is lowest.
    best = torch.where(matches, cost, 2 * _NEVER).min(dim=2)
    index = torch.where(best.values < _NEVER, best.indices, -1)
    return index, overlap.gather(2, best.indices[..., None])[..., 0]
