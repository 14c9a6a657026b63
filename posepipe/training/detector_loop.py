"""The training loop of the compact detector: mosaics of pictures, a fixed time."""

from __future__ import annotations

import copy
import logging
import math
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torchvision.models.detection import FasterRCNN

from posepipe.recipe import Table
from posepipe.training.keeping import average_into, keep
from posepipe.training.mosaic import MosaicTable, draw_mosaic
from posepipe.training.samples import DetectionSample

logger = logging.getLogger(__name__)


class DetectorTrainingTable(Table, frozen=True):
    """The recipe's table ``[training]`` of the compact detector.

    Attributes:
        minutes: how long to train; the learning rate reaches zero then.
        batch: mosaics per step.
        learning_rate: the peak of AdamW's, after the warm-up.
        weight_decay: AdamW's.
        warm_up: share of the time in which the learning rate rises.
        frozen_stages: how many stages of the trunk keep their ImageNet weights.
        average: decay per step of the averaged weights, which are those that are kept.
        mosaic: see `MosaicTable`.
    """

    minutes: float
    batch: int = 4
    learning_rate: float = 5e-4
    weight_decay: float = 1e-3
    warm_up: float = 0.03
    frozen_stages: int = 2
    average: float = 0.995
    mosaic: MosaicTable = MosaicTable()


def train_detector(
    network: FasterRCNN,
    sets: Sequence[Sequence[DetectionSample]],
    shares: Sequence[float],
    table: DetectorTrainingTable,
    *,
    run: Path,
    seed: int = 0,
) -> None:
    """Train for `table.minutes`; every few minutes ``run/weights.safetensors`` is written anew.

    Args:
        network: `posepipe.detection.networks.compact_detector`, on the device to train on. Its
            batch normalisations keep their statistics: batches are too small to measure any.
        sets: data sets of pictures.
        shares: how often each is drawn.
        table: how to train.
        run: folder for weights and ``metrics.csv``; made if need be.
        seed: of everything drawn at random.
    """
    run.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    network.to(memory_format=torch.channels_last)
    generator = np.random.default_rng(seed)
    for stage in network.backbone.stages[: table.frozen_stages]:
        stage.requires_grad_(False)
    averaged = copy.deepcopy(network).eval()
    parameters = [p for p in network.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=0, weight_decay=table.weight_decay)
    begun, next_report, steps = time.monotonic(), 120.0, 0
    recent: list[float] = []
    while (elapsed := time.monotonic() - begun) < table.minutes * 60:
        progress = elapsed / (table.minutes * 60)
        rate = min(progress / table.warm_up, 0.5 * (1 + math.cos(math.pi * progress)))
        for group in optimizer.param_groups:
            group["lr"] = table.learning_rate * rate
        images, targets = [], []
        for _ in range(table.batch):
            mosaic = draw_mosaic(sets, shares, table.mosaic, generator)
            images.append(torch.from_numpy(mosaic.pixels).permute(2, 0, 1).float() / 255)
            boxes = torch.from_numpy(mosaic.boxes_xyxy.astype(np.float32))
            targets.append({"boxes": boxes, "labels": torch.ones(len(boxes), dtype=torch.int64)})
        network.train()
        network.backbone.stages.eval()
        losses: dict[str, Tensor] = network(images, targets)
        loss = torch.stack(list(losses.values())).sum()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]  # torch's stubs
        torch.nn.utils.clip_grad_norm_(parameters, 5.0)
        optimizer.step()
        steps += 1
        recent = [*recent[-99:], loss.item()]
        average_into(averaged, network, decay=table.average, steps=steps)
        if elapsed > next_report:
            next_report += 120.0
            _report(averaged, run, steps, elapsed, float(np.mean(recent)))
    _report(averaged, run, steps, elapsed, float(np.mean(recent)))


def _report(network: FasterRCNN, run: Path, steps: int, elapsed: float, loss: float) -> None:
    keep(run, network, {"minutes": elapsed / 60, "steps": steps, "loss": loss})
    logger.info("minute %.1f, step %d: loss %.4f", elapsed / 60, steps, loss)
