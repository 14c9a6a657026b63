"""The losses of a two-stage detector: what anchors and RoIs should learn, and which of them do.

Faster R-CNN (Ren et al. 2015) with torchvision's networks and matching, and four additions:
regions that are to be ignored, online hard example mining (OHEM; Shrivastava, Gupta and Girshick
2016) in place of random RoIs, a generalised IoU loss (Rezatofighi et al. 2019), and cascades of box
heads (`posepipe.detection.cascade`): the RoIs chosen for the first stage go through all of them.

Every image's loss is the mean over its own anchors or RoIs, and a batch's the mean over its
images. So the sums of parts of a batch, on other processes or one after the other, add up to what
the whole batch gives. Where all images have the full number of anchors and RoIs it is
torchvision's own loss.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import concat_box_prediction_layers
from torchvision.ops import box_iou, generalized_box_iou_loss, nms

from posepipe.detection.cascade import box_stages, refined
from posepipe.detection.torchvision import Preprocessing
from posepipe.networks.precision import to_float32
from posepipe.training.detector.batches import DetectionBatch, Target
from posepipe.training.detector.table import BoxLoss, DetectorTrainingTable
from posepipe.training.pose.losses import Losses, Part

NAMES = ("objectness", "proposal_box", "class", "box")
_BETA = 1 / 9  # of smooth L1: torchvision's


class DetectorLosses(nn.Module):
    """A detector as the training loop runs it: a batch in, its losses out.

    Convolutions and linear layers run in `dtype`; box arithmetic, matching and losses in float32,
    whatever autocast is around it.

    Attributes:
        network: the detector; in training mode.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        network: GeneralizedRCNN,
        preprocessing: Preprocessing,
        table: DetectorTrainingTable,
        *,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        self.network, self._table, self._dtype = network, table, dtype
        for name, rgb in (("mean", preprocessing.mean), ("std", preprocessing.std)):
            self.register_buffer(name, torch.tensor(rgb)[:, None, None], persistent=False)

    def forward(self, batch: DetectionBatch) -> tuple[Losses, None]:
        """The four losses of a batch; nothing that is mined has a name."""
        network: Any = self.network
        with torch.autocast(batch.pixels.device.type, enabled=False):
            images = self._images(batch)
            features = self._lower(network.backbone, images.tensors)
            proposals, losses = self._proposals(images, features, batch)
            rois, labels, matched = self._rois(images, features, proposals, batch)
            of_stages: list[tuple[Part, Part]] = []
            stages = box_stages(network.roi_heads)
            for stage, following in zip(stages, [*stages[1:], None], strict=True):
                logits, deltas = self._heads(images, features, rois, stage)
                class_losses, box_losses = self._roi_losses(
                    logits, deltas, torch.cat(rois), torch.cat(labels), torch.cat(matched)
                )
                numbers = [len(of_image) for of_image in rois]
                of_stages.append(
                    (_mean_by_image(class_losses, numbers), _mean_by_image(box_losses, numbers))
                )
                if following is not None:
                    coder = network.roi_heads.box_coder
                    boxes = refined(deltas, rois, images.image_sizes, coder)
                    rois, labels, matched = self._assigned(boxes, batch, following)
            losses["class"], losses["box"] = map(_mean_of_stages, zip(*of_stages, strict=True))
        return losses, None

    def _images(self, batch: DetectionBatch) -> ImageList:
        """Normalised images, padded with the mean colour as the running detector pads them."""
        pixels = batch.pixels.permute(0, 3, 1, 2)  # a view: channels last
        tensors = (pixels.float() / 255 - self.mean) / self.std
        for image, (height, width) in zip(tensors, batch.sizes_hw, strict=True):
            image[:, height:] = 0
            image[:, :, width:] = 0
        return ImageList(tensors, list(batch.sizes_hw))

    def _lower(self, module: Callable[..., Any], *inputs: Any) -> Any:
        """A module run in the lower precision, its outputs in float32."""
        device = self.mean.device.type
        with torch.autocast(device, dtype=self._dtype, enabled=self._dtype != torch.float32):
            return to_float32(module(*inputs))

    def _proposals(
        self, images: ImageList, features: dict[str, Tensor], batch: DetectionBatch
    ) -> tuple[list[Tensor], Losses]:
        """The RPN's boxes (P, 4) of each image, without gradient, and its losses."""
        rpn: Any = self.network.rpn
        levels = list(features.values())
        objectness, deltas = self._lower(rpn.head, levels)
        anchors: list[Tensor] = rpn.anchor_generator(images, levels)
        per_level = [level[0].numel() for level in objectness]
        objectness, deltas = concat_box_prediction_layers(objectness, deltas)
        count = len(batch)
        decoded = rpn.box_coder.decode(deltas.detach(), anchors).view(count, -1, 4)
        proposals, _ = rpn.filter_proposals(decoded, objectness, images.image_sizes, per_level)
        sampler = rpn.fg_bg_sampler
        chosen, truths, targets = [], [], []
        for of_image, target, seed in zip(anchors, batch.targets, batch.seeds, strict=True):
            labels, matched = assign(
                of_image, target, rpn.proposal_matcher, self._table.ignore_overlap
            )
            picked = sample_some(
                labels,
                sampler.batch_size_per_image,
                sampler.positive_fraction,
                torch.Generator().manual_seed(seed),
            )
            chosen.append(picked)
            truths.append((labels[picked] > 0).float())
            targets.append(rpn.box_coder.encode_single(matched[picked], of_image[picked]))
        numbers = [len(picked) for picked in chosen]
        rows = torch.cat([picked + place * len(anchors[0]) for place, picked in enumerate(chosen)])
        truth, wanted = torch.cat(truths), torch.cat(targets)
        box = F.smooth_l1_loss(deltas[rows], wanted, beta=_BETA, reduction="none").sum(dim=1)
        losses = {
            "objectness": _mean_by_image(
                F.binary_cross_entropy_with_logits(
                    objectness.flatten()[rows], truth, reduction="none"
                ),
                numbers,
            ),
            "proposal_box": _mean_by_image(torch.where(truth > 0, box, 0.0), numbers),
        }
        return proposals, losses

    def _rois(
        self,
        images: ImageList,
        features: dict[str, Tensor],
        proposals: Sequence[Tensor],
        batch: DetectionBatch,
    ) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """The RoIs (R, 4) of each image that are learnt from, their classes, their true boxes."""
        heads: Any = self.network.roi_heads
        with_truth = [
            torch.cat([of_image, target.boxes_xyxy])
            for of_image, target in zip(proposals, batch.targets, strict=True)
        ]
        rois, labels, matched = self._assigned(with_truth, batch, heads)
        number, fraction = (
            heads.fg_bg_sampler.batch_size_per_image,
            heads.fg_bg_sampler.positive_fraction,
        )
        if self._table.ohem:
            losses = self._read_only_losses(images, features, rois, labels, matched)
            picks = [
                hardest(boxes, of_image, number, self._table.ohem_nms)
                for boxes, of_image in zip(rois, losses, strict=True)
            ]
        else:
            picks = [
                # Another stream than the anchors'.
                sample_some(classes, number, fraction, torch.Generator().manual_seed(seed ^ 1))
                for classes, seed in zip(labels, batch.seeds, strict=True)
            ]
        return (
            [boxes[picked] for boxes, picked in zip(rois, picks, strict=True)],
            [classes[picked] for classes, picked in zip(labels, picks, strict=True)],
            [truths[picked] for truths, picked in zip(matched, picks, strict=True)],
        )

    def _assigned(
        self, rois: Sequence[Tensor], batch: DetectionBatch, stage: Any
    ) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """Those RoIs of each image that are people or background, their classes, true boxes."""
        kept, labels, matched = [], [], []
        for boxes, target in zip(rois, batch.targets, strict=True):
            classes, truths = assign(
                boxes, target, stage.proposal_matcher, self._table.ignore_overlap
            )
            counts = (classes >= 0) & (boxes[:, 2:] > boxes[:, :2]).all(dim=1)
            kept.append(boxes[counts])
            labels.append(classes[counts])
            matched.append(truths[counts])
        return kept, labels, matched

    def _heads(
        self, images: ImageList, features: dict[str, Tensor], rois: list[Tensor], stage: Any
    ) -> tuple[Tensor, Tensor]:
        """Class logits (R, C) and box deltas (R, 4 C) of all RoIs of a batch."""
        heads: Any = self.network.roi_heads
        pooled = heads.box_roi_pool(features, rois, images.image_sizes)
        logits, deltas = self._lower(lambda x: stage.box_predictor(stage.box_head(x)), pooled)
        return logits, deltas

    @torch.no_grad()
    def _read_only_losses(
        self,
        images: ImageList,
        features: dict[str, Tensor],
        rois: list[Tensor],
        labels: list[Tensor],
        matched: list[Tensor],
    ) -> tuple[Tensor, ...]:
        """The present loss (R,) of every candidate RoI of each image (OHEM, section 4.2).

        The head runs as it does when it is used, so that its batch normalisations, if there are
        any, learn from chosen RoIs alone.
        """
        heads: Any = self.network.roi_heads
        training = heads.box_head.training
        heads.box_head.eval()
        logits, deltas = self._heads(images, features, rois, heads)
        heads.box_head.train(training)
        class_losses, box_losses = self._roi_losses(
            logits, deltas, torch.cat(rois), torch.cat(labels), torch.cat(matched)
        )
        return torch.split(class_losses + box_losses, [len(of_image) for of_image in rois])

    def _roi_losses(
        self, logits: Tensor, deltas: Tensor, rois: Tensor, labels: Tensor, matched: Tensor
    ) -> tuple[Tensor, Tensor]:
        """(R,) losses of the class, and (R,) of the box, 0 where there is none."""
        coder: Any = self.network.roi_heads.box_coder
        positive = torch.where(labels > 0)[0]
        of_class = deltas.reshape(len(deltas), -1, 4)[positive, labels[positive]]
        box = regression_losses(
            of_class, rois[positive], matched[positive], coder, kind=self._table.box_loss
        )
        boxes = torch.zeros_like(logits[:, 0]).index_put((positive,), box)
        classes = F.cross_entropy(logits, labels, reduction="none")
        return classes, self._table.box_weight * boxes


def assign(
    boxes_xyxy: Tensor, target: Target, matcher: Callable[[Tensor], Tensor], ignore_overlap: float
) -> tuple[Tensor, Tensor]:
    """What each anchor or proposal of an image should be.

    Args:
        boxes_xyxy: (N, 4).
        target: what is in the image.
        matcher: torchvision's: (people, N) IoUs to (N,) indices, -1 background, -2 neither.
        ignore_overlap: background of which an ignored region covers at least this share is neither.

    Returns:
        (N,) int64 classes: 0 background, -1 to be left out; and (N, 4) the true boxes of those that
        have a class above 0, any values elsewhere.
    """
    if len(target.boxes_xyxy):
        indices = matcher(box_iou(target.boxes_xyxy, boxes_xyxy))
        found = indices.clamp(min=0)
        labels = torch.where(indices >= 0, target.classes[found], 0)
        labels = torch.where(indices == -2, -1, labels)
        matched = target.boxes_xyxy[found]
    else:
        labels = torch.zeros(len(boxes_xyxy), dtype=torch.int64, device=boxes_xyxy.device)
        matched = boxes_xyxy
    if len(target.ignored_xyxy):
        hidden = share_covered(boxes_xyxy, target.ignored_xyxy) >= ignore_overlap
        labels = torch.where((labels == 0) & hidden, -1, labels)
    return labels, matched


def share_covered(boxes_xyxy: Tensor, regions_xyxy: Tensor) -> Tensor:
    """(N,) the largest share of each box (N, 4) that one of the regions (M, 4) covers; M > 0.

    >>> share_covered(torch.tensor([[0., 0., 4., 4.]]), torch.tensor([[2., 0., 9., 9.]])).item()
    0.5
    """
    low = torch.maximum(boxes_xyxy[:, None, :2], regions_xyxy[None, :, :2])
    high = torch.minimum(boxes_xyxy[:, None, 2:], regions_xyxy[None, :, 2:])
    shared = (high - low).clamp(min=0).prod(dim=-1)  # (N, M)
    areas = (boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]).prod(dim=-1).clamp(min=1e-6)
    return (shared / areas[:, None]).max(dim=1).values


def sample_some(
    labels: Tensor, number: int, positive_fraction: float, generator: torch.Generator
) -> Tensor:
    """Indices of a random choice with at most a share of positives, the rest background.

    Args:
        labels: (N,) above 0 positive, 0 background, below 0 never chosen.
        number: how many to choose; fewer where there are too few.
        positive_fraction: the largest share of positives in it.
        generator: on the CPU; its numbers alone decide.
    """
    order = torch.randperm(len(labels), generator=generator).to(labels.device)
    shuffled = labels[order]
    positive = order[shuffled > 0][: int(number * positive_fraction)]
    return torch.cat([positive, order[shuffled == 0][: number - len(positive)]])


def hardest(boxes_xyxy: Tensor, losses: Tensor, number: int, overlap: float) -> Tensor:
    """Online hard example mining: indices of an image's RoIs with the largest losses.

    RoIs that overlap each other share most of their loss; of these only the hardest counts
    (Shrivastava et al. 2016, section 4.2: NMS by loss at an IoU of 0.7). There is no share of
    positives to keep.

    Args:
        boxes_xyxy: (N, 4).
        losses: (N,) each RoI's present loss.
        number: how many to choose; fewer where there are too few.
        overlap: IoU above which two RoIs are one; 1 for no suppression.
    """
    order = nms(boxes_xyxy, losses, overlap) if overlap < 1 else losses.argsort(descending=True)
    return order[:number]


def regression_losses(
    deltas: Tensor, rois_xyxy: Tensor, truth_xyxy: Tensor, coder: Any, *, kind: BoxLoss
) -> Tensor:
    """(P,) losses of predicted boxes.

    Args:
        deltas: (P, 4) predicted, in the coder's terms.
        rois_xyxy: (P, 4) what they are relative to.
        truth_xyxy: (P, 4) the boxes that they should be.
        coder: torchvision's box coder.
        kind: "smooth_l1" of the deltas, summed over the four; or "giou" of the boxes.
    """
    if kind == "giou":
        losses: Tensor = generalized_box_iou_loss(
            coder.decode_single(deltas, rois_xyxy), truth_xyxy
        )
        return losses
    wanted = coder.encode_single(truth_xyxy, rois_xyxy)
    return F.smooth_l1_loss(deltas, wanted, beta=_BETA, reduction="none").sum(dim=1)


def image_counts(batch: DetectionBatch) -> dict[str, Tensor]:
    """What each loss of a batch is divided by: the number of its images."""
    count = torch.tensor(float(len(batch)), device=batch.pixels.device)
    return dict.fromkeys(NAMES, count)


def _mean_of_stages(parts: Sequence[Part]) -> Part:
    """The mean of a loss over the stages of a cascade."""
    return Part(torch.stack([part.total for part in parts]).mean(), parts[0].count)


def _mean_by_image(losses: Tensor, numbers: Sequence[int]) -> Part:
    """The sum over images of the mean over each one's losses, and the number of images.

    Args:
        losses: (N,) of all images, one after the other.
        numbers: how many are each image's; 0 adds nothing.
    """
    shares = [1 / max(number, 1) for number in numbers]
    weights = torch.repeat_interleave(
        losses.new_tensor(shares), torch.tensor(numbers, device=losses.device)
    )
    return Part((losses * weights).sum(), losses.new_tensor(float(len(numbers))))
