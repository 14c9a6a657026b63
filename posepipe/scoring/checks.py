"""What an evaluation refuses, and what it warns of: results that would give misleading numbers."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Literal

from posepipe.core.skeleton import COCO_PERSON, Skeleton
from posepipe.errors import EvaluationError
from posepipe.scoring.results import GroundTruth, Label, Result

Kind = Literal["pose", "box"]
PER_IMAGE: dict[Kind, int] = {"pose": 20, "box": 100}  # COCO's evaluation looks at no more


def check_image_ids(results: Sequence[Result], truth: GroundTruth) -> list[Result]:
    """The results on pictures that count, without those on other pictures of the file.

    Raises:
        EvaluationError: results on pictures that the annotation file does not have.
    """
    seen = {result.image_id for result in results}
    unknown = sorted(seen - truth.image_ids - truth.other_image_ids)
    if unknown:
        known = len(seen) - len(unknown)
        share = f"only {known} are" if known else "none is"
        raise EvaluationError(
            f"of the results' {len(seen)} image ids {share} known to {truth.path}, which lacks for "
            f"example {unknown[0]}: the two belong to different image sets"
        )
    return [result for result in results if result.image_id in truth.image_ids]


def skeleton_of(results: Sequence[Result], wanted: Skeleton | None) -> Skeleton:
    """What the keypoints of results are: what was asked for, else what they say, else COCO's.

    Raises:
        EvaluationError: they have several skeletons, or other keypoints than was asked for.
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


def check_pose_results(results: Sequence[Result], skeleton: Skeleton) -> None:
    """Nothing, if every entry is a pose in pixels with a score.

    Raises:
        EvaluationError: keypoints are missing, of another number, or normalised; no score; or a
            number that is not finite.
    """
    numbers = 3 * len(skeleton)
    for index, result in enumerate(results):
        where = f"result {index} (image {result.image_id})"
        if result.keypoints is None:
            boxes = " but a bbox: evaluate boxes with evaluate_boxes" if result.bbox else ""
            raise EvaluationError(f"{where} has no keypoints{boxes}")
        if len(result.keypoints) != numbers:
            raise EvaluationError(
                f"{where} has {len(result.keypoints)} numbers as keypoints, a {skeleton.name} has "
                f"{numbers}: x, y, confidence for each of the {len(skeleton)}; name the model of "
                "another skeleton (--model)"
            )
        _check_finite(where, result.keypoints)
        _check_score(result, where)
    largest = max(
        (
            abs(value)
            for result in results
            for axis in (0, 1)
            for value in (result.keypoints or ())[axis::3]
        ),
        default=None,
    )
    if largest is not None and largest <= 1.5:
        raise EvaluationError(
            f"all keypoints lie in 0…1 (largest coordinate {largest:.4g}): they are normalised; "
            "multiply x by the image's width and y by its height"
        )


def check_box_results(results: Sequence[Result]) -> None:
    """Nothing, if every entry is a box with a score.

    Raises:
        EvaluationError: no bbox, a negative width or height, no score, or a number that is not
            finite.
    """
    for index, result in enumerate(results):
        where = f"result {index} (image {result.image_id})"
        if result.bbox is None:
            raise EvaluationError(f"{where} has no bbox: box evaluation needs one in every entry")
        if min(result.bbox[2:]) < 0:
            raise EvaluationError(
                f"{where} has a bbox of negative width or height, {list(result.bbox)}: "
                "left, top, width, height are needed"
            )
        _check_finite(where, result.bbox)
        _check_score(result, where)


def check_pose_labels(truth: GroundTruth, skeleton: Skeleton) -> None:
    """Nothing, if OKS can be computed with every person that counts.

    Raises:
        EvaluationError: no keypoints at all, another number of them, or no area.
    """
    numbers = 3 * len(skeleton)
    if truth.people and not any(label.keypoints for label in truth.people):
        raise EvaluationError(
            f"{truth.path} labels people but no keypoints: COCO's are in person_keypoints_*.json, "
            "not in instances_*.json"
        )
    for label in truth.people:
        if label.keypoints and len(label.keypoints) != numbers:
            raise EvaluationError(
                f"{truth.path}: annotation {label.id} has {len(label.keypoints)} numbers as "
                f"keypoints: {numbers} are needed"
            )
        if label.labelled_keypoints and label.area is None:
            raise EvaluationError(
                f"{truth.path}: annotation {label.id} has keypoints but no area, which OKS needs "
                "as its scale"
            )


def warnings_about(
    given: Sequence[Result],
    counted: Sequence[Result],
    truth: GroundTruth,
    people: Sequence[Label],
    kind: Kind,
) -> list[str]:
    """What may mislead in the numbers, one line each.

    Args:
        given: all results.
        counted: those that the numbers are of.
        truth: what they are compared with.
        people: the labelled people that count.
        kind: what the results are.
    """
    plural = {"pose": "poses", "box": "boxes"}[kind]
    lines = []
    if not people:
        lines.append("the annotations have no people that count: there are no numbers")
    if not given:
        lines.append(f"the results hold no {plural}: every number is 0")
    if elsewhere := sum(result.image_id not in truth.image_ids for result in given):
        lines.append(f"left out: {elsewhere} {plural} on images outside of this split")
    if others := len(given) - elsewhere - len(counted):
        lines.append(f"left out: {others} {plural} of other categories than person")
    per_image = Counter(result.image_id for result in counted)
    empty = truth.image_ids - per_image.keys()
    missed = empty & {label.image_id for label in people}
    if given and missed:
        lines.append(
            f"images without any {kind}: {len(empty)} of {len(truth.image_ids)}, {len(missed)} of "
            "them with labelled people, who count as missed"
        )
    if len(counted) > 1 and len({result.score for result in counted}) == 1:
        lines.append(
            f"all {len(counted)} scores are {counted[0].score}: AP ranks by score and means little"
        )
    most = PER_IMAGE[kind]
    if crowded := [number for number in per_image.values() if number > most]:
        lines.append(
            f"images with more than {most} {plural}: {len(crowded)}; COCO ignores the "
            f"{sum(crowded) - most * len(crowded)} with the lowest scores there"
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


def areas_are_estimates(people: Sequence[Label]) -> bool:
    """Whether the areas of the people that count, or of some of them, are not known."""
    return any(label.area_is_estimate or label.area is None for label in people)


def _check_score(result: Result, where: str) -> None:
    if result.score is None:
        raise EvaluationError(f"{where} has no score: results are ranked by it")
    _check_finite(where, [result.score])


def _check_finite(where: str, numbers: Sequence[float]) -> None:
    if not all(map(math.isfinite, numbers)):
        raise EvaluationError(f"{where} has a number that is not finite (NaN or infinity)")
