"""What an evaluation refuses, and what it warns about: results with misleading numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from msgspec import structs

from posepipe.core.skeleton import COCO_PERSON, Skeleton
from posepipe.errors import EvaluationError
from posepipe.io.categories import keypoint_names
from posepipe.io.findings import refuse_fatal
from posepipe.io.identity import identify, is_person
from posepipe.io.people import People
from posepipe.io.result_list import ResultEntry, ResultFile
from posepipe.scoring.results import GroundTruth

Kind = Literal["pose", "box"]
PER_IMAGE: dict[Kind, int] = {"pose": 20, "box": 100}  # COCO's evaluation looks at no more


@dataclass(frozen=True)
class Counted:
    """What is left of results given an annotation file.

    Attributes:
        entries: of people in images that count, with the annotation file's ids.
        elsewhere: how many others there were in images that do not count.
        others: how many were of other categories.
        lines: what was noticed on the way.
    """

    entries: tuple[ResultEntry, ...]
    elsewhere: int
    others: int
    lines: tuple[str, ...]


def counted_results(results: ResultFile, truth: GroundTruth, kind: Kind) -> Counted:
    """The results that are scored; images are matched by id and name, people by category.

    Raises:
        EvaluationError: results on images that the annotation file does not have, or none of them
            of a person.
    """
    found = identify(results, truth.annotations)
    count = len(found.ids) + len(found.named_elsewhere) + len(found.unknown)
    example = next(iter((*found.unknown, *found.named_elsewhere)), None)
    if found.unknown or (results.entries and not found.ids):
        share = f"only {len(found.ids)} are" if found.ids else "none is"
        raise EvaluationError(
            f"of the results' {count} images {share} known to {truth.path}, which lacks for "
            f"example {example}: the two belong to different image sets, or number them in "
            "different ways without naming files"
        )
    entries, elsewhere, others = [], 0, 0
    by_posepipe = results.by_posepipe
    for entry in results.entries:
        image_id = found.ids.get((entry.image_id, results.file_name(entry)))
        if image_id is None or image_id not in truth.image_ids:
            elsewhere += 1
        elif by_posepipe or entry.skeleton is not None or is_person(entry, truth.annotations):
            entries.append(structs.replace(entry, image_id=image_id))
        else:
            others += 1
    if others and not entries:
        raise EvaluationError(_of_no_person(results, truth, kind))
    lines = [finding.message for finding in (*results.findings, *found.findings)]
    return Counted(tuple(entries), elsewhere, others, tuple(lines))


def _of_no_person(results: ResultFile, truth: GroundTruth, kind: Kind) -> str:
    ids = sorted({entry.category_id for entry in results.entries if entry.category_id is not None})
    plural = {"pose": "poses", "box": "boxes"}[kind]
    given = ", ".join(map(str, ids[:5])) + (", …" if len(ids) > 5 else "")
    persons = ", ".join(map(str, sorted(truth.annotations.person_ids)))
    return (
        f"none of the {len(results.entries)} {plural} of {results.path} is of a person: their "
        f"category_id is {given}, a person's is {persons} in {truth.path}: give them that one"
    )


def skeleton_of(results: Sequence[ResultEntry], wanted: Skeleton | None) -> Skeleton:
    """What the keypoints of results are: what was asked for, else what they say, else COCO's.

    Raises:
        EvaluationError: they have several skeletons, or keypoints other than those asked for.
    """
    own = list(dict.fromkeys(one.skeleton for one in results if one.skeleton is not None))
    if len(own) > 1:
        names = " and ".join(skeleton.name for skeleton in own[:2])
        raise EvaluationError(
            f"the results have poses of several skeletons ({names}): score them one by one"
        )
    if wanted is None:
        return own[0] if own else COCO_PERSON
    if own and own[0].keypoints != wanted.keypoints:
        raise EvaluationError(
            f"the results' keypoints are those of {own[0].name!r}, not of {wanted.name!r}"
        )
    return wanted


def check_in_pixels(poses: Sequence[ResultEntry], skeleton: Skeleton) -> None:
    """Check that the coordinates of poses are not parts of the image.

    Raises:
        EvaluationError: they are.
    """
    keypoints = np.array([pose.keypoints for pose in poses], np.float64)
    largest = np.abs(keypoints.reshape(-1, len(skeleton), 3)[..., :2]).max(initial=0)
    if poses and largest <= 1.5:
        raise EvaluationError(
            f"all keypoints lie in 0…1 (largest coordinate {largest:.4g}): they are normalised; "
            "multiply x by the image's width and y by its height"
        )


def check_pose_labels(truth: GroundTruth, skeleton: Skeleton) -> None:
    """Check that OKS can be computed with the people that count.

    Raises:
        DocumentError: the file says that its keypoints are not the skeleton's.
        EvaluationError: there are people, but no keypoints at all.
    """
    file = truth.annotations
    refuse_fatal(keypoint_names(file.person_categories, skeleton, str(file.path), fatal=True))
    if len(file.people) and not any(bytes(e.keypoints) != b"null" for e in file.people.entries):
        raise EvaluationError(
            f"{truth.path} labels people but no keypoints: COCO's are in person_keypoints_*.json, "
            "not in instances_*.json"
        )


def warnings_about(
    given: Sequence[ResultEntry],
    counted: Counted,
    truth: GroundTruth,
    people: People,
    kind: Kind,
) -> list[str]:
    """What may mislead in the numbers, one line each.

    Args:
        given: all results.
        counted: those that are scored.
        truth: what they are compared with.
        people: the labelled people that count.
        kind: what the results are.
    """
    plural = {"pose": "poses", "box": "boxes"}[kind]
    lines = [finding.message for finding in truth.annotations.findings] + list(counted.lines)
    entries = counted.entries
    if not len(people):
        lines.append("the annotations have no people that count: there are no numbers")
    if not given:
        lines.append(f"the results hold no {plural}: every number is 0")
    if counted.elsewhere:
        lines.append(f"left out: {counted.elsewhere} {plural} on images outside this split")
    if counted.others:
        lines.append(f"left out: {counted.others} {plural} of other categories than person")
    per_image = Counter(result.image_id for result in entries)
    empty = truth.image_ids - per_image.keys()
    missed = empty & {label.image_id for label in people.entries}
    if given and missed:
        lines.append(
            f"images without any {kind}: {len(empty)} of {len(truth.image_ids)}, {len(missed)} of "
            "them with labelled people, who count as missed"
        )
    if len(entries) > 1 and len({result.score for result in entries}) == 1:
        lines.append(
            f"all {len(entries)} scores are {entries[0].score}: AP ranks by score and means little"
        )
    most = PER_IMAGE[kind]
    if crowded := [number for number in per_image.values() if number > most]:
        lines.append(
            f"images with more than {most} {plural}: {len(crowded)}; COCO ignores the "
            f"{sum(crowded) - most * len(crowded)} with the lowest scores there"
        )
    poses = Counter((one.image_id, one.keypoints) for one in entries if kind == "pose")
    if repeated := sum(poses.values()) - len(poses):
        lines.append(
            f"poses that are in the results again: {repeated} of {len(entries)}; COCO counts each "
            "as wrong"
        )
    with_box = sum(result.bbox is not None for result in given)
    if kind == "pose" and with_box:
        lines.append(
            f"poses with a bbox: {with_box}; it was ignored, since pycocotools would take a "
            "pose's area from it instead of from the keypoints and AP M and AP L would differ"
        )
    if areas_are_estimates(people):
        lines.append(
            "the annotations only estimate people's areas: the numbers by size of person are not "
            "available"
        )
    return lines


def areas_are_estimates(people: People) -> bool:
    """Whether the areas of the people that count, or of some of them, are unknown."""
    return bool(people.area_is_estimate.any())
