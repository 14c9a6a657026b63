"""COCO annotation files: pictures and their labelled people, as nouns."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from posepipe.core.boxes import Detections, area, xywh_to_xyxy
from posepipe.core.poses import PoseLabels
from posepipe.core.shapes import check_same_length, checked
from posepipe.core.skeleton import COCO_PERSON, Skeleton
from posepipe.errors import DocumentError, ImageError
from posepipe.io.images import ImageFile, ImageSet
from posepipe.io.jsonfiles import decode, read_bytes

WHAT = "a COCO annotation file"
PERSON = "person"
PERSON_ID = 1  # COCO's category id of a person, in every file of its own


class ImageEntry(msgspec.Struct, frozen=True, gc=False):
    """A picture as COCO-shaped files list it.

    Attributes:
        id: what annotations refer to.
        file_name: relative to the image root.
        width: pixels.
        height: pixels.
    """

    id: int
    file_name: str
    width: int
    height: int

    @property
    def size_wh(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.width, self.height


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a person's label comes from, as far as the file says more than COCO's own do.

    Attributes:
        pseudo_keypoints: indices of keypoints that another network placed, not a person.
        box_source: who made the box; "" for a person.
        box_score: the score of a box that a detector made, None for others.
        area_is_estimate: no outline was at hand: the area says little about medium or large.
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
        images: its pictures, in the file's order, those without people included.
        labels_by_image: by image id, for every picture, the labelled people; people in the
            file's order, crowd regions and people without keypoints included.
        provenance: by annotation id, for those labels only that have anything to say.
    """

    path: Path
    images: tuple[ImageEntry, ...]
    labels_by_image: Mapping[int, PoseLabels]
    provenance: Mapping[int, Provenance]

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True, eq=False)
class BoxLabels:
    """The labelled boxes of one picture, of all categories: a detector's ground truth.

    Attributes:
        image_id: which picture.
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
        images: its pictures, in the file's order, those without anything included.
        labels_by_image: by image id, for every picture, its boxes in the file's order, crowd
            regions included.
    """

    path: Path
    images: tuple[ImageEntry, ...]
    labels_by_image: Mapping[int, BoxLabels]

    def __len__(self) -> int:
        return len(self.images)


def read_annotations(path: str | Path, *, skeleton: Skeleton = COCO_PERSON) -> Annotations:
    """The pictures and the people of a COCO keypoint or instances file.

    Other categories are left out. An instances file has no keypoints: all are "not labelled".

    Args:
        path: the JSON file.
        skeleton: its keypoints, K of them.

    Raises:
        DocumentError: not such a file, an image id or annotation id twice, an unknown image id,
            keypoints of another number than K, or a box of negative size.
    """
    path = Path(path)
    file = decode(read_bytes(path), _File, path=path, what=WHAT)
    people = _by_image(file, _person_ids(file.categories, path), path)
    provenance = {
        person.id: person.provenance
        for persons in people.values()
        for _, person in persons
        if person.provenance != Provenance()
    }
    return Annotations(path, file.images, _labels_by_image(people, skeleton, path), provenance)


def read_instances(path: str | Path) -> Instances:
    """The pictures and the boxes of all categories of a COCO instances or keypoint file.

    Args:
        path: the JSON file.

    Raises:
        DocumentError: not such a file, an image id or annotation id twice, an unknown image id, or
            a box of negative size.
    """
    path = Path(path)
    file = decode(read_bytes(path), _File, path=path, what=WHAT)
    things = _by_image(file, None, path)
    labels = {
        image_id: BoxLabels(
            image_id,
            _boxes_xyxy(of_image, path),
            np.array([thing.category_id for _, thing in of_image], np.int64),
            np.array([thing.iscrowd for _, thing in of_image], np.bool_),
        )
        for image_id, of_image in things.items()
    }
    return Instances(path, file.images, labels)


def image_files(annotations: Annotations | Instances, folder: str | Path) -> ImageSet:
    """The annotated pictures in a folder, with the annotations' ids and in their order.

    A picture that is missing there is found out when it is read.

    Raises:
        ImageError: no such folder.
    """
    root = Path(folder)
    if not root.is_dir():
        raise ImageError(f"{root}: no such folder of pictures: check the path")
    images = (ImageFile(i.id, root / i.file_name, i.file_name) for i in annotations.images)
    return ImageSet(root, tuple(images))


def labelled_boxes(annotations: Annotations, *, everybody: bool = False) -> list[Detections]:
    """The labelled boxes of every picture as if a detector had found them, with score 1.

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


class _Category(msgspec.Struct, frozen=True):
    id: int
    name: str


class _Annotation(msgspec.Struct, frozen=True, gc=False):
    id: int
    image_id: int
    category_id: int
    bbox: tuple[float, float, float, float]
    area: float | None = None
    iscrowd: int = 0
    # Left as text until its turn: COCO's train2017 has 13 million numbers here.
    keypoints: msgspec.Raw = msgspec.Raw(b"null")
    pseudo_keypoints: tuple[int, ...] = ()
    box_source: str = ""
    box_score: float | None = None
    area_is_estimate: bool = False

    @property
    def provenance(self) -> Provenance:
        return Provenance(
            self.pseudo_keypoints, self.box_source, self.box_score, self.area_is_estimate
        )


class _File(msgspec.Struct, frozen=True):
    images: tuple[ImageEntry, ...]
    annotations: tuple[_Annotation, ...] = ()  # test sets come without
    categories: tuple[_Category, ...] = ()


def _by_image(
    file: _File, category_ids: set[int] | None, path: Path
) -> dict[int, list[tuple[int, _Annotation]]]:
    """By image id, for every picture, its annotations with their places in the file.

    Args:
        file: the file's content.
        category_ids: which to keep; None for all.
        path: for messages.

    Raises:
        DocumentError: an image id or annotation id twice, or an unknown image id.
    """
    found: dict[int, list[tuple[int, _Annotation]]] = {}
    for place, image in enumerate(file.images):
        if image.id in found:
            raise DocumentError(f"{path}: image id {image.id} is there twice (images[{place}])")
        found[image.id] = []
    seen: set[int] = set()
    for place, annotation in enumerate(file.annotations):
        if category_ids is not None and annotation.category_id not in category_ids:
            continue
        if annotation.image_id not in found:
            raise DocumentError(
                f"{path}: annotations[{place}] is of image {annotation.image_id}, which is not "
                "among its images"
            )
        if annotation.id in seen:
            raise DocumentError(
                f"{path}: annotation id {annotation.id} is there twice (annotations[{place}])"
            )
        seen.add(annotation.id)
        found[annotation.image_id].append((place, annotation))
    return found


def _person_ids(categories: Sequence[_Category], path: Path) -> set[int]:
    if not categories:
        return {PERSON_ID}
    ids = {category.id for category in categories if category.name == PERSON}
    if not ids:
        names = ", ".join(category.name for category in categories[:5])
        raise DocumentError(f"{path} has no category {PERSON!r}, only: {names}")
    return ids


def _labels_by_image(
    people: Mapping[int, Sequence[tuple[int, _Annotation]]], skeleton: Skeleton, path: Path
) -> dict[int, PoseLabels]:
    """The labels of every image; checked and converted for all people at once, which is faster."""
    everybody = [person for persons in people.values() for person in persons]  # in image order
    keypoints = _keypoints(everybody, skeleton, path)  # (people, K, 3)
    visibility = keypoints[..., 2].astype(np.int64)
    keypoints_xy = np.where(visibility[..., None] > 0, keypoints[..., :2], 0.0)
    boxes_xyxy = _boxes_xyxy(everybody, path)
    areas = np.array([_area(person) for _, person in everybody], np.float64)
    is_crowd = np.array([person.iscrowd != 0 for _, person in everybody], np.bool_)
    ids = np.array([person.id for _, person in everybody], np.int64)
    labels = {}
    end = 0
    for image_id, persons in people.items():
        start, end = end, end + len(persons)
        rows = slice(start, end)
        labels[image_id] = PoseLabels(
            image_id,
            keypoints_xy[rows],
            visibility[rows],
            boxes_xyxy[rows],
            areas[rows],
            is_crowd[rows],
            ids[rows],
        )
    return labels


def _keypoints(
    people: Sequence[tuple[int, _Annotation]], skeleton: Skeleton, path: Path
) -> npt.NDArray[np.float64]:
    """(people, K, 3) x, y, v; zeros where a person has none."""
    wanted = 3 * len(skeleton)
    none = [0.0] * wanted
    flat = array("d")
    for place, person in people:
        where = f"annotations[{place}].keypoints"
        try:
            numbers = msgspec.json.decode(person.keypoints, type=list[float] | None) or none
        except msgspec.DecodeError as error:
            reason = str(error).replace("`$", "`keypoints")
            raise DocumentError(
                f"{path} is not {WHAT}: {reason} of `annotations[{place}]`"
            ) from None
        if len(numbers) != wanted:
            raise DocumentError(
                f"{path}: {where} has {len(numbers)} numbers, a {skeleton.name} has {wanted}: "
                f"x, y, v of {len(skeleton)} keypoints"
            )
        flat.extend(numbers)
    keypoints = np.array(flat).reshape(-1, len(skeleton), 3)
    visibility = keypoints[..., 2]
    wrong = ((visibility != 0) & (visibility != 1) & (visibility != 2)).any(axis=1)
    if wrong.any():
        place = people[int(wrong.argmax())][0]
        raise DocumentError(
            f"{path}: annotations[{place}].keypoints has a visibility (every third number) that "
            "is not 0, 1 or 2"
        )
    return keypoints


def _boxes_xyxy(people: Sequence[tuple[int, _Annotation]], path: Path) -> npt.NDArray[np.float64]:
    for place, person in people:
        if min(person.bbox[2:]) < 0:
            raise DocumentError(
                f"{path}: annotations[{place}].bbox has a negative size: {list(person.bbox)} "
                "(x, y, width, height)"
            )
    boxes_xywh = np.array([person.bbox for _, person in people], np.float64).reshape(-1, 4)
    return xywh_to_xyxy(boxes_xywh).astype(np.float64)


def _area(person: _Annotation) -> float:
    return person.bbox[2] * person.bbox[3] if person.area is None else person.area
