"""Another model's heatmaps as soft targets beside the labels (knowledge distillation).

Hinton, Vinyals and Dean 2015; for heatmaps Zhang, Zhu and Ye, "Fast Human Pose Estimation", CVPR
2019, whose loss this is: the mean square between both networks' heatmaps.
"""

from __future__ import annotations

import torch
from torch import Tensor

from posepipe.core.skeleton import Skeleton
from posepipe.errors import RecipeError
from posepipe.networks.devices import precision_name, resolve_precision
from posepipe.pose.codecs.choose import HeatmapGrid, heatmap_grid
from posepipe.pose.crops import PreprocessingTable
from posepipe.pose.model import PoseModel, load_pose_model, torch_if_possible
from posepipe.pose.networks.outputs import TrainingHeatmaps
from posepipe.training.pose.losses import Part
from posepipe.zoo.bounds import Number
from posepipe.zoo.recipe import Table


class DistilTable(Table, frozen=True):
    """The recipe's table ``[training.distil]``.

    Attributes:
        teacher: a pose model's name or folder; "" for none. It sees the crops that the network
            sees, with colours as its own recipe says; its input and its heatmaps must be as large,
            and its keypoints the same.
        weight: of the mean square between both networks' final heatmaps, over all keypoints, beside
            the losses of labels; `training.loss.scale` is a factor on this one as well.
        temperature: the teacher's heatmaps are raised to the power of 1 / temperature, peaks kept:
            above 1 they get wider, below 1 narrower.
        flip: the teacher's heatmaps are means with those of the mirrored crop.
        unlabelled: crops are also made of people with a box but no labelled keypoints, about whom
            only the teacher says anything.
    """

    teacher: str = ""
    weight: Number = 1.0
    temperature: Number = 1.0
    flip: bool = True
    unlabelled: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.temperature < float("inf"):
            raise ValueError(f"temperature must be above 0, got {self.temperature}")
        if not 0 <= self.weight < float("inf"):
            raise ValueError(f"weight must be a number of 0 or more, got {self.weight}")
        if self.unlabelled and not self.teacher:
            raise ValueError("unlabelled people teach nothing without a teacher: name one")


class Teacher:
    """A pose model whose heatmaps are targets.

    Args:
        table: see `DistilTable`.
        given, grid: the network's, which the teacher's have to fit.
        skeleton: what the K keypoints are; the teacher's must have the same names.
        scale: factor on the loss.
        device: where the crops lie.
        precision: of the teacher's convolutions; "auto" is what it is in training.

    Raises:
        RecipeError, WeightsError: no such model, or one that does not fit.
    """

    def __init__(
        self,
        table: DistilTable,
        given: PreprocessingTable,
        grid: HeatmapGrid,
        skeleton: Skeleton,
        *,
        scale: float,
        device: torch.device,
        precision: str,
    ) -> None:
        self._table, self._scale = table, scale
        self._amplitude = grid.amplitude
        self.model: PoseModel = load_pose_model(
            table.teacher,
            device=str(device),
            precision=precision_name(resolve_precision(precision, device)),
            runtime=torch_if_possible(table.teacher),
        )
        theirs = heatmap_grid(self.model.decoding)
        if theirs is None:
            raise RecipeError(f"[training.distil]: the teacher {self.model.name} gives no heatmaps")
        self._teachers_amplitude = theirs.amplitude
        pairs = {
            "keypoints": (self.model.skeleton.keypoints, skeleton.keypoints),
            "input_size_wh": (self.model.preprocessing.input_size_wh, given.input_size_wh),
            "stride": (theirs.stride, grid.stride),
            "cells": (theirs.cells, grid.cells),
        }
        for field, (their, own) in pairs.items():
            if their != own:
                raise RecipeError(
                    f"[training.distil]: the teacher {self.model.name}'s {field} is {their}, the "
                    f"network's {own}: they must be the same"
                )

    def targets(self, pixels: Tensor) -> Tensor:
        """Heatmaps (B, K, h, w) float32 with the network's amplitude, of (B, h, w, 3) uint8 RGB."""
        maps = self.model.heatmaps(pixels, flip=self._table.flip).clone()
        maps = maps / self._teachers_amplitude
        return self._amplitude * warmed(maps, self._table.temperature)

    def loss(self, heatmaps: TrainingHeatmaps, pixels: Tensor) -> Part:
        """The loss of a network's final heatmaps; GlobalNet's alone are those of C2."""
        maps = heatmaps.levels[0] if heatmaps.refined is None else heatmaps.refined
        wrong = (maps.float() - self.targets(pixels)).square().mean(dim=(-2, -1))
        return Part(self._scale * self._table.weight * wrong.sum(), distil_count(pixels, wrong))


def distil_count(pixels: Tensor, per_keypoint: Tensor) -> Tensor:
    """What the loss is divided by: all keypoints of all crops."""
    return per_keypoint.new_tensor(float(len(pixels) * per_keypoint.shape[1]))


def warmed(maps: Tensor, temperature: float) -> Tensor:
    """Heatmaps with their peaks kept and all else nearer to them or further from them.

    What is below zero becomes zero, unless the temperature is 1.

    Args:
        maps: (B, K, h, w).
        temperature: see `DistilTable`.
    """
    if temperature == 1:
        return maps
    peaks = maps.amax(dim=(-2, -1), keepdim=True).clamp(min=1e-6)
    return peaks * (maps.clamp(min=0) / peaks) ** (1 / temperature)
