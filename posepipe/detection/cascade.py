"""A cascade of box heads: each refines the boxes of the one before it.

Cascade R-CNN (Cai and Vasconcelos, "Cascade R-CNN: Delving into High Quality Object Detection",
CVPR 2018), on torchvision's networks, which have none: the RoIs of every later stage are the boxes
of the stage before, and count as an object from a higher IoU on. In use the boxes are those of the
last stage, the scores the mean over all stages' opinions of their own RoIs, as in detectron2.
Boxes do not depend on the class. All stages have torchvision's one box coder; the paper and
detectron2 scale the deltas of later stages by two and three times as much.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection._utils import Matcher
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.ops import clip_boxes_to_image


class BoxPredictor(nn.Module):
    """The last two layers of a stage.

    Args:
        features: size of a RoI's vector.
        classes: number of classes, background included.
    """

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self.cls_score = nn.Linear(features, classes)
        self.bbox_pred = nn.Linear(features, 4)

    def forward(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Class logits (R, C) and box deltas (R, 4 C) of (R, F).

        The deltas are the same four for every class; torchvision's coder and losses want 4 C.
        """
        logits = self.cls_score(vectors)
        return logits, self.bbox_pred(vectors).repeat(1, logits.shape[1])


class LaterStage(nn.Module):
    """A stage after the first.

    Attributes:
        box_head: from (R, C, 7, 7) to (R, F).
        box_predictor: from (R, F) to logits and deltas.
        proposal_matcher: torchvision's; tells which of the stage's RoIs are objects.
    """

    def __init__(self, box_head: nn.Module, box_predictor: BoxPredictor, iou: float) -> None:
        super().__init__()
        self.box_head, self.box_predictor = box_head, box_predictor
        self.proposal_matcher = Matcher(iou, iou, allow_low_quality_matches=False)


class CascadeRoIHeads(RoIHeads):  # type: ignore[misc]  # torchvision has no types
    """torchvision's box head as the first stage, and more after it; without masks and keypoints.

    Args:
        first: the first stage, with a `BoxPredictor`; its parts and settings are taken over.
        later: the stages after it.
    """

    def __init__(self, first: RoIHeads, later: Sequence[LaterStage]) -> None:
        given: Any = first
        super().__init__(
            given.box_roi_pool,
            given.box_head,
            given.box_predictor,
            given.proposal_matcher.high_threshold,
            given.proposal_matcher.low_threshold,
            given.fg_bg_sampler.batch_size_per_image,
            given.fg_bg_sampler.positive_fraction,
            given.box_coder.weights,
            given.score_thresh,
            given.nms_thresh,
            given.detections_per_img,
        )
        self.later = nn.ModuleList(later)

    def forward(
        self,
        features: dict[str, Tensor],
        proposals: list[Tensor],
        image_shapes: list[tuple[int, int]],
        targets: list[dict[str, Tensor]] | None = None,
    ) -> tuple[list[dict[str, Tensor]], dict[str, Tensor]]:
        """The boxes of every image as torchvision gives them; training goes another way.

        Args:
            features: the pyramid.
            proposals: (P, 4) RoIs of each image in the network's pixels.
            image_shapes: height and width of each image.
            targets: none: torchvision's losses know only one stage.

        Raises:
            ValueError: there are targets.

        Returns:
            For each image "boxes" (N, 4), "scores" (N,) and "labels" (N,), N = 0 where there is
            nothing; and no losses.
        """
        if targets is not None:
            raise ValueError("a cascade is trained with posepipe.training.detector.losses")
        rois, opinions, stages = proposals, [], box_stages(self)
        for stage in stages:
            pooled = self.box_roi_pool(features, rois, image_shapes)
            logits, deltas = stage.box_predictor(stage.box_head(pooled))
            opinions.append(logits.softmax(dim=1))
            if stage is not stages[-1]:
                rois = refined(deltas, rois, image_shapes, self.box_coder)
        mean = torch.stack(opinions).mean(dim=0).log()  # postprocessing takes logits
        found = self.postprocess_detections(mean, deltas, rois, image_shapes)
        names = ("boxes", "scores", "labels")
        return [dict(zip(names, one, strict=True)) for one in zip(*found, strict=True)], {}


def box_stages(heads: RoIHeads) -> list[Any]:
    """What has the `box_head`, `box_predictor` and `proposal_matcher` of each stage, in order."""
    return [heads, *getattr(heads, "later", ())]


@torch.no_grad()
def refined(
    deltas: Tensor, rois: Sequence[Tensor], image_shapes: Sequence[tuple[int, int]], coder: Any
) -> list[Tensor]:
    """The boxes of a stage, which are the RoIs of the next.

    Args:
        deltas: (R, 4 C) of all images' RoIs, the same for every class.
        rois: (R_i, 4) of each image, R in all; R_i = 0 gives no boxes for it.
        image_shapes: height and width of each image; boxes are cut to it.
        coder: torchvision's box coder.

    Returns:
        (R_i, 4) for each image, in the order of its RoIs; some may have no area.
    """
    boxes = coder.decode_single(deltas[:, :4], torch.cat(list(rois)))
    parts = boxes.split([len(of_image) for of_image in rois])
    return [
        clip_boxes_to_image(part, shape) for part, shape in zip(parts, image_shapes, strict=True)
    ]
