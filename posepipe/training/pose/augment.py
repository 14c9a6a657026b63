"""Augmentation: each policy draws its numbers, and all of them end in one affine warp.

CPN, section 4.1, "Data Augmentation Strategy": "after cropping from images, we apply random flip,
random rotation (-45...+45 degrees) and random scale (0.7...1.35)". Shifts, half bodies, colours and
cut-outs serve data sets that are smaller than COCO.

Drawing and doing are apart: `draw_augmentation` says what happens to a crop, on any machine the
same; `crop_pixels` does it on the CPU, `posepipe.training.pose.device_crops` on a GPU.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import cv2
import numpy as np
import numpy.typing as npt
from msgspec import Meta

from posepipe.core.affine import Affine
from posepipe.core.boxes import extend, grow_to_aspect
from posepipe.core.shapes import checked
from posepipe.core.skeleton import Skeleton
from posepipe.training.samples import PoseSample
from posepipe.zoo.bounds import Number, Whole
from posepipe.zoo.recipe import Table

Size = Annotated[float, Meta(ge=-100, le=100)]

FEWEST_FOR_HALF = 8 / 17  # share of the keypoints that must be labelled for a body to be halved,
FEWEST_IN_HALF = 4 / 17  # and in the half


class AugmentTable(Table, frozen=True):
    """The recipe's table ``[training.augment]``.

    Attributes:
        flip: probability of the mirror image.
        rotation_deg: largest angle to either side; drawn evenly.
        rotation: probability of turning at all.
        scale: smallest and largest size of the person relative to the plain crop.
        shift: largest shift to any side as a share of the crop: boxes of detectors are not exact.
        half_body: probability of cropping to the upper or lower keypoints alone, where the skeleton
            says which are which.
        colour: largest relative change of each channel's brightness, and of contrast.
        cutout: probability of covering parts of the crop; keypoints under them are still learnt,
            like those of people behind things.
        cutouts: most rectangles that are covered then, each in the fill colour.
        cutout_side: shortest and longest side of a rectangle as a share of the crop's.
    """

    flip: Number = 0.5
    rotation_deg: Number = 45.0
    rotation: Number = 0.6
    scale: tuple[Size, Size] = (0.7, 1.35)
    shift: Number = 0.05
    half_body: Number = 0.2
    colour: Number = 0.3
    cutout: Number = 0.0
    cutouts: Whole = 2
    cutout_side: tuple[Number, Number] = (0.1, 0.3)

    def __post_init__(self) -> None:
        for name in ("flip", "rotation", "half_body", "cutout"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is a probability, 0 to 1, got {getattr(self, name)}")
        if not 0 <= self.rotation_deg <= 180:
            raise ValueError(f"rotation_deg must lie in 0…180, got {self.rotation_deg}")
        if not 0 < self.scale[0] <= self.scale[1] < float("inf"):
            raise ValueError(f"scale must be a smallest and a largest size, got {self.scale}")
        if not (0 <= self.shift <= 1 and 0 <= self.colour < 1):
            raise ValueError(f"shift and colour are shares, got {self.shift} and {self.colour}")
        if self.cutouts < 0 or not 0 < self.cutout_side[0] <= self.cutout_side[1] <= 1:
            raise ValueError(
                "cutouts must be 0 or more, cutout_side a shortest and a longest share, got "
                f"{self.cutouts} and {self.cutout_side}"
            )


@dataclass(frozen=True, eq=False)
class Augmentation:
    """What is done to one person's image to make a crop of it; every engine does the same.

    Attributes:
        to_crop: from the image's pixels to the crop's, the mirror image included.
        mirrored: whether left and right have changed places.
        gains: (3,) float64, factor of each channel.
        offset: what is then added to every channel.
        cutouts_xyxy: (R, 4) int64 crop pixels, right and bottom exclusive; covered at the end.
    """

    to_crop: Affine
    mirrored: bool
    gains: npt.NDArray[np.float64]
    offset: float
    cutouts_xyxy: npt.NDArray[np.int64]

    def __post_init__(self) -> None:
        cutouts = checked("cutouts_xyxy", self.cutouts_xyxy, ("R", 4), np.int64)
        object.__setattr__(self, "gains", checked("gains", self.gains, (3,), np.float64))
        object.__setattr__(self, "cutouts_xyxy", cutouts)

    @property
    def colours(self) -> npt.NDArray[np.uint8]:
        """(256, 3) what each value of each channel becomes."""
        values = np.arange(256, dtype=np.float64)[:, None] * self.gains + self.offset
        return np.clip(values, 0, 255).astype(np.uint8)


@dataclass(frozen=True, eq=False)
class CropLabels:
    """Where a person's keypoints are in a crop.

    Attributes:
        points_xy: (K, 2) float64 crop pixels.
        weights: (K,) float64; 0 also where the keypoint fell outside the crop.
        visibility: (K,) int64, COCO's; 0 also where the keypoint fell outside the crop.
    """

    points_xy: npt.NDArray[np.float64]
    weights: npt.NDArray[np.float64]
    visibility: npt.NDArray[np.int64]


def draw_augmentation(
    sample: PoseSample,
    table: AugmentTable,
    *,
    size_wh: tuple[int, int],
    margins_xy: tuple[float, float],
    skeleton: Skeleton,
    generator: np.random.Generator,
) -> Augmentation:
    """What happens to a person's crop: turned, scaled, shifted, mirrored, coloured, covered.

    The same amount of random numbers is drawn for every person.

    Args:
        sample: the person; the image is not read.
        table: how much of everything.
        size_wh: the crop's size in pixels.
        margins_xy: what is added to each side of the box, as a share of it.
        skeleton: tells upper from lower keypoints.
        generator: the only source of randomness.
    """
    box = _half_body(sample, table, skeleton, generator)
    window = grow_to_aspect(extend(box, margins_xy), size_wh[0] / size_wh[1])
    to_crop = Affine.from_box(window, size_wh).then(_turn_and_scale(table, size_wh, generator))
    to_crop = to_crop.then(_shift(table, size_wh, generator))
    mirrored = bool(generator.random() < table.flip)
    if mirrored:
        to_crop = to_crop.then(Affine.mirror(size_wh[0]))
    gains, offset = _colour(table, generator)
    return Augmentation(to_crop, mirrored, gains, offset, _cutouts(table, size_wh, generator))


def crop_labels(
    sample: PoseSample,
    augmentation: Augmentation,
    *,
    size_wh: tuple[int, int],
    skeleton: Skeleton,
) -> CropLabels:
    """Where a person's keypoints are in the crop that an augmentation makes.

    Args:
        sample: the person.
        augmentation: what is done to the image.
        size_wh: the crop's size in pixels.
        skeleton: tells which keypoints change places in a mirror image.
    """
    points = augmentation.to_crop.apply(sample.keypoints_xy)
    weights, visibility = sample.weights, sample.visibility
    if augmentation.mirrored:
        order = list(skeleton.mirrored)
        points, weights, visibility = points[order], weights[order], visibility[order]
    inside = ((points >= -0.5) & (points < np.array(size_wh) - 0.5)).all(axis=-1)
    return CropLabels(points, weights * inside, visibility * inside)


def crop_pixels(
    pixels: npt.NDArray[np.uint8],
    augmentation: Augmentation,
    *,
    size_wh: tuple[int, int],
    fill: tuple[int, int, int],
) -> npt.NDArray[np.uint8]:
    """(h, w, 3) uint8 RGB: the crop that an augmentation makes of an image, on the CPU.

    Args:
        pixels: (H, W, 3) uint8 RGB, the whole image; left as it is.
        augmentation: what is done to it.
        size_wh: the crop's size in pixels.
        fill: RGB outside the image, which is coloured like the image, and of what is covered.
    """
    crop = augmentation.to_crop.warp(pixels, size_wh, fill=fill, antialias=True)
    if not ((augmentation.gains == 1).all() and augmentation.offset == 0):
        crop = np.asarray(cv2.LUT(crop, augmentation.colours[None]), dtype=np.uint8)
    for left, top, right, bottom in augmentation.cutouts_xyxy.tolist():
        crop[top:bottom, left:right] = fill
    return crop


def _half_body(
    sample: PoseSample, table: AugmentTable, skeleton: Skeleton, generator: np.random.Generator
) -> npt.NDArray[np.float64]:
    """The person's box, or sometimes one around the upper or lower half's keypoints alone."""
    drawn, upper_wanted = generator.random(), generator.random() < 0.5
    if drawn >= table.half_body or not skeleton.upper_body:
        return sample.box_xyxy
    labelled, upper = sample.weights > 0, np.zeros(len(skeleton), np.bool_)
    upper[list(skeleton.upper_body)] = True
    chosen = labelled & (upper if upper_wanted else ~upper)
    shares = labelled.sum() / len(skeleton), chosen.sum() / len(skeleton)
    if shares[0] < FEWEST_FOR_HALF or shares[1] < FEWEST_IN_HALF:
        return sample.box_xyxy
    points = sample.keypoints_xy[chosen]
    low, high = points.min(axis=0), points.max(axis=0)
    # A box around joints cuts heads and hands: a fifth of its longer side on every side.
    room = 0.2 * max(float((high - low).max()), 8.0)
    return np.concatenate([low - room, high + room])


def _turn_and_scale(
    table: AugmentTable, size_wh: tuple[int, int], generator: np.random.Generator
) -> Affine:
    """A rotation and a change of size about the crop's centre."""
    angle = generator.uniform(-1, 1) * table.rotation_deg
    angle *= float(generator.random() < table.rotation)
    scale = generator.uniform(*table.scale)
    return Affine.rotation(angle, ((size_wh[0] - 1) / 2, (size_wh[1] - 1) / 2), scale)


def _shift(table: AugmentTable, size_wh: tuple[int, int], generator: np.random.Generator) -> Affine:
    shift_x, shift_y = generator.uniform(-1, 1, 2) * table.shift * np.array(size_wh)
    return Affine(np.array([[1.0, 0.0, shift_x], [0.0, 1.0, shift_y]]))


def _colour(
    table: AugmentTable, generator: np.random.Generator
) -> tuple[npt.NDArray[np.float64], float]:
    """A factor of each channel, and what is added to all of them."""
    amount = table.colour
    brightness = generator.uniform(1 - amount, 1 + amount)
    gains = brightness * generator.uniform(1 - amount / 3, 1 + amount / 3, 3)
    return gains, float(generator.uniform(-amount, amount) * 64)


def _cutouts(
    table: AugmentTable, size_wh: tuple[int, int], generator: np.random.Generator
) -> npt.NDArray[np.int64]:
    """(R, 4) rectangles anywhere in the crop, usually none."""
    wanted = generator.random() < table.cutout
    number = int(generator.integers(1, table.cutouts + 1)) if table.cutouts else 0
    sides = generator.uniform(*table.cutout_side, (table.cutouts, 2)) * size_wh
    corners = generator.random((table.cutouts, 2)) * (np.array(size_wh) - sides)
    rectangles = np.concatenate([corners, corners + sides], axis=1).round().astype(np.int64)
    return rectangles[: number if wanted else 0]
