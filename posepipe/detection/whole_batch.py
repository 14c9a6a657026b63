"""A torchvision R-CNN on a whole batch: its own numbers, without a wait at every step.

torchvision goes through the images of a batch one by one, and shapes depend on numbers at every
step, so that a GPU stops 27 times for each image. Here all images take every step together, with
arrays of fixed size and masks for what is out. For a batch, however large, the host waits for
numbers at four steps: a few times where proposals are suppressed, once for each stage of box heads,
where RoIs go to levels of the pyramid, and once for the number of boxes.

The boxes are those that torchvision gives at an NMS threshold of 1 without a limit per image.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import concat_box_prediction_layers
from torchvision.ops import nms, roi_align

from posepipe.detection.cascade import box_stages

_SMALLEST = 1e-2  # pixels: torchvision's own limit for the sides of boxes
_STEPS = 8  # of suppression between two looks at whether it is done


def boxes_of_all(network: GeneralizedRCNN, images: Tensor, sizes_wh: Tensor) -> Tensor:
    """All boxes of all classes that score enough, in the images of a batch.

    Args:
        network: in evaluation mode; boxes score enough above its ``roi_heads.score_thresh``.
        images: (B, 3, H, W) normalised and padded, on the network's device; B is at least 1.
        sizes_wh: (B, 2) float32 there: width and height of each image without its padding.

    Returns:
        (M, 7) float32 there: image, class, score and box x1, y1, x2, y2 in the network's pixels;
        those of an image lie together.
    """
    heads: Any = network.roi_heads
    features = network.backbone(images)
    limits = sizes_wh.repeat(1, 2)[:, None]  # (B, 1, 4)
    proposals, is_one = _proposals(network.rpn, images, list(features.values()), limits)
    of_image = torch.arange(len(images), device=images.device)[:, None].expand_as(is_one).flatten()
    rois, limits = proposals.flatten(0, 1), limits.expand_as(proposals).flatten(0, 1)[:, None]
    there = is_one.flatten()
    if images.device.type == "cpu":  # nothing waits for anything: only what is there is looked at
        of_image, rois, limits, there = (part[there] for part in (of_image, rois, limits, there))
    opinions, stages = [], box_stages(heads)
    for stage in stages:
        pooled = _pooled(heads.box_roi_pool, features, of_image, rois)
        logits, deltas = stage.box_predictor(stage.box_head(pooled))
        opinions.append(logits.softmax(dim=-1))
        boxes = _clipped(_decoded(heads.box_coder, deltas, rois), limits)  # (R, classes, 4)
        rois = boxes[:, 0]  # of a cascade, whose boxes do not depend on the class
    scores = opinions[0]
    if len(opinions) > 1:
        scores = torch.stack(opinions).mean(dim=0).log().softmax(dim=-1)
    found = (scores > heads.score_thresh) & _large(boxes, _SMALLEST) & there[:, None]
    roi, label = found[:, 1:].nonzero().unbind(dim=1)
    label = label + 1
    about = torch.stack([of_image[roi], label, scores[roi, label]], dim=1)
    return torch.cat([about, boxes[roi, label]], dim=1)


def _proposals(
    rpn: Any, images: Tensor, features: Sequence[Tensor], limits: Tensor
) -> tuple[Tensor, Tensor]:
    """Boxes (B, P, 4) that may contain objects, and (B, P) whether there is one at all."""
    logits, deltas = rpn.head(features)
    counts = [level.shape[1:].numel() for level in logits]
    logits, deltas = concat_box_prediction_layers(logits, deltas)
    logits, deltas = (part.reshape(len(images), sum(counts), -1) for part in (logits, deltas))
    [anchors] = rpn.anchor_generator(ImageList(images[:1], [tuple(images.shape[2:])]), features)
    best = [
        level.topk(min(rpn.pre_nms_top_n(), level.shape[1]), dim=1).indices
        for level in logits[..., 0].split_with_sizes(counts, dim=1)
    ]
    starts = [sum(counts[:level]) for level in range(len(counts))]
    chosen = torch.cat([part + start for part, start in zip(best, starts, strict=True)], dim=1)
    deltas = deltas.gather(1, chosen[..., None].expand(-1, -1, 4))
    boxes = _clipped(_decoded(rpn.box_coder, deltas, anchors[chosen])[:, :, 0], limits)
    scores = logits[..., 0].gather(1, chosen).sigmoid()
    valid = _large(boxes, rpn.min_size) & (scores >= rpn.score_thresh)
    sizes = [part.shape[1] for part in best]
    suppress = _unsuppressed_one_by_one if boxes.device.type == "cpu" else unsuppressed
    of_levels, there = (part.split_with_sizes(sizes, dim=1) for part in (boxes, valid))
    kept = torch.cat(suppress(of_levels, there, rpn.nms_thresh), dim=1)
    ranked = torch.where(kept, scores, -1.0).sort(dim=1, descending=True, stable=True)
    places = ranked.indices[:, : rpn.post_nms_top_n()]
    proposals = boxes.gather(1, places[..., None].expand(-1, -1, 4))
    return proposals, ranked.values[:, : rpn.post_nms_top_n()] >= 0


def unsuppressed(
    boxes: Sequence[Tensor], valid: Sequence[Tensor], threshold: float
) -> list[Tensor]:
    """Which boxes greedy NMS keeps, of many images and levels at once, which do not see each other.

    A box stays if no better one that stays overlaps it. Every step says so of all boxes at once, by
    what stayed a step before: after as many steps as the longest chain of boxes, nothing changes.

    Args:
        boxes: (B, N, 4) of each level, best first.
        valid: (B, N) of each level: the others are not there.
        threshold: the IoU above which boxes overlap.

    Returns:
        (B, N) of each level.
    """
    overlapping = [_overlaps(of_level, threshold) for of_level in boxes]
    kept = list(valid)
    while True:
        for _ in range(_STEPS):
            before = kept
            kept = [
                there & ~(overlaps & stays[:, :, None]).any(dim=1)
                for there, overlaps, stays in zip(valid, overlapping, before, strict=True)
            ]
        changes = [(a != b).any() for a, b in zip(kept, before, strict=True)]
        if not torch.stack(changes).any():
            return kept


def _overlaps(boxes: Tensor, threshold: float) -> Tensor:
    """(B, N, N) whether a box overlaps one of those after it."""
    area = (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])
    first, second = boxes[:, :, None], boxes[:, None]
    sides = torch.minimum(first[..., 2:], second[..., 2:]) - torch.maximum(
        first[..., :2], second[..., :2]
    )
    shared = sides.clamp(min=0).prod(dim=-1)
    return (shared / (area[:, :, None] + area[:, None] - shared) > threshold).triu(diagonal=1)


def _unsuppressed_one_by_one(
    boxes: Sequence[Tensor], valid: Sequence[Tensor], threshold: float
) -> list[Tensor]:
    """The same as `unsuppressed`, where nothing waits for anything: with less arithmetic."""
    kept = [torch.zeros_like(there) for there in valid]
    for of_level, there, stays in zip(boxes, valid, kept, strict=True):
        for image, places in enumerate(there):
            known = places.nonzero()[:, 0]
            order = torch.arange(len(known), 0, -1, dtype=torch.float32)
            stays[image, known[nms(of_level[image, known], order, threshold)]] = True
    return kept


def _pooled(pool: Any, features: dict[str, Tensor], of_image: Tensor, rois: Tensor) -> Tensor:
    """(R, C, h, w): what the pyramid has in (R, 4) RoIs, each on the level for its size."""
    maps = [level for name, level in features.items() if name in pool.featmap_names]
    given = torch.cat([of_image[:, None].to(rois), rois], dim=1)
    size, ratio = pool.output_size, pool.sampling_ratio
    levels = pool.map_levels([rois])
    order = levels.argsort(stable=True)
    counts = (levels[:, None] == torch.arange(len(maps), device=levels.device)).sum(dim=0).tolist()
    parts = [
        roi_align(level, of_level, size, spatial_scale=scale, sampling_ratio=ratio)
        for level, of_level, scale in zip(
            maps, given[order].split_with_sizes(counts), pool.scales, strict=True
        )
    ]
    joined = torch.cat(parts)
    return torch.empty_like(joined).index_copy_(0, order, joined)


def _decoded(coder: Any, deltas: Tensor, boxes: Tensor) -> Tensor:
    """(..., C, 4) boxes of (..., 4 C) deltas from (..., 4) boxes: torchvision's coder's.

    The coder itself sends two numbers to the device, for which the host would wait.
    """
    deltas = deltas.reshape(*deltas.shape[:-1], -1, 4)
    sizes = (boxes[..., 2:] - boxes[..., :2])[..., None, :]
    centres = boxes[..., None, :2] + 0.5 * sizes
    x, y, w, h = coder.weights
    dx, dy, dw, dh = deltas.unbind(dim=-1)
    moved = torch.stack([dx / x, dy / y], dim=-1) * sizes + centres
    grown = torch.stack([dw / w, dh / h], dim=-1).clamp(max=coder.bbox_xform_clip).exp() * sizes
    return torch.cat([moved - 0.5 * grown, moved + 0.5 * grown], dim=-1)


def _clipped(boxes: Tensor, limits: Tensor) -> Tensor:
    return torch.minimum(boxes.clamp(min=0), limits)


def _large(boxes: Tensor, side: float) -> Tensor:
    return (boxes[..., 2:] - boxes[..., :2] >= side).all(dim=-1)
