"""The training loop of the compact detector: mosaics of pictures, a fixed time."""

from __future__ import annotations

import copy
import logging
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import save_file
from torch import Tensor
from torchvision.models.detection import FasterRCNN

from posepipe.core.affine import Affine
from posepipe.core.boxes import area, clip
from posepipe.core.shapes import checked
from posepipe.recipe import Table

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class DetectionSample:
    """One picture with all its people.

    Attributes:
        pixels: (H, W, 3) uint8 RGB.
        boxes_xyxy: (N, 4) float64 pixels, people; N = 0 makes the picture a negative.
        ignored_xyxy: (M, 4) float64 pixels, regions that are neither person nor background.
    """

    pixels: npt.NDArray[np.uint8]
    boxes_xyxy: npt.NDArray[np.float64]
    ignored_xyxy: npt.NDArray[np.float64]

    def __post_init__(self) -> None:
        for name in ("boxes_xyxy", "ignored_xyxy"):
            array = checked(name, getattr(self, name), ("N", 4), np.float64)
            object.__setattr__(self, name, array)


class DetectorTrainingTable(Table, frozen=True):
    """The recipe's table ``[training]`` of the compact detector.

    Attributes:
        minutes: how long to train; the learning rate reaches zero then.
        batch: mosaics per step.
        side: width and height of a mosaic in pixels.
        learning_rate: the peak of AdamW's, after the warm-up.
        weight_decay: AdamW's.
        warm_up: share of the time in which the learning rate rises.
        frozen_stages: how many stages of the trunk keep their ImageNet weights.
        mosaic: probability of four pictures in one, else one.
        zoom: smallest and largest size of a picture relative to filling its tile.
        smallest: boxes with a shorter side below this many pixels are blotted out, not learnt.
        average: decay per step of the averaged weights, which are those that are kept.
        fill: RGB outside pictures and over ignored regions.
    """

    minutes: float
    batch: int = 4
    side: int = 384
    learning_rate: float = 5e-4
    weight_decay: float = 1e-3
    warm_up: float = 0.03
    frozen_stages: int = 2
    mosaic: float = 0.6
    zoom: tuple[float, float] = (0.8, 2.0)
    smallest: float = 8.0
    average: float = 0.995
    fill: tuple[int, int, int] = (123, 116, 103)


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
            mosaic = draw_mosaic(sets, shares, table, generator)
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


def draw_mosaic(
    sets: Sequence[Sequence[DetectionSample]],
    shares: Sequence[float],
    table: DetectorTrainingTable,
    generator: np.random.Generator,
) -> DetectionSample:
    """One picture or four in a square, each zoomed, shifted and at times mirrored at random.

    Ignored regions, people cut to less than a third by a tile's edge and people too small to learn
    are blotted out, so that nothing that looks like a person counts as background.
    """
    side = table.side
    canvas = np.full((side, side, 3), table.fill, dtype=np.uint8)
    split_x = split_y = side
    if generator.random() < table.mosaic:
        split_x, split_y = (int(side * share) for share in generator.uniform(0.35, 0.65, 2))
    kept: list[npt.NDArray[np.float64]] = []
    for left, right in ((0, split_x), (split_x, side)):
        for top, bottom in ((0, split_y), (split_y, side)):
            if right > left and bottom > top:
                tile = _tile(sets, shares, (right - left, bottom - top), table, generator)
                canvas[top:bottom, left:right] = tile.pixels
                kept.append(tile.boxes_xyxy + np.array([left, top, left, top]))
    return DetectionSample(canvas, np.concatenate(kept), np.zeros((0, 4)))


def _tile(
    sets: Sequence[Sequence[DetectionSample]],
    shares: Sequence[float],
    size_wh: tuple[int, int],
    table: DetectorTrainingTable,
    generator: np.random.Generator,
) -> DetectionSample:
    chosen = sets[int(generator.choice(len(sets), p=np.asarray(shares) / np.sum(shares)))]
    sample = chosen[int(generator.integers(len(chosen)))]
    size = np.array(sample.pixels.shape[1::-1], dtype=np.float64)
    fit = float((np.array(size_wh) / size).min())
    zoom = fit * math.exp(generator.uniform(*np.log(table.zoom)))
    window = np.array(size_wh) / zoom  # in pixels of the picture
    low = generator.uniform(np.minimum(0, size - window), np.maximum(0, size - window))
    to_tile = Affine.from_box([*low, *(low + window)], size_wh)
    if generator.random() < 0.5:
        to_tile = to_tile.then(Affine.mirror(size_wh[0]))
    pixels = to_tile.warp(sample.pixels, size_wh, fill=table.fill, antialias=True)
    gain = generator.uniform(0.7, 1.3) * generator.uniform(0.9, 1.1, 3)
    pixels = np.clip(pixels * gain, 0, 255).astype(np.uint8)
    whole = _moved(sample.boxes_xyxy, to_tile)
    boxes = clip(whole, size_wh).astype(np.float64)
    sides = (boxes[:, 2:] - boxes[:, :2]).min(axis=1, initial=1e9)
    learnt = (area(boxes) > area(whole) / 3) & (sides >= table.smallest)
    blots = np.concatenate([_moved(sample.ignored_xyxy, to_tile), boxes[~learnt]])
    return DetectionSample(
        _blotted(pixels, blots, boxes[learnt], table.fill), boxes[learnt], np.zeros((0, 4))
    )


def _moved(boxes_xyxy: npt.NDArray[np.float64], to_tile: Affine) -> npt.NDArray[np.float64]:
    """Boxes through an upright map; edges are half a pixel from pixel centres."""
    corners = to_tile.apply(boxes_xyxy.reshape(-1, 2, 2) - 0.5) + 0.5
    return np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=-1)


def _blotted(
    pixels: npt.NDArray[np.uint8],
    blots_xyxy: npt.NDArray[np.float64],
    spared_xyxy: npt.NDArray[np.float64],
    fill: tuple[int, int, int],
) -> npt.NDArray[np.uint8]:
    """The picture with some boxes painted over, others left as they are where the two overlap."""
    painted = pixels.copy()
    for boxes, source in ((blots_xyxy, None), (spared_xyxy, pixels)):
        for x1, y1, x2, y2 in np.clip(np.round(boxes), 0, 1e6).astype(int):
            painted[y1:y2, x1:x2] = fill if source is None else source[y1:y2, x1:x2]
    return painted


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
