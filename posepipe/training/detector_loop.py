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
from safetensors.torch import save_file
from torch import Tensor
from torchvision.models.detection import FasterRCNN

from posepipe.recipe import Table
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
        with torch.no_grad():
            decay = min(table.average, steps / (steps + 10))
            for kept, current in zip(averaged.parameters(), network.parameters(), strict=True):
                kept.lerp_(current, 1 - decay)
        if elapsed > next_report:
            next_report += 120.0
            _save(averaged, run, steps, elapsed, float(np.mean(recent)))
    _save(averaged, run, steps, elapsed, float(np.mean(recent)))


def _save(network: FasterRCNN, run: Path, steps: int, elapsed: float, loss: float) -> None:
    file = run / "metrics.csv"
    if not file.exists():
        file.write_text("minutes,steps,loss\n")
    with file.open("a") as metrics:
        metrics.write(f"{elapsed / 60:.2f},{steps},{loss:.4f}\n")
    logger.info("minute %.1f, step %d: loss %.4f", elapsed / 60, steps, loss)
    unfinished = run / "weights.safetensors.part"
    save_file({k: v.contiguous() for k, v in network.state_dict().items()}, unfinished)
    unfinished.replace(run / "weights.safetensors")
