"""CPN's losses (sections 3.2.1, 3.2.2, 4.2.3): L2 on heatmaps, with online hard keypoint mining."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from posepipe.pose.heatmaps import encode


def keypoint_l2(heatmaps: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """(B, K) mean squared errors over each keypoint's map, times its weight.

    Args:
        heatmaps: (B, K, h, w) predicted.
        targets: (B, K, h, w) wanted.
        weights: (B, K); 0 for keypoints that nobody annotated: they give no loss.
    """
    return (heatmaps.float() - targets).square().mean(dim=(-2, -1)) * weights


def mean_over_annotated(losses: Tensor, weights: Tensor) -> Tensor:
    """The mean of (B, K) losses over all annotated keypoints; 0 where there is none."""
    return losses.sum() / weights.gt(0).sum().clamp(min=1)


def hard_keypoint_mean(losses: Tensor, weights: Tensor, hardest: int) -> Tensor:
    """Online hard keypoint mining: each person's mean over their `hardest` largest losses.

    A person with fewer annotated keypoints than that counts with those they have; a person with
    none counts nothing (CPN, section 3.2.2; M = 8 is best in table 6).

    Args:
        losses: (B, K) per keypoint, 0 where not annotated.
        weights: (B, K), 0 where not annotated.
        hardest: M.

    >>> losses = torch.tensor([[3.0, 1.0, 2.0]])
    >>> hard_keypoint_mean(losses, torch.ones(1, 3), hardest=2).item()
    2.5
    """
    top = losses.topk(min(hardest, losses.shape[1]), dim=1).values.sum(dim=1)  # (B,)
    counted = weights.gt(0).sum(dim=1).clamp(max=hardest)  # (B,)
    people = counted.gt(0).sum().clamp(min=1)
    return (top / counted.clamp(min=1)).sum() / people


def cpn_loss(
    levels: Sequence[Tensor],
    refined: Tensor,
    points_xy: Tensor,
    weights: Tensor,
    *,
    stride: int,
    amplitude: float,
    sigmas: Sequence[float],
    hardest: int,
) -> tuple[Tensor, Tensor]:
    """GlobalNet's and RefineNet's loss of one batch.

    GlobalNet: L2 on all annotated keypoints at each level, each level with its own Gaussian
    (the public CPN code bases' way), mean over the levels. RefineNet: L2 with hard keypoint mining,
    its Gaussian being that of C2.

    Args:
        levels: GlobalNet's heatmaps from C2 to C5, (B, K, h, w) each.
        refined: RefineNet's (B, K, h, w).
        points_xy: (B, K, 2) crop pixels.
        weights: (B, K) per keypoint, 0 where not annotated.
        stride: crop pixels per heatmap cell.
        amplitude: the peak of the targets.
        sigmas: standard deviations for C2 to C5, in cells.
        hardest: M of the mining; K for none.
    """
    shape_hw = (refined.shape[-2], refined.shape[-1])
    global_loss = refined.new_zeros((), dtype=torch.float32)
    targets = encode(points_xy, shape_hw, stride=stride, sigma=sigmas[0], amplitude=amplitude)
    refine_losses = keypoint_l2(refined, targets, weights)
    for heatmaps, sigma in zip(levels, sigmas, strict=True):
        wanted = encode(points_xy, shape_hw, stride=stride, sigma=sigma, amplitude=amplitude)
        global_loss = global_loss + mean_over_annotated(
            keypoint_l2(heatmaps, wanted, weights), weights
        )
    return global_loss / len(sigmas), hard_keypoint_mean(refine_losses, weights, hardest)
