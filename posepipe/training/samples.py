"""What networks learn from: labelled people in pictures, read and drawn in some proportion."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from posepipe.core.poses import PoseLabels
from posepipe.core.shapes import checked
from posepipe.data.coco import Annotations, image_files

Sample = TypeVar("Sample")


@dataclass(frozen=True, eq=False)
class PoseSample:
    """One labelled person.

    Attributes:
        pixels: (H, W, 3) uint8 RGB, the whole picture, shared among its people.
        box_xyxy: (4,) float64 pixels.
        keypoints_xy: (K, 2) float64 pixels of the picture.
        weights: (K,) float64: 0 where not labelled, 1 where labelled by a person, between for
            keypoints that another network labelled.
        area: square pixels, for OKS.
    """

    pixels: npt.NDArray[np.uint8]
    box_xyxy: npt.NDArray[np.float64]
    keypoints_xy: npt.NDArray[np.float64]
    weights: npt.NDArray[np.float64]
    area: float

    def __post_init__(self) -> None:
        fields = {
            "box_xyxy": checked("box_xyxy", self.box_xyxy, (4,), np.float64),
            "keypoints_xy": checked("keypoints_xy", self.keypoints_xy, ("K", 2), np.float64),
            "weights": checked("weights", self.weights, (len(self.keypoints_xy),), np.float64),
        }
        for name, array in fields.items():
            object.__setattr__(self, name, array)


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


def pose_samples(
    annotations: Annotations, folder: Path, *, pseudo_weight: float
) -> list[PoseSample]:
    """Everybody with a labelled keypoint, all pictures being read into memory.

    Args:
        annotations: the labels.
        folder: where the pictures lie.
        pseudo_weight: weight of keypoints that another network placed, not a person.

    Raises:
        ImageError: a picture is missing or cannot be read.
    """
    samples = []
    for image in image_files(annotations, folder):
        labels, pixels = annotations.labels_by_image[image.id], image.read()
        for person in np.flatnonzero(
            ~labels.is_crowd & (labels.visibility > 0).any(axis=1)
        ).tolist():
            weights = (labels.visibility[person] > 0).astype(np.float64)
            source = annotations.provenance.get(int(labels.annotation_ids[person]))
            if source is not None:
                weights[list(source.pseudo_keypoints)] *= pseudo_weight
            samples.append(_pose_sample(pixels, labels, person, weights))
    return samples


def detection_samples(annotations: Annotations, folder: Path) -> list[DetectionSample]:
    """Every picture with all its people; what is marked ``iscrowd`` becomes an ignored region.

    Raises:
        ImageError: a picture is missing or cannot be read.
    """
    samples = []
    for image in image_files(annotations, folder):
        labels = annotations.labels_by_image[image.id]
        boxes, crowd = labels.boxes_xyxy, labels.is_crowd
        samples.append(DetectionSample(image.read(), boxes[~crowd], boxes[crowd]))
    return samples


def draw_forever(
    sets: Sequence[Sequence[Sample]], shares: Sequence[float], generator: np.random.Generator
) -> Iterator[Sample]:
    """Samples without end: a set by its share, then the next person of that set's shuffled order.

    Args:
        sets: the data sets, none of them empty.
        shares: how often each set is drawn, relative to the others.
        generator: the only source of randomness.
    """
    probabilities = np.asarray(shares, dtype=np.float64) / np.sum(shares)
    orders = [_endless_order(len(samples), generator) for samples in sets]
    while True:
        chosen = int(generator.choice(len(sets), p=probabilities))
        yield sets[chosen][next(orders[chosen])]


def _pose_sample(
    pixels: npt.NDArray[np.uint8], labels: PoseLabels, person: int, weights: npt.NDArray[np.float64]
) -> PoseSample:
    return PoseSample(
        pixels=pixels,
        box_xyxy=labels.boxes_xyxy[person],
        keypoints_xy=labels.keypoints_xy[person],
        weights=weights,
        area=float(labels.areas[person]),
    )


def _endless_order(length: int, generator: np.random.Generator) -> Iterator[int]:
    while True:
        yield from generator.permutation(length).tolist()
