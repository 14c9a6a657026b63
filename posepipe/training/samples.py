"""What networks learn from: labelled people in images, and images with all their people."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from posepipe.core.boxes import area
from posepipe.core.shapes import check_same_length, checked
from posepipe.detection.candidates import PERSON
from posepipe.errors import DocumentError
from posepipe.io.coco import (
    Annotations,
    Instances,
    image_files,
)
from posepipe.training.data import DataSets, DataTable
from posepipe.training.images import ImageCache, Pixels, TrainingImage

Sample = TypeVar("Sample")


@dataclass(frozen=True, eq=False)
class PoseSample:
    """One labelled person.

    Attributes:
        image: the whole image, shared among its people.
        box_xyxy: (4,) float64 pixels.
        keypoints_xy: (K, 2) float64 pixels of the image.
        weights: (K,) float64: 0 where not labelled, 1 where labelled by a person, between for
            keypoints that another network labelled.
        visibility: (K,) int64, COCO's: 0 not labelled, 1 labelled but occluded, 2 visible.
        area: square pixels, for OKS.
    """

    image: TrainingImage
    box_xyxy: npt.NDArray[np.float64]
    keypoints_xy: npt.NDArray[np.float64]
    weights: npt.NDArray[np.float64]
    visibility: npt.NDArray[np.int64]
    area: float

    def __post_init__(self) -> None:
        fields = {
            "keypoints_xy": checked("keypoints_xy", self.keypoints_xy, ("K", 2), np.float64),
            "weights": checked("weights", self.weights, ("K",), np.float64),
            "visibility": checked("visibility", self.visibility, ("K",), np.int64),
        }
        check_same_length(**fields)
        fields["box_xyxy"] = checked("box_xyxy", self.box_xyxy, (4,), np.float64)
        for name, array in fields.items():
            object.__setattr__(self, name, array)

    def read(self) -> Pixels:
        """(H, W, 3) uint8 RGB, the whole image; not to be written to.

        Raises:
            ImageError: the image is missing or cannot be read.
        """
        return self.image.read()


@dataclass(frozen=True, eq=False)
class DetectionSample:
    """One image with all its people.

    Attributes:
        image: read when it is needed; or (H, W, 3) uint8 RGB pixels that are there already.
        boxes_xyxy: (N, 4) float64 pixels, people; N = 0 makes the image a negative.
        ignored_xyxy: (M, 4) float64 pixels, regions that are neither person nor background.
    """

    image: TrainingImage | Pixels
    boxes_xyxy: npt.NDArray[np.float64]
    ignored_xyxy: npt.NDArray[np.float64]
    classes: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))

    def __post_init__(self) -> None:
        for name in ("boxes_xyxy", "ignored_xyxy"):
            array = checked(name, getattr(self, name), ("N", 4), np.float64)
            object.__setattr__(self, name, array)
        given = self.classes if len(self.classes) else np.full(len(self.boxes_xyxy), PERSON)
        classes = checked("classes", given, (len(self.boxes_xyxy),), np.int64)
        object.__setattr__(self, "classes", classes)

    @property
    def pixels(self) -> Pixels:
        """(H, W, 3) uint8 RGB, read now unless they are kept; not to be written to.

        Raises:
            ImageError: the image is missing or cannot be read.
        """
        return self.image.read() if isinstance(self.image, TrainingImage) else self.image


def pose_samples(
    annotations: Annotations,
    folder: Path,
    *,
    pseudo_weight: float,
    cache: ImageCache | None = None,
    unlabelled: bool = False,
) -> list[PoseSample]:
    """Everybody with a labelled keypoint and a box with an area; no image is read yet.

    Crowd regions are left out.

    Args:
        annotations: the labels.
        folder: where the images lie.
        pseudo_weight: weight of keypoints that another network placed, not a person.
        cache: keeps images once they are read; None decodes them each time.
        unlabelled: people without labelled keypoints, too.

    Raises:
        ImageError: no such folder.
    """
    samples = []
    for image in image_files(annotations, folder):
        labels, cached = annotations.labels_by_image[image.id], TrainingImage(image, cache)
        wanted = (labels.visibility > 0).any(axis=1) | unlabelled
        wanted &= (area(labels.boxes_xyxy) > 0) & ~labels.is_crowd
        for person in np.flatnonzero(wanted).tolist():
            visibility = labels.visibility[person]
            weights = (visibility > 0).astype(np.float64)
            source = annotations.provenance.get(int(labels.annotation_ids[person]))
            if source is not None:
                placed = [k for k in source.pseudo_keypoints if 0 <= k < len(weights)]
                weights[placed] *= pseudo_weight
            samples.append(
                PoseSample(
                    image=cached,
                    box_xyxy=labels.boxes_xyxy[person],
                    keypoints_xy=labels.keypoints_xy[person],
                    weights=weights,
                    visibility=visibility,
                    area=float(labels.areas[person]),
                )
            )
    return samples


def detection_samples(
    annotations: Annotations, folder: Path, *, cache: ImageCache | None = None
) -> list[DetectionSample]:
    """Every image with all its people; what is marked ``iscrowd`` becomes an ignored region.

    Boxes without area are left out. No image is read yet.

    Args:
        annotations: the labels.
        folder: where the images lie.
        cache: keeps images once they are read; None decodes them each time.

    Raises:
        ImageError: no such folder.
    """
    samples = []
    for image in image_files(annotations, folder):
        labels = annotations.labels_by_image[image.id]
        solid = area(labels.boxes_xyxy) > 0
        boxes, crowd = labels.boxes_xyxy[solid], labels.is_crowd[solid]
        samples.append(DetectionSample(TrainingImage(image, cache), boxes[~crowd], boxes[crowd]))
    return samples


def instance_samples(
    instances: Instances, folder: Path, *, classes: int, cache: ImageCache | None = None
) -> list[DetectionSample]:
    """Every image with all its things; the class of a thing is its category id.

    What is marked ``iscrowd`` becomes an ignored region. Boxes without area are left out. No
    image is read yet.

    Args:
        instances: the labels.
        folder: where the images lie.
        classes: of the detector, background included: category ids lie below.
        cache: keeps images once they are read; None decodes them each time.

    Raises:
        DocumentError: a category id that is not a class of the detector.
        ImageError: no such folder.
    """
    samples = []
    for image in image_files(instances, folder):
        labels = instances.labels_by_image[image.id]
        outside = labels.category_ids[(labels.category_ids < 1) | (labels.category_ids >= classes)]
        if len(outside):
            raise DocumentError(
                f"{instances.path} has boxes of category id {outside[0]}, but the recipe's "
                f"[network] classes = {classes} has room for 1 to {classes - 1}: COCO's 80 "
                "categories need classes = 91, people alone 2"
            )
        solid = area(labels.boxes_xyxy) > 0
        kept, crowd = solid & ~labels.is_crowd, solid & labels.is_crowd
        samples.append(
            DetectionSample(
                TrainingImage(image, cache),
                labels.boxes_xyxy[kept],
                labels.boxes_xyxy[crowd],
                labels.category_ids[kept],
            )
        )
    return samples


def read_pose_sets(
    tables: Sequence[DataTable],
    *,
    pseudo_weight: float,
    cache: ImageCache | None = None,
    data: DataSets | None = None,
    unlabelled: bool = False,
) -> list[list[PoseSample]]:
    """The people of every set of a recipe; see `pose_samples`.

    Args:
        tables: the sets.
        pseudo_weight: weight of keypoints that another network placed.
        cache: keeps images once they are read.
        data: what has read the sets' files; None reads them.
        unlabelled: people without labelled keypoints, too.

    Raises:
        DocumentError: an annotation file is missing or wrong.
        ImageError: a folder of images is missing.
    """
    data = data or DataSets()
    return [
        pose_samples(
            data.people(table),
            Path(table.images),
            pseudo_weight=pseudo_weight,
            cache=cache,
            unlabelled=unlabelled,
        )
        for table in tables
    ]


def read_detection_sets(
    tables: Sequence[DataTable],
    *,
    classes: int = 2,
    cache: ImageCache | None = None,
    data: DataSets | None = None,
) -> list[list[DetectionSample]]:
    """The images of every set of a recipe; see `detection_samples` and `instance_samples`.

    Args:
        tables: the sets.
        classes: of the detector, background included; 2 learns people alone, whatever other
            categories the files have.
        cache: keeps images once they are read; None decodes them each time.
        data: what has read the sets' files; None reads them.

    Raises:
        DocumentError: an annotation file is missing or wrong, or has other classes.
        ImageError: a folder of images is missing.
    """
    data = data or DataSets()
    if classes == 2:
        return [
            detection_samples(data.people(table), Path(table.images), cache=cache)
            for table in tables
        ]
    return [
        instance_samples(data.instances(table), Path(table.images), classes=classes, cache=cache)
        for table in tables
    ]
