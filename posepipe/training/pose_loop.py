"""The training loop of pose networks: a fixed time, cosine learning rate, averaged weights."""

from __future__ import annotations

import copy
import logging
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from posepipe.core.skeleton import COCO_PERSON
from posepipe.pose.crops import PreprocessingTable, crop_windows, network_input
from posepipe.pose.heatmaps import DecodingTable, decode, encode
from posepipe.pose.networks.backbone import Backbone
from posepipe.pose.networks.cpn import CPN
from posepipe.pose.networks.outputs import TrainingHeatmaps
from posepipe.recipe import Table
from posepipe.training.augment import AugmentTable, TrainingCrop, augmented_crop
from posepipe.training.keeping import average_into, keep
from posepipe.training.losses import cpn_loss, mean_over_annotated
from posepipe.training.samples import PoseSample, draw_forever

logger = logging.getLogger(__name__)

PLAIN = AugmentTable(flip=0, rotation=0, scale=(1, 1), shift=0, half_body=0, colour=0)
SKELETON = COCO_PERSON


class PoseTrainingTable(Table, frozen=True):
    """The recipe's table ``[training]`` of a pose network.

    Attributes:
        minutes: how long to train; the learning rate reaches zero then.
        batch: crops per step.
        learning_rate: the peak, after the warm-up.
        weight_decay: AdamW's.
        warm_up: share of the time in which the learning rate rises.
        small_first: share of the time spent on crops of 3/4 the width and height, which are twice
            as fast; keypoints are found roughly there, finely at the full size.
        frozen_stages: how many stages of the trunk keep their ImageNet weights.
        sigmas: of the targets' Gaussians for C2 to C5, in cells.
        hardest: M of online hard keypoint mining (CPN, table 6); mined once the small crops are
            over.
        localisation: weight of a cross entropy between each heatmap's softmax and the target. L2
            alone stays for long on the plateau where every map is zero; this leads off it.
        sharpness: factor before that softmax: a peak of 1 stands out from thousands of cells.
        average: decay per step of the averaged weights, which are those that are kept.
        augment: see `AugmentTable`.
    """

    minutes: float
    batch: int = 16
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    warm_up: float = 0.02
    small_first: float = 0.6
    frozen_stages: int = 1
    sigmas: tuple[float, float, float, float] = (1.4, 1.7, 2.0, 2.6)
    hardest: int = 8
    localisation: float = 0.15
    sharpness: float = 10.0
    average: float = 0.995
    augment: AugmentTable = AugmentTable()


def train_pose(
    network: CPN,
    sets: Sequence[Sequence[PoseSample]],
    shares: Sequence[float],
    validation: dict[str, Sequence[PoseSample]],
    table: PoseTrainingTable,
    given: PreprocessingTable,
    *,
    run: Path,
    seed: int = 0,
) -> None:
    """Train for `table.minutes`; every few minutes ``run/weights.safetensors`` is written anew.

    Args:
        network: on the device to train on.
        sets: data sets of labelled people.
        shares: how often each is drawn.
        validation: data sets to measure mean OKS on, by name.
        table: how to train.
        given: crop and colours.
        run: folder for weights and ``metrics.csv``; made if need be.
        seed: of everything drawn at random.
    """
    run.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    generator = np.random.default_rng(seed)
    network.to(memory_format=torch.channels_last)
    for stage in _frozen(network, table.frozen_stages):
        stage.requires_grad_(False)
    averaged = copy.deepcopy(network).eval()
    parameters = [p for p in network.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=0, weight_decay=table.weight_decay)
    samples = draw_forever(sets, shares, generator)
    begun, next_report, steps = time.monotonic(), 180.0, 0
    while (elapsed := time.monotonic() - begun) < table.minutes * 60:
        progress = elapsed / (table.minutes * 60)
        small = progress < table.small_first
        size_wh = _scaled(given.input_size_wh, 0.75) if small else given.input_size_wh
        batch = _batch(
            [
                _crop(next(samples), table.augment, given, size_wh, generator)
                for _ in range(table.batch)
            ],
            given,
        )
        for group in optimizer.param_groups:
            group["lr"] = table.learning_rate * _schedule(progress, table.warm_up)
        _train_mode(network, table.frozen_stages)
        heatmaps = network.forward_all(batch.images)
        hardest = len(SKELETON) if small else table.hardest
        global_loss, refine_loss = cpn_loss(
            heatmaps.levels,
            _refined(heatmaps),
            batch.points_xy,
            batch.weights,
            stride=4,
            amplitude=1.0,
            sigmas=table.sigmas,
            hardest=hardest,
        )
        # The peak is 1 in a map of thousands of cells: the factor brings the losses near 1.
        loss = 100 * (global_loss + refine_loss)
        loss = loss + table.localisation * _localisation_loss(heatmaps, batch, table)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]  # torch's stubs
        torch.nn.utils.clip_grad_norm_(parameters, 5.0)
        optimizer.step()
        steps += 1
        average_into(averaged, network, decay=table.average, steps=steps)
        if elapsed > next_report:
            next_report += 300.0
            _report(averaged, validation, given, run, steps, elapsed, global_loss, refine_loss)
    _report(averaged, validation, given, run, steps, elapsed, global_loss, refine_loss)


@torch.no_grad()
def mean_oks(network: CPN, samples: Sequence[PoseSample], given: PreprocessingTable) -> float:
    """Mean OKS over labelled people, their own boxes given; the crop's own area scale."""
    network.eval()
    generator = np.random.default_rng(0)
    sigmas = torch.tensor(SKELETON.sigmas)
    total = 0.0
    for start in range(0, len(samples), 32):
        people = samples[start : start + 32]
        batch = _batch(
            [_crop(sample, PLAIN, given, given.input_size_wh, generator) for sample in people],
            given,
        )
        found = decode(network(batch.images), DecodingTable(blur_kernel=5)).points_xy
        boxes = [sample.box_xyxy for sample in people]
        width, height = given.input_size_wh
        windows = crop_windows(boxes, given.margins_xy, width / height)
        scale = width / (windows[:, 2] - windows[:, 0])
        areas = torch.from_numpy(scale**2 * np.array([sample.area for sample in people])).float()
        errors = (found - batch.points_xy).square().sum(-1)
        # OKS: exp(-d² / (2 (2 sigma)² area)), all in crop pixels.
        similar = torch.exp(-errors / (8 * sigmas**2 * areas[:, None]))
        labelled = batch.weights.gt(0)
        total += float(((similar * labelled).sum(1) / labelled.sum(1).clamp(min=1)).sum())
    return total / max(len(samples), 1)


@dataclass(frozen=True, eq=False)
class _Batch:
    """Crops as tensors: images (B, 3, h, w), points_xy (B, K, 2), weights (B, K)."""

    images: Tensor
    points_xy: Tensor
    weights: Tensor


def _batch(crops: Sequence[TrainingCrop], given: PreprocessingTable) -> _Batch:
    pixels = torch.from_numpy(np.stack([crop.pixels for crop in crops]))
    return _Batch(
        network_input(pixels, given),
        torch.from_numpy(np.stack([crop.points_xy for crop in crops])).float(),
        torch.from_numpy(np.stack([crop.weights for crop in crops])).float(),
    )


def _crop(
    sample: PoseSample,
    augment: AugmentTable,
    given: PreprocessingTable,
    size_wh: tuple[int, int],
    generator: np.random.Generator,
) -> TrainingCrop:
    return augmented_crop(
        sample,
        augment,
        size_wh=size_wh,
        margins_xy=given.margins_xy,
        fill=given.fill,
        skeleton=SKELETON,
        generator=generator,
    )


def _localisation_loss(
    heatmaps: TrainingHeatmaps, batch: _Batch, table: PoseTrainingTable
) -> Tensor:
    """Cross entropy between softmax over cells and the normalised target, all five predictions."""
    refined = _refined(heatmaps)
    shape_hw = (refined.shape[-2], refined.shape[-1])
    target = encode(
        batch.points_xy, shape_hw, stride=4, sigma=table.sigmas[0], amplitude=1.0
    ).flatten(2)
    target = target / target.sum(-1, keepdim=True).clamp(min=1e-6)
    total = target.new_zeros(())
    for maps in [*heatmaps.levels, refined]:
        log_shares = F.log_softmax(table.sharpness * maps.float().flatten(2), dim=-1)
        losses = -(target * log_shares).sum(-1) * batch.weights
        total = total + mean_over_annotated(losses, batch.weights)
    return total


def _refined(heatmaps: TrainingHeatmaps) -> Tensor:
    """The final prediction, which a CPN always has."""
    if heatmaps.refined is None:
        raise TypeError("a CPN has refined heatmaps")
    return heatmaps.refined


def _schedule(progress: float, warm_up: float) -> float:
    if progress < warm_up:
        return progress / warm_up
    return 0.5 * (1 + math.cos(math.pi * (progress - warm_up) / (1 - warm_up)))


def _frozen(network: CPN, count: int) -> list[nn.Module]:
    """The first stages of a trunk of ours; timm's have none to tell apart."""
    backbone = network.backbone
    return list(backbone.stages)[:count] if isinstance(backbone, Backbone) else []


def _train_mode(network: CPN, frozen_stages: int) -> None:
    network.train()
    for stage in _frozen(network, frozen_stages):
        stage.eval()


def _scaled(size_wh: tuple[int, int], factor: float) -> tuple[int, int]:
    """A crop size scaled, in whole multiples of 16."""
    return (round(size_wh[0] * factor / 16) * 16, round(size_wh[1] * factor / 16) * 16)


def _report(
    network: CPN,
    validation: dict[str, Sequence[PoseSample]],
    given: PreprocessingTable,
    run: Path,
    steps: int,
    elapsed: float,
    global_loss: Tensor,
    refine_loss: Tensor,
) -> None:
    measured = {name: mean_oks(network, samples, given) for name, samples in validation.items()}
    losses = {"global": global_loss.item(), "refine": refine_loss.item()}
    keep(run, network, {"minutes": elapsed / 60, "steps": steps, **losses, **measured})
    logger.info("minute %.1f, step %d: mean OKS %s", elapsed / 60, steps, measured)
