"""Batches of images with boxes, made ahead by threads; what they hold depends on numbers alone.

Sample `number` of a run begins with the image that `posepipe.training.order` gives it; everything
random about it, the choice of anchors and RoIs in the losses included, comes from (seed, number).
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from posepipe.detection.torchvision import Preprocessing, padded
from posepipe.networks.devices import moved
from posepipe.runtime.streams import prefetch
from posepipe.training.detector.mosaic import draw_mosaic, draw_whole
from posepipe.training.detector.table import DetectorTrainingTable
from posepipe.training.order import SampleOrder, check_batch, part_numbers, sample_generator
from posepipe.training.samples import DetectionSample


@dataclass(frozen=True, eq=False)
class Target:
    """What a detector should find in an image.

    Attributes:
        boxes_xyxy: (N, 4) float32 pixels of the image in the batch; N = 0 is a negative.
        classes: (N,) int64 from 1 on.
        ignored_xyxy: (M, 4) float32 pixels, neither to be found nor background.
    """

    boxes_xyxy: Tensor
    classes: Tensor
    ignored_xyxy: Tensor


@dataclass(frozen=True, eq=False)
class DetectionBatch:
    """B images with what is in them, on the device.

    Attributes:
        pixels: (B, H, W, 3) uint8 RGB, zeros right of and below each image.
        sizes_hw: each image's own height and width.
        targets: of each image.
        seeds: of what is drawn at random for each image in the losses.
    """

    pixels: Tensor
    sizes_hw: tuple[tuple[int, int], ...]
    targets: tuple[Target, ...]
    seeds: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.targets)


class DetectionBatches:
    """The micro-batches of one process, from any sample number on; call it to get them."""

    def __init__(
        self,
        sets: Sequence[Sequence[DetectionSample]],
        shares: Sequence[float],
        table: DetectorTrainingTable,
        preprocessing: Preprocessing,
        *,
        device: torch.device,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        """Make nothing yet.

        Args:
            sets: data sets of images.
            shares: how often each is drawn, relative to the others.
            table: the recipe's ``[training]``.
            preprocessing: sizes of whole images.
            device: where batches are wanted.
            rank: which of the processes this is.
            world: how many processes share every batch.

        Raises:
            OptionError: an empty set, or a batch that the processes' micro-batches do not divide.
        """
        check_batch(table.batch, table.accumulate, world)
        self._sets, self._table, self._given = sets, table, preprocessing
        self._device, self._rank, self._world = device, rank, world
        self._order = SampleOrder([len(samples) for samples in sets], shares, table.seed)
        self._shares = np.asarray(shares, np.float64) / np.sum(shares)

    def __call__(self, start: int) -> Generator[DetectionBatch, None, None]:
        """Micro-batches without end; closing the iterator stops the threads.

        Args:
            start: the global sample number that the first batch of all processes begins with.

        Raises:
            ImageError: (at its batch's turn) an image is missing or cannot be read.
        """
        table = self._table
        numbers = part_numbers(start, table.batch, table.accumulate, self._rank, self._world)
        ahead = max(2 * table.workers, 1)
        yield from prefetch(self._made, numbers, workers=table.workers, ahead=ahead)

    def sample(self, number: int) -> tuple[DetectionSample, int]:
        """Sample `number` of the run as the network sees it, and the seed of its losses.

        Raises:
            ImageError: an image is missing or cannot be read.
        """
        table, generator = self._table, sample_generator(self._table.seed, number)
        which, item = self._order(number)
        image = self._sets[which][item]
        if table.images == "mosaic":
            drawn = draw_mosaic(image, self._another, table.mosaic, table.augment, generator)
        else:
            sizes, long_side = table.sizes or (self._given.short_side,), self._given.long_side
            drawn = draw_whole(image, sizes, long_side, table.augment, generator)
        return drawn, int(generator.integers(2**63))

    def _another(self, generator: np.random.Generator) -> DetectionSample:
        samples = self._sets[int(generator.choice(len(self._sets), p=self._shares))]
        return samples[int(generator.integers(len(samples)))]

    def _made(self, numbers: range) -> DetectionBatch:
        drawn = [self.sample(number) for number in numbers]
        samples = [sample for sample, _ in drawn]
        sizes = tuple((sample.pixels.shape[0], sample.pixels.shape[1]) for sample in samples)
        height, width = (padded(int(side)) for side in np.max(sizes, axis=0))
        pixels = np.zeros((len(samples), height, width, 3), np.uint8)
        for place, sample, (h, w) in zip(pixels, samples, sizes, strict=True):
            place[:h, :w] = sample.pixels
        return DetectionBatch(
            moved(pixels, self._device),
            sizes,
            tuple(self._target(sample) for sample in samples),
            tuple(seed for _, seed in drawn),
        )

    def _target(self, sample: DetectionSample) -> Target:
        boxes, ignored = (
            moved(array.astype(np.float32), self._device)
            for array in (sample.boxes_xyxy, sample.ignored_xyxy)
        )
        return Target(boxes, moved(sample.classes.copy(), self._device), ignored)
