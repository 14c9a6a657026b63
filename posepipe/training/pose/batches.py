"""Batches of crops, made ahead by threads: which, how, and in what order depends on numbers alone.

A run goes through sample numbers 0, 1, 2, … (`posepipe.training.order`); everything random about a
sample is drawn from (seed, number). So starting at a number equals having come to it, and several
processes make what one would make.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from posepipe.core.skeleton import Skeleton
from posepipe.networks.devices import moved
from posepipe.pose.crops import PreprocessingTable
from posepipe.runtime.streams import prefetch
from posepipe.training.order import SampleOrder, check_batch, part_numbers, sample_generator
from posepipe.training.pose.augment import (
    Augmentation,
    AugmentTable,
    crop_labels,
    crop_pixels,
    draw_augmentation,
)
from posepipe.training.pose.device_crops import DeviceCrops
from posepipe.training.samples import PoseSample

Engine = Literal["cpu", "device"]


class BatchSettings(Protocol):
    """What making batches needs to know of a recipe's ``[training]`` table."""

    @property
    def batch(self) -> int:
        """Samples per step of the optimiser, over all processes."""

    @property
    def accumulate(self) -> int:
        """How many micro-batches of each process make a step."""

    @property
    def seed(self) -> int:
        """The seed of everything random."""

    @property
    def workers(self) -> int:
        """Threads that make batches; 0 makes them when they are asked for."""

    @property
    def augment(self) -> AugmentTable:
        """What happens to crops."""

    @property
    def engine(self) -> Engine:
        """Where crops are warped: "cpu", in the threads, or "device"."""


@dataclass(frozen=True, eq=False)
class PoseBatch:
    """Crops of people with their keypoints, on the device.

    Attributes:
        pixels: (B, h, w, 3) uint8 RGB.
        points_xy: (B, K, 2) float32 crop pixels.
        weights: (B, K) float32: 0 where not labelled or outside the crop, 1 where labelled by a
            person, in between for keypoints that another network labelled.
        visibility: (B, K) int64, COCO's: 0 not labelled or outside the crop, 1 occluded, 2 visible.
    """

    pixels: Tensor
    points_xy: Tensor
    weights: Tensor
    visibility: Tensor

    def __len__(self) -> int:
        return len(self.pixels)


class PoseBatches:
    """The micro-batches of one process, from any sample number on; call it to get them."""

    def __init__(
        self,
        sets: Sequence[Sequence[PoseSample]],
        shares: Sequence[float],
        table: BatchSettings,
        preprocessing: PreprocessingTable,
        skeleton: Skeleton,
        *,
        device: torch.device,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        """Make nothing yet.

        Args:
            sets: data sets of labelled people.
            shares: how often each is drawn, relative to the others.
            table: the recipe's ``[training]``.
            preprocessing: size, margins and fill colour of crops.
            skeleton: what the K keypoints are.
            device: where batches are wanted.
            rank: which of the processes this is.
            world: how many processes share every batch.

        Raises:
            OptionError: an empty set, or a batch that the processes' micro-batches do not divide.
        """
        check_batch(table.batch, table.accumulate, world)
        self._sets, self._table, self._given, self._skeleton = sets, table, preprocessing, skeleton
        self._device, self._rank, self._world = device, rank, world
        self._device_crops = (
            DeviceCrops(device, size_wh=preprocessing.input_size_wh, fill=preprocessing.fill)
            if table.engine == "device"
            else None
        )
        self._order = SampleOrder([len(samples) for samples in sets], shares, table.seed)

    def __call__(self, start: int) -> Generator[PoseBatch, None, None]:
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

    def _made(self, numbers: range) -> PoseBatch:
        size_wh = self._given.input_size_wh
        samples, augmentations, labels = [], [], []
        for number in numbers:
            which, item = self._order(number)
            sample = self._sets[which][item]
            augmentation = draw_augmentation(
                sample,
                self._table.augment,
                size_wh=size_wh,
                margins_xy=self._given.margins_xy,
                skeleton=self._skeleton,
                generator=sample_generator(self._table.seed, number),
            )
            samples.append(sample)
            augmentations.append(augmentation)
            labels.append(
                crop_labels(sample, augmentation, size_wh=size_wh, skeleton=self._skeleton)
            )
        points_xy = np.stack([label.points_xy for label in labels]).astype(np.float32)
        weights = np.stack([label.weights for label in labels]).astype(np.float32)
        visibility = np.stack([label.visibility for label in labels])
        pixels = self._pixels(samples, augmentations)
        return PoseBatch(
            pixels, *(moved(array, self._device) for array in (points_xy, weights, visibility))
        )

    def _pixels(
        self, samples: Sequence[PoseSample], augmentations: Sequence[Augmentation]
    ) -> Tensor:
        if self._device_crops is not None:
            return self._device_crops(samples, augmentations)
        width, height = self._given.input_size_wh
        pixels = np.empty((len(samples), height, width, 3), np.uint8)
        for place, (sample, augmentation) in enumerate(zip(samples, augmentations, strict=True)):
            pixels[place] = crop_pixels(
                sample.read(), augmentation, size_wh=(width, height), fill=self._given.fill
            )
        return moved(pixels, self._device)
