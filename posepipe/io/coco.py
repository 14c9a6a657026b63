"""COCO annotation files: images, their labelled people and things, as nouns.

A file is read once (`read_coco`); people, things and categories are views of it. All commands read
annotations through here, so that they agree on what a label means.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from posepipe.core.boxes import Detections, area, xywh_to_xyxy
from posepipe.core.poses import PoseLabels
from posepipe.core.shapes import check_same_length, checked
from posepipe.core.skeleton import COCO_PERSON, PERSON, Skeleton
from posepipe.io.categories import PERSON_ID, person_categories
from posepipe.io.entries import Entries, read_entries
from posepipe.io.findings import Finding, refuse_fatal
from posepipe.io.image_files import image_files
from posepipe.io.jsonfiles import read_bytes
from posepipe.io.people import People, clean_people, with_boxes
from posepipe.io.schema import AnnotationEntry, CategoryEntry, ImageEntry

__all__ = [
    "PERSON",
    "PERSON_ID",
    "Annotations",
    "BoxLabels",
    "CategoryEntry",
    "CocoFile",
    "ImageEntry",
    "Instances",
    "Provenance",
    "image_files",
    "labelled_boxes",
    "read_annotations",
    "read_coco",
    "read_instances",
]


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a person's label comes from, as far as the file says more than COCO's own files do.

    Attributes:
        pseudo_keypoints: indices of keypoints that another network placed, not a person.
        box_source: who made the box; "" for a person.
        box_score: the score of a box that a detector made, None for others.
        area_is_estimate: no outline was at hand: it says little about medium or large.
    """

    pseudo_keypoints: tuple[int, ...] = ()
    box_source: str = ""
    box_score: float | None = None
    area_is_estimate: bool = False


@dataclass(frozen=True, eq=False)
class Annotations:
    """What an annotation file says about people.

    Attributes:
        path: the file.
        images: its images, in the file's order, those without people included.
        labels_by_image: by image id, for every image, the labelled people; people in the
            file's order, crowd regions and people without keypoints included.
        provenance: by annotation id, only for labels that say anything about it.
        people: all of them as columns, image by image.
        person_categories: the file's categories of people; () where it lists none.
        other_category_ids: of everything else that it lists.
        text_ids: the numbers that stand for image ids that are text.
        findings: what is odd about the file.
        sha256: of the file.
    """

    path: Path
    images: tuple[ImageEntry, ...]
    labels_by_image: Mapping[int, PoseLabels]
    provenance: Mapping[int, Provenance]
    people: People
    person_categories: tuple[CategoryEntry, ...]
    other_category_ids: frozenset[int]
    text_ids: Mapping[str, int]
    findings: tuple[Finding, ...]
    sha256: str

    def __len__(self) -> int:
        return len(self.images)

    @property
    def person_ids(self) -> frozenset[int]:
        """The category ids that mean a person here."""
        return frozenset(category.id for category in self.person_categories) or frozenset(
            {PERSON_ID}
        )


@dataclass(frozen=True, eq=False)
class BoxLabels:
    """The labelled boxes of one image, of all categories: a detector's ground truth.

    Attributes:
        image_id: which image.
        boxes_xyxy: (N, 4) float64 pixels.
        category_ids: (N,) int64, the file's own; COCO's are 1 (person) to 90, with gaps.
        is_crowd: (N,) bool, a region with things that nobody counted.

    Raises:
        ValueError: a wrong shape, lengths that differ, or a value that is not finite.
    """

    image_id: int
    boxes_xyxy: npt.NDArray[np.float64]
    category_ids: npt.NDArray[np.int64]
    is_crowd: npt.NDArray[np.bool_]

    def __post_init__(self) -> None:
        fields = {
            "boxes_xyxy": checked("boxes_xyxy", self.boxes_xyxy, ("N", 4), np.float64),
            "category_ids": checked("category_ids", self.category_ids, ("N",), np.int64),
            "is_crowd": checked("is_crowd", self.is_crowd, ("N",), np.bool_),
        }
        check_same_length(**fields)
        for name, values in fields.items():
            object.__setattr__(self, name, values)

    def __len__(self) -> int:
        return len(self.is_crowd)


@dataclass(frozen=True, eq=False)
class Instances:
    """What an annotation file says about things of all categories.

    Attributes:
        path: the file.
        images: its images, in the file's order, those without anything included.
        labels_by_image: by image id, for every image, its boxes in the file's order, crowd
            regions included.
        findings: what is odd about the file.
    """

    path: Path
    images: tuple[ImageEntry, ...]
    labels_by_image: Mapping[int, BoxLabels]
    findings: tuple[Finding, ...] = ()

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True, eq=False)
class CocoFile:
    """An annotation file, read once.

    Attributes:
        path: the file.
        entries: its images, annotations and categories.
        sha256: of the file.
    """

    path: Path
    entries: Entries
    sha256: str

    def people(self, *, skeleton: Skeleton = COCO_PERSON, keypoints: bool = True) -> Annotations:
        """The images and the people; other categories are left out.

        An instances file has no keypoints: all are "not labelled". Nothing is refused here: what
        makes the file useless is a fatal finding.

        Args:
            skeleton: the people's K keypoints.
            keypoints: whether they matter; otherwise all count as not labelled.
        """
        where, entries = str(self.path), self.entries
        categories, about_categories = person_categories(entries, skeleton, where)
        ids = {category.id for category in categories}
        images = {image.id: image for image in entries.images}
        by_image: dict[int, list[AnnotationEntry]] = {image_id: [] for image_id in images}
        for entry in entries.annotations:
            if entry.category_id in ids:
                by_image[entry.image_id].append(entry)
        in_order = [entry for of_image in by_image.values() for entry in of_image]
        people, about_people = clean_people(in_order, images, skeleton, where, keypoints=keypoints)
        return Annotations(
            path=self.path,
            images=entries.images,
            labels_by_image=_labels_by_image(people, images),
            provenance=_provenance(people),
            people=people,
            person_categories=categories,
            other_category_ids=frozenset(c.id for c in entries.categories if c.id not in ids),
            text_ids=entries.text_ids,
            findings=(*entries.findings, *about_categories, *about_people),
            sha256=self.sha256,
        )

    def instances(self) -> Instances:
        """The images and the boxes of all categories; invalid boxes are left out."""
        images = {image.id: image for image in self.entries.images}
        entries, boxes, findings = with_boxes(self.entries.annotations, str(self.path))
        places: dict[int, list[int]] = {image_id: [] for image_id in images}
        for place, entry in enumerate(entries):
            places[entry.image_id].append(place)
        boxes_xyxy = xywh_to_xyxy(boxes).astype(np.float64)
        category_ids = np.array([entry.category_id for entry in entries], np.int64)
        is_crowd = np.array([entry.iscrowd != 0 for entry in entries], np.bool_)
        labels = {
            image_id: BoxLabels(image_id, boxes_xyxy[rows], category_ids[rows], is_crowd[rows])
            for image_id, rows in places.items()
        }
        findings = [*self.entries.findings, *findings]
        return Instances(self.path, self.entries.images, labels, tuple(findings))


def read_coco(path: str | Path) -> CocoFile:
    """An annotation file; see `CocoFile`.

    Raises:
        DocumentError: it cannot be read, is not JSON, or has no list of images.
    """
    path = Path(path)
    data = read_bytes(path)
    return CocoFile(path, read_entries(data, path), hashlib.sha256(data).hexdigest())


def read_annotations(path: str | Path, *, skeleton: Skeleton = COCO_PERSON) -> Annotations:
    """The images and the people of a COCO keypoint or instances file; see `CocoFile.people`.

    Raises:
        DocumentError: not such a file, or one with a fatal finding: most of its labels cannot be
            used.
    """
    annotations = read_coco(path).people(skeleton=skeleton)
    refuse_fatal(annotations.findings)
    return annotations


def read_instances(path: str | Path) -> Instances:
    """The images and the boxes of all categories of a COCO instances or keypoint file.

    Raises:
        DocumentError: as `read_annotations`.
    """
    instances = read_coco(path).instances()
    refuse_fatal(instances.findings)
    return instances


def labelled_boxes(annotations: Annotations, *, everybody: bool = False) -> list[Detections]:
    """The labelled boxes of every image as if a detector had found them, with score 1.

    Crowd regions and boxes without area are left out.

    Args:
        annotations: the labels.
        everybody: also people without a labelled keypoint; COCO's evaluation ignores those.
    """
    found = []
    for image in annotations.images:
        labels = annotations.labels_by_image[image.id]
        kept = ~labels.is_crowd & (area(labels.boxes_xyxy) > 0)
        if not everybody:
            kept &= (labels.visibility > 0).any(axis=1)
        boxes = labels.boxes_xyxy[kept].astype(np.float32)
        found.append(Detections(image.id, boxes, np.ones(len(boxes), np.float32)))
    return found


def _labels_by_image(people: People, images: Mapping[int, ImageEntry]) -> dict[int, PoseLabels]:
    """The labels of every image; `people` are in the images' order."""
    keypoints_xy, visibility = people.keypoints[..., :2], people.visibility
    boxes_xyxy = xywh_to_xyxy(people.boxes_xywh).astype(np.float64)
    is_crowd = people.is_crowd
    ids = np.array([entry.id for entry in people.entries], np.int64)
    counts = Counter(entry.image_id for entry in people.entries)
    labels = {}
    end = 0
    for image_id in images:
        start, end = end, end + counts[image_id]
        rows = slice(start, end)
        labels[image_id] = PoseLabels(
            image_id,
            keypoints_xy[rows],
            visibility[rows],
            boxes_xyxy[rows],
            people.areas[rows],
            is_crowd[rows],
            ids[rows],
        )
    return labels


def _provenance(people: People) -> dict[int, Provenance]:
    found = {
        entry.id: Provenance(
            entry.pseudo_keypoints, entry.box_source, entry.box_score, entry.area_is_estimate
        )
        for entry in people.entries
    }
    return {id_: provenance for id_, provenance in found.items() if provenance != Provenance()}
