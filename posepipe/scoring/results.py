"""What an evaluation compares: an annotation file, and the poses or boxes of a pipeline.

Files are read leniently, since result lists come from many programs: unknown keys are passed over,
and only what pycocotools needs is kept. What would make a score misleading is an `EvaluationError`
or a line in `warnings`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from posepipe.core.boxes import Detections, xyxy_to_xywh
from posepipe.core.poses import Poses
from posepipe.core.skeleton import PERSON, Skeleton
from posepipe.errors import DocumentError, EvaluationError
from posepipe.io.jsonfiles import decode, read_bytes

Box = tuple[float, float, float, float]


class Image(msgspec.Struct, frozen=True):
    """A picture of an annotation file."""

    id: int


class Category(msgspec.Struct, frozen=True):
    """A category of an annotation file."""

    id: int
    name: str = ""


class Label(msgspec.Struct, frozen=True):
    """A labelled object of an annotation file; `bbox` is left, top, width, height in pixels."""

    id: int
    image_id: int
    category_id: int
    bbox: Box
    area: float | None = None
    iscrowd: int | bool = 0
    keypoints: tuple[float, ...] | None = None
    num_keypoints: int | None = None
    area_is_estimate: bool = False

    @property
    def labelled_keypoints(self) -> int:
        """How many keypoints the file says are labelled; counted where it does not say."""
        if self.num_keypoints is not None:
            return self.num_keypoints
        return sum(visibility > 0 for visibility in (self.keypoints or ())[2::3])


class AnnotationFile(msgspec.Struct, frozen=True):
    """The parts of a COCO annotation file that an evaluation reads."""

    images: list[Image]
    annotations: list[Label]
    categories: list[Category]


class Result(msgspec.Struct, frozen=True):
    """One entry of a result list: a pose, a box, or both; kps.json names other skeletons."""

    image_id: int
    category_id: int | None = None
    score: float | None = None
    keypoints: tuple[float, ...] | None = None
    bbox: Box | None = None
    skeleton: Skeleton | None = None


class BoxDocument(msgspec.Struct, frozen=True):
    """The part of a boxes.json that an evaluation reads."""

    annotations: list[Result]


@dataclass(frozen=True)
class GroundTruth:
    """The labelled people of the pictures that count.

    Attributes:
        path: the annotation file.
        person_id: its id of the category "person", or of what was asked for.
        image_ids: pictures that count, with and without people.
        other_image_ids: pictures of the file that were not asked for.
        people: of the pictures that count; other categories are left out.
    """

    path: Path
    person_id: int
    image_ids: frozenset[int]
    other_image_ids: frozenset[int]
    people: tuple[Label, ...]


def read_ground_truth(
    path: str | Path, image_ids: Collection[int] | None = None, *, category: str = PERSON
) -> GroundTruth:
    """The people of an annotation file, of all its pictures or of those named.

    Args:
        path: the file.
        image_ids: of the pictures that count; None for all.
        category: what counts as people.

    Raises:
        DocumentError: the file is missing or no COCO annotation file.
        EvaluationError: it has no pictures, no such category, or lacks pictures asked for.
    """
    path = Path(path)
    file = decode(read_bytes(path), AnnotationFile, path=path, what="a COCO annotation file")
    known = frozenset(image.id for image in file.images)
    wanted = known if image_ids is None else frozenset(image_ids)
    if unknown := sorted(wanted - known):
        raise EvaluationError(
            f"{path} lacks {len(unknown)} of the {len(wanted)} images asked for, such as "
            f"{unknown[0]}: name the annotation file of this split"
        )
    if not wanted:
        raise EvaluationError(f"{path} has no images: there is nothing to evaluate on")
    persons = [one.id for one in file.categories if one.name == category]
    if not persons:
        raise EvaluationError(f"{path} has no category named {category!r}")
    people = tuple(
        label
        for label in file.annotations
        if label.category_id == persons[0] and label.image_id in wanted
    )
    return GroundTruth(path, persons[0], wanted, known - wanted, people)


def read_pose_results(path: str | Path) -> list[Result]:
    """The poses of a plain COCO keypoint result list, such as kps.json.

    Raises:
        DocumentError: the file is missing or no such list.
        EvaluationError: it holds boxes.
    """
    path = Path(path)
    entries, boxes = _read_results(path)
    if boxes:
        raise EvaluationError(
            f"{path} holds boxes, not keypoints: estimate poses from them first, or evaluate them "
            "as boxes (evaluate_boxes)"
        )
    return entries


def read_box_results(path: str | Path) -> list[Result]:
    """The boxes of a boxes.json, or of a plain COCO detection list.

    Raises:
        DocumentError: the file is missing or neither of the two.
    """
    return _read_results(Path(path))[0]


def holds_boxes(path: str | Path) -> bool:
    """Whether a result file is a boxes.json or a detection list, rather than a list of poses.

    An empty list counts as a list of poses.

    Raises:
        DocumentError: the file is missing, no JSON, or of another shape.
    """
    return _read_results(Path(path))[1]


def pose_results(poses: Iterable[Poses]) -> list[Result]:
    """Poses as the entries of a result list."""
    return [
        Result(
            image_id=of_image.image_id,
            score=float(score),
            keypoints=tuple(keypoints.reshape(-1).tolist()),
            skeleton=of_image.skeleton,
        )
        for of_image in poses
        for keypoints, score in zip(of_image.keypoints, of_image.scores, strict=True)
    ]


def box_results(detections: Iterable[Detections]) -> list[Result]:
    """Detections as the entries of a result list."""
    return [
        Result(image_id=of_image.image_id, score=float(score), bbox=tuple(box))
        for of_image in detections
        for box, score in zip(
            xyxy_to_xywh(of_image.boxes_xyxy.astype(float)).tolist(), of_image.scores, strict=True
        )
    ]


def _read_results(path: Path) -> tuple[list[Result], bool]:
    """The entries of a result file, and whether they are boxes."""
    data = read_bytes(path)
    if data.lstrip()[:1] != b"{":
        entries = decode(data, list[Result], path=path, what="a COCO result list", nan=True)
        poses = any(entry.keypoints is not None for entry in entries)
        return entries, not poses and any(entry.bbox is not None for entry in entries)
    document = decode(data, BoxDocument, path=path, what="a boxes.json or a result list")
    if any(entry.keypoints is not None for entry in document.annotations):
        raise DocumentError(f"{path} is an annotation file: a list of results is needed")
    return document.annotations, True
