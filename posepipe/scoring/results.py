"""What an evaluation compares: an annotation file, and the poses or boxes of a pipeline."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from posepipe.core.boxes import Detections, xyxy_to_xywh
from posepipe.core.poses import Poses
from posepipe.core.skeleton import COCO_PERSON, Skeleton
from posepipe.errors import EvaluationError
from posepipe.io.coco import Annotations, read_coco
from posepipe.io.findings import refuse_fatal
from posepipe.io.people import People
from posepipe.io.result_list import ResultEntry, ResultFile, read_results

IN_MEMORY = Path("the results")


@dataclass(frozen=True, eq=False)
class GroundTruth:
    """The labelled people of the images that count.

    Attributes:
        annotations: what the file says.
        image_ids: images that count, with and without people.
        people: of the images that count; other categories are left out.
    """

    annotations: Annotations
    image_ids: frozenset[int]
    people: People

    @property
    def image_numbers(self) -> dict[int | str, int]:
        """The place of every image that counts in the order of ids, which is pycocotools'."""
        return {image_id: place for place, image_id in enumerate(sorted(self.image_ids))}

    @property
    def path(self) -> Path:
        """The annotation file."""
        return self.annotations.path


def ground_truth(
    annotations: str | Path | Annotations,
    image_ids: Collection[int] | None = None,
    *,
    skeleton: Skeleton = COCO_PERSON,
) -> GroundTruth:
    """The people of an annotation file, of all its images or of those named.

    Args:
        annotations: the file, or what was read of it.
        image_ids: of the images that count; None for all.
        skeleton: of its keypoints; its category is what counts as people.

    Raises:
        DocumentError: the file is missing, not a COCO annotation file, or one whose labels mostly
            cannot be used.
        EvaluationError: it has no images, or lacks images asked for.
    """
    if not isinstance(annotations, Annotations):
        annotations = read_coco(annotations).people(skeleton=skeleton)
    refuse_fatal(annotations.findings)
    path = annotations.path
    known = frozenset(image.id for image in annotations.images)
    wanted = known if image_ids is None else frozenset(image_ids)
    if unknown := sorted(wanted - known):
        raise EvaluationError(
            f"{path} lacks {len(unknown)} of the {len(wanted)} images asked for, such as "
            f"{unknown[0]}: name the annotation file of this split"
        )
    if not wanted:
        raise EvaluationError(f"{path} has no images: there is nothing to evaluate on")
    people = annotations.people
    chosen = np.array([entry.image_id in wanted for entry in people.entries], np.bool_)
    return GroundTruth(annotations, wanted, people.chosen(chosen))


def given_poses(results: str | Path | ResultFile | Iterable[Poses]) -> ResultFile:
    """Poses as a result list, of a file or in memory.

    Raises:
        DocumentError: the file is missing or no such list.
        EvaluationError: it holds boxes.
    """
    found = _given(results)
    if found is None:
        return ResultFile(IN_MEMORY, tuple(_of_poses(results)))  # type: ignore[arg-type]  # what is left of the union
    if found.holds_boxes:
        raise EvaluationError(
            f"{found.path} holds boxes, not keypoints: estimate poses from them first, or evaluate "
            "them as boxes (evaluate_boxes)"
        )
    return found


def given_boxes(results: str | Path | ResultFile | Iterable[Detections]) -> ResultFile:
    """Boxes as a result list, of a file or in memory.

    Raises:
        DocumentError: the file is missing or no such list.
    """
    found = _given(results)
    if found is None:
        return ResultFile(IN_MEMORY, tuple(_of_detections(results)))  # type: ignore[arg-type]  # what is left of the union
    return found


def _given(results: object) -> ResultFile | None:
    if isinstance(results, str | Path):
        results = read_results(results)
    if not isinstance(results, ResultFile):
        return None
    refuse_fatal(results.findings)
    return results


def _of_poses(poses: Iterable[Poses]) -> Iterable[ResultEntry]:
    return (
        ResultEntry(
            of_image.image_id,
            score=float(score),
            keypoints=tuple(keypoints.reshape(-1).tolist()),
            skeleton=of_image.skeleton,
        )
        for of_image in poses
        for keypoints, score in zip(of_image.keypoints, of_image.scores, strict=True)
    )


def _of_detections(detections: Iterable[Detections]) -> Iterable[ResultEntry]:
    return (
        ResultEntry(of_image.image_id, score=float(score), bbox=tuple(box))
        for of_image in detections
        for box, score in zip(
            xyxy_to_xywh(of_image.boxes_xyxy.astype(float)).tolist(), of_image.scores, strict=True
        )
    )
