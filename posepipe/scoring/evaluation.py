"""COCO evaluation of poses and of person boxes.

The numbers equal pycocotools', to the last digit. Around them are the checks that it lacks: what
cannot be right is refused, what may mislead is a line in the card's `warnings`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from posepipe.core.boxes import Detections
from posepipe.core.poses import Poses
from posepipe.core.skeleton import COCO_PERSON, Skeleton
from posepipe.io.checking import usable_boxes, usable_poses
from posepipe.io.coco import Annotations
from posepipe.io.people import People
from posepipe.io.result_list import ResultFile
from posepipe.scoring.checks import (
    areas_are_estimates,
    check_in_pixels,
    check_pose_labels,
    counted_results,
    skeleton_of,
    warnings_about,
)
from posepipe.scoring.coco import (
    Stats,
    box_matches,
    box_stats,
    keypoint_aps,
    pose_matches,
    stats_of,
)
from posepipe.scoring.comparison import PoseComparison
from posepipe.scoring.precision import precision_recall
from posepipe.scoring.reliability import score_bands
from posepipe.scoring.results import given_boxes, given_poses, ground_truth
from posepipe.scoring.scorecard import BoxScoreCard, KeypointScore, ScoreCard


def evaluate(
    results: str | Path | ResultFile | Iterable[Poses],
    annotations: str | Path | Annotations,
    *,
    split: str = "",
    image_ids: Collection[int] | None = None,
    per_keypoint: bool = True,
    by_score: bool = False,
    skeleton: Skeleton | None = None,
) -> ScoreCard:
    """COCO's keypoint metrics of a kps.json, or of poses in memory.

    The AP of a single keypoint is COCO's AP as if people and poses had only this keypoint, with the
    scores of the whole poses: OKS is that of the keypoint, and people without a label for it are
    ignored, as are poses near them.

    Args:
        results: a plain COCO keypoint result list (x, y, confidence of each keypoint), or poses.
        annotations: a COCO annotation file with keypoints of the skeleton's category, or what was
            read from it.
        split: the name of the data set on the card.
        image_ids: evaluate only these images; None: all images of the annotation file.
        per_keypoint: also compute the AP of each keypoint.
        by_score: also count how many poses are right in each band of scores.
        skeleton: the keypoints and their sigmas; None: what the results say, otherwise COCO's
            person.

    Returns:
        The metrics; without poses they are 0, with a warning.

    Raises:
        DocumentError: a file is missing or has the wrong shape.
        EvaluationError: results and annotations do not fit together, or the results are not poses
            in pixels.
    """
    compared = compare(results, annotations, image_ids=image_ids, skeleton=skeleton)
    return score(compared, split=split, per_keypoint=per_keypoint, by_score=by_score)


@dataclass(frozen=True, eq=False)
class Compared:
    """Poses and labels, checked and ready to be scored or explained.

    Attributes:
        comparison: of the poses and people on the images that count, which are numbered in the
            order of their ids.
        file_names: of these images, by number.
        people: those who count: with labelled keypoints, and no crowd.
        warnings: what may mislead in their numbers, one line each.
    """

    comparison: PoseComparison
    file_names: tuple[str, ...]
    people: People
    warnings: tuple[str, ...]


def compare(
    results: str | Path | ResultFile | Iterable[Poses],
    annotations: str | Path | Annotations,
    *,
    image_ids: Collection[int] | None = None,
    skeleton: Skeleton | None = None,
) -> Compared:
    """Poses and labels, as `evaluate` scores them; its arguments and errors."""
    given = given_poses(results)
    skeleton = skeleton_of(given.entries, skeleton)
    given = usable_poses(given, skeleton)
    check_in_pixels(given.entries, skeleton)
    truth = ground_truth(annotations, image_ids, skeleton=skeleton)
    check_pose_labels(truth, skeleton)
    counted = counted_results(given, truth, "pose")
    labelled = (truth.people.visibility > 0).any(axis=1)
    people = truth.people.chosen(labelled & ~truth.people.is_crowd)
    names = {image.id: image.file_name for image in truth.annotations.images}
    return Compared(
        comparison=PoseComparison.of(counted.entries, truth, skeleton),
        file_names=tuple(names[image_id] for image_id in sorted(truth.image_ids)),
        people=people,
        warnings=tuple(warnings_about(given.entries, counted, truth, people, "pose")),
    )


def score(
    compared: Compared, *, split: str = "", per_keypoint: bool = True, by_score: bool = False
) -> ScoreCard:
    """The COCO keypoint numbers of what was compared; see `evaluate`."""
    matches, found = pose_matches(compared.comparison), compared.comparison.found
    stats = stats_of(precision_recall(matches, found))
    if areas_are_estimates(compared.people):
        stats = _without(stats, by_size=(3, 4, 8, 9))
    ap, ap50, ap75, ap_medium, ap_large, ar, ar50, ar75, ar_medium, ar_large = stats
    return ScoreCard(
        ap=ap,
        ap50=ap50,
        ap75=ap75,
        ap_medium=ap_medium,
        ap_large=ap_large,
        ar=ar,
        ar50=ar50,
        ar75=ar75,
        ar_medium=ar_medium,
        ar_large=ar_large,
        split=split,
        images=len(compared.file_names),
        people=len(compared.people),
        poses=len(compared.comparison.found.scores),
        per_keypoint=_keypoint_scores(compared.comparison) if per_keypoint else (),
        by_score=score_bands(matches, found) if by_score else (),
        warnings=compared.warnings,
    )


def evaluate_boxes(
    results: str | Path | ResultFile | Iterable[Detections],
    annotations: str | Path | Annotations,
    *,
    split: str = "",
    image_ids: Collection[int] | None = None,
    by_score: bool = False,
    skeleton: Skeleton = COCO_PERSON,
) -> BoxScoreCard:
    """The COCO detection numbers, of people alone, of a boxes.json or detections in memory.

    Args:
        results: a boxes.json, a plain COCO detection list (other categories are left out, with a
            warning), or detections.
        annotations: a COCO annotation file with the category person, or what was read of it.
        split: how the card names the images.
        image_ids: evaluate on these images alone; None takes all of the annotation file.
        by_score: also say how many are right of those with a score.
        skeleton: its category is what counts as people.

    Returns:
        The card; without any box, numbers are 0 and a warning says so.

    Raises:
        DocumentError: a file is missing or has the wrong shape.
        EvaluationError: results and annotations do not fit together.
    """
    truth = ground_truth(annotations, image_ids, skeleton=skeleton)
    given = usable_boxes(given_boxes(results))
    counted = counted_results(given, truth, "box")
    people = truth.people.chosen(~truth.people.is_crowd)
    matches, found = box_matches(counted.entries, truth)
    stats = box_stats(matches, found)
    if areas_are_estimates(people):
        stats = _without(stats, by_size=(3, 4, 5, 7, 8, 9))
    ap, ap50, ap75, ap_small, ap_medium, ap_large, ar, ar_small, ar_medium, ar_large = stats
    return BoxScoreCard(
        ap=ap,
        ap50=ap50,
        ap75=ap75,
        ap_small=ap_small,
        ap_medium=ap_medium,
        ap_large=ap_large,
        ar=ar,
        ar_small=ar_small,
        ar_medium=ar_medium,
        ar_large=ar_large,
        split=split,
        images=len(truth.image_ids),
        people=len(people),
        boxes=len(counted.entries),
        by_score=score_bands(matches, found) if by_score else (),
        warnings=tuple(warnings_about(given.entries, counted, truth, people, "box")),
    )


def _keypoint_scores(comparison: PoseComparison) -> tuple[KeypointScore, ...]:
    return tuple(
        KeypointScore(name, ap)
        for name, ap in zip(comparison.skeleton.keypoints, keypoint_aps(comparison), strict=True)
    )


def _without(stats: Stats, *, by_size: Collection[int]) -> Stats:
    """The numbers, with those by size of person taken out."""
    return tuple(None if index in by_size else value for index, value in enumerate(stats))
