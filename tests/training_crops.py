"""Crops with their keypoints, as training on a CPU makes them, in one go."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from posepipe.core.skeleton import COCO_PERSON
from posepipe.io.images import ImageFile
from posepipe.training.images import TrainingImage
from posepipe.training.pose.augment import (
    AugmentTable,
    CropLabels,
    crop_labels,
    crop_pixels,
    draw_augmentation,
)
from posepipe.training.samples import PoseSample

NO_AUGMENTATION = AugmentTable(
    flip=0, rotation=0, scale=(1, 1), shift=0, half_body=0, colour=0, cutout=0
)
SIZE_WH = (96, 128)


@dataclass(frozen=True, eq=False)
class TrainingCrop(CropLabels):
    """A crop with its keypoints; `pixels` are (h, w, 3) uint8 RGB."""

    pixels: npt.NDArray[np.uint8]


def in_memory(pixels: npt.NDArray[np.uint8]) -> TrainingImage:
    """An image of (H, W, 3) uint8 RGB pixels that are there already."""
    return TrainingImage(ImageFile(0, Path("in-memory"), "in-memory", pixels))


def crop_of(sample: PoseSample, table: AugmentTable, seed: int = 0, **changes: Any) -> TrainingCrop:
    """A crop of a person, drawn and made on the CPU."""
    fill = changes.pop("fill", (0, 0, 0))
    common = {"size_wh": SIZE_WH, "skeleton": COCO_PERSON} | changes
    drawing = {"margins_xy": (0.1, 0.15), "generator": np.random.default_rng(seed)} | common
    augmentation = draw_augmentation(sample, table, **drawing)
    common = {name: common[name] for name in ("size_wh", "skeleton")}
    labels = crop_labels(sample, augmentation, **common)
    pixels = crop_pixels(sample.read(), augmentation, size_wh=common["size_wh"], fill=fill)
    return TrainingCrop(labels.points_xy, labels.weights, labels.visibility, pixels)
