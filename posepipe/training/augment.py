"""Augmentation: a policy draws numbers, one affine warp applies them.

CPN, section 4.1, "Data Augmentation Strategy": "after cropping from images, we apply random flip,
random rotation (-45...+45 degrees) and random scale (0.7...1.35)". Shifts, half bodies and colours
serve data sets that are smaller than COCO.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from posepipe.core.affine import Affine
from posepipe.core.boxes import extend, grow_to_aspect
from posepipe.core.skeleton import Skeleton
from posepipe.recipe import Table
from posepipe.training.samples import PoseSample


class AugmentTable(Table, frozen=True):
    """The recipe's table ``[training.augment]``.

    Attributes:
        flip: probability of the mirror image.
        rotation_deg: largest angle to either side; drawn evenly.
        rotation: probability of turning at all.
        scale: smallest and largest size of the person relative to the plain crop.
        shift: largest shift to any side as a share of the crop: boxes of detectors are not exact.
        half_body: probability of cropping to the upper or lower keypoints alone.
        colour: largest relative change of each channel's brightness, and of contrast.
    """

    flip: float = 0.5
    rotation_deg: float = 45.0
    rotation: float = 0.6
    scale: tuple[float, float] = (0.7, 1.35)
    shift: float = 0.05
    half_body: float = 0.2
    colour: float = 0.3


@dataclass(frozen=True, eq=False)
class TrainingCrop:
    """A crop with its keypoints.

    Attributes:
        pixels: (h, w, 3) uint8 RGB.
        points_xy: (K, 2) float64 crop pixels.
        weights: (K,) float64; 0 also where the keypoint fell outside the crop.
    """

    pixels: npt.NDArray[np.uint8]
    points_xy: npt.NDArray[np.float64]
    weights: npt.NDArray[np.float64]


def augmented_crop(
    sample: PoseSample,
    table: AugmentTable,
    *,
    size_wh: tuple[int, int],
    margins_xy: tuple[float, float],
    fill: tuple[int, int, int],
    skeleton: Skeleton,
    generator: np.random.Generator,
) -> TrainingCrop:
    """A crop of a person, randomly turned, scaled, shifted, mirrored and coloured.

    Args:
        sample: the person.
        table: how much of everything.
        size_wh: the crop's size in pixels.
        margins_xy: what is added to each side of the box, as a share of it.
        fill: RGB outside the picture.
        skeleton: tells which keypoints change places in a mirror image.
        generator: the only source of randomness.
    """
    box = _maybe_half_body(sample, table.half_body, skeleton, generator)
    window = grow_to_aspect(extend(box, margins_xy), size_wh[0] / size_wh[1])
    to_crop = Affine.from_box(window, size_wh).then(_random_map(table, size_wh, generator))
    mirror = generator.random() < table.flip
    if mirror:
        to_crop = to_crop.then(Affine.mirror(size_wh[0]))
    pixels = to_crop.warp(sample.pixels, size_wh, fill=fill, antialias=True)
    points, weights = to_crop.apply(sample.keypoints_xy), sample.weights
    if mirror:
        order = list(skeleton.mirrored)
        points, weights = points[order], weights[order]
    inside = ((points >= -0.5) & (points < np.array(size_wh) - 0.5)).all(axis=-1)
    return TrainingCrop(_recoloured(pixels, table.colour, generator), points, weights * inside)


def _random_map(
    table: AugmentTable, size_wh: tuple[int, int], generator: np.random.Generator
) -> Affine:
    """A turn and a change of size about the crop's centre, then a shift."""
    angle = generator.uniform(-1, 1) * table.rotation_deg
    angle *= float(generator.random() < table.rotation)
    scale = generator.uniform(*table.scale)
    shift_x, shift_y = generator.uniform(-1, 1, 2) * table.shift * np.array(size_wh)
    centre = ((size_wh[0] - 1) / 2, (size_wh[1] - 1) / 2)
    return Affine.rotation(angle, centre, scale).then(
        Affine(np.array([[1.0, 0.0, shift_x], [0.0, 1.0, shift_y]]))
    )


def _maybe_half_body(
    sample: PoseSample, probability: float, skeleton: Skeleton, generator: np.random.Generator
) -> npt.NDArray[np.float64]:
    """The person's box, or at times one around the upper or lower half's keypoints alone."""
    drawn, upper_wanted = generator.random(), generator.random() < 0.5
    upper = np.array(
        [not name.endswith(("hip", "knee", "ankle")) for name in skeleton.keypoints], dtype=bool
    )
    chosen = (sample.weights > 0) & (upper if upper_wanted else ~upper)
    if drawn >= probability or (sample.weights > 0).sum() < 8 or chosen.sum() < 4:
        return sample.box_xyxy
    points = sample.keypoints_xy[chosen]
    low, high = points.min(axis=0), points.max(axis=0)
    # A box around joints cuts heads and hands: a fifth of its longer side on every side.
    room = 0.2 * max(float((high - low).max()), 8.0)
    return np.concatenate([low - room, high + room])


def _recoloured(
    pixels: npt.NDArray[np.uint8], amount: float, generator: np.random.Generator
) -> npt.NDArray[np.uint8]:
    gain = generator.uniform(1 - amount, 1 + amount) * generator.uniform(
        1 - amount / 3, 1 + amount / 3, 3
    )
    offset = generator.uniform(-amount, amount) * 64
    table = np.arange(256, dtype=np.float64)[:, None] * gain + offset  # (256, 3)
    lookup = np.clip(table, 0, 255).astype(np.uint8)
    return np.stack([lookup[pixels[..., c], c] for c in range(3)], axis=-1)
