"""Heatmaps and labels whose losses can be worked out by hand."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from posepipe.pose.networks.outputs import TrainingHeatmaps
from posepipe.training.pose.losses import (
    PoseLossTable,
    pose_loss,
)

SIGMAS = (1.4, 1.7, 2.0, 2.6)


ANCESTORS = {
    "occluded_levels": "zero",
    "unlabelled_levels": "zero",
    "divide_by": "hardest",
}


@dataclass(frozen=True)
class Crops:
    points_xy: Tensor
    weights: Tensor
    visibility: Tensor


def crops(weights, visibility=None, points=None):
    weights = torch.tensor(weights)
    visible = 2 * weights.gt(0).long() if visibility is None else torch.tensor(visibility)
    return Crops(torch.zeros(*weights.shape, 2) if points is None else points, weights, visible)


def off_by(*people):
    """(B, K, 1, 1) maps, off by so much from keypoints at (0, 0)."""
    return (1 - torch.tensor(people, dtype=torch.float32))[..., None, None]


def losses_of(predicted, refined, labels, /, stride=1, **fields):
    fields.setdefault("refine", "none" if refined is None else "l2*")
    fields.setdefault("sigmas", (1.0,))
    return pose_loss(
        TrainingHeatmaps(predicted, refined),
        labels,
        PoseLossTable(**fields),
        stride=stride,
        amplitude=1,
    )


def refine_loss(refined, labels, **fields):
    losses, _ = losses_of([], refined, labels, **fields)
    return losses["refine"].mean.item()


def random_case(seed, *, people=3, keypoints=17, shape_hw=(8, 6), levels=4, share=0.7):
    """Heatmaps that can be learnt from, and labels of which a share is annotated."""
    generator = torch.Generator().manual_seed(seed)

    def maps():
        return torch.randn(people, keypoints, *shape_hw, generator=generator).requires_grad_()

    heatmaps = TrainingHeatmaps([maps() for _ in range(levels)], maps())
    points = torch.rand(people, keypoints, 2, generator=generator) * 4 * shape_hw[1]
    visibility = torch.randint(1, 3, (people, keypoints), generator=generator)
    visibility[torch.rand(people, keypoints, generator=generator) >= share] = 0
    doubtful = torch.rand(people, keypoints, generator=generator) < 0.3
    weights = torch.where(doubtful, 0.3, 1.0) * visibility.gt(0)
    return heatmaps, Crops(points, weights, visibility)


def touched(maps):
    """(B, K) bool: the keypoints whose maps have a gradient."""
    return maps.grad.abs().sum(dim=(-2, -1)).gt(0)
