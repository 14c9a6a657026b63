"""The numbers of COCO's evaluation, of poses and of boxes.

They equal `pycocotools.cocoeval.COCOeval.stats` to the last digit (tested); only an annotation id
of 0 is right here, which pycocotools takes for "not matched".
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from posepipe.io.result_list import ResultEntry
from posepipe.scoring.comparison import (
    PoseComparison,
    as_array,
    image_numbers,
    scores_of,
)
from posepipe.scoring.matching import (
    BoolArray,
    FloatArray,
    Found,
    IntArray,
    Labelled,
    Matches,
    Similarity,
    match,
)
from posepipe.scoring.precision import PrecisionRecall, precision_recall
from posepipe.scoring.results import GroundTruth

Stats = tuple[float | None, ...]

THRESHOLDS: FloatArray = np.linspace(0.5, 0.95, 10)
_ANY = (0.0, 1e10)
_SMALL, _MEDIUM, _LARGE = (0.0, 32.0**2), (32.0**2, 96.0**2), (96.0**2, 1e10)
POSES_PER_IMAGE = 20
POSE_NUMBERS = ("AP", "AP.5", "AP.75", "AP M", "AP L", "AR", "AR.5", "AR.75", "AR M", "AR L")
BOXES_PER_IMAGE = 100


def size_of(area: float) -> str:
    """COCO's name for the size of a person of some square pixels.

    >>> [size_of(area) for area in (1000, 9216, 9217)]
    ['small', 'medium', 'large']
    """
    return "small" if area < _MEDIUM[0] else "medium" if area <= _MEDIUM[1] else "large"


def pose_matches(comparison: PoseComparison) -> Matches:
    """Poses matched with people of any, medium and large size, at COCO's thresholds."""
    return match(
        comparison.found,
        comparison.labelled,
        comparison.oks,
        thresholds=THRESHOLDS,
        area_ranges=(_ANY, _MEDIUM, _LARGE),
        most=POSES_PER_IMAGE,
    )


def stats_of(curves: PrecisionRecall) -> Stats:
    """COCO's ten numbers of poses, from the curves of `pose_matches`."""
    return _numbers(curves.precision) + _numbers(curves.recall)


def keypoint_aps(comparison: PoseComparison) -> Stats:
    """The AP of each keypoint: COCO's AP as if people and poses had this keypoint alone."""
    return tuple(
        _average_precision(comparison.found, *comparison.one_keypoint(keypoint))
        for keypoint in range(len(comparison.skeleton))
    )


def average_precision(comparison: PoseComparison) -> float | None:
    """COCO's AP of poses alone: mean over OKS 0.5 … 0.95; None if no labelled person counts."""
    return _average_precision(comparison.found, comparison.labelled, comparison.oks)


def _average_precision(found: Found, labelled: Labelled, similarity: Similarity) -> float | None:
    matches = match(
        found,
        labelled,
        similarity,
        thresholds=THRESHOLDS,
        area_ranges=(_ANY,),
        most=POSES_PER_IMAGE,
    )
    return _mean(precision_recall(matches, found).precision[0])


def box_stats(matches: Matches, found: Found) -> Stats:
    """The numbers of `COCOeval.stats` for boxes that look at 100 boxes per image: 6 AP, 4 AR."""
    curves = precision_recall(matches, found)
    return _numbers(curves.precision) + tuple(_mean(of_size) for of_size in curves.recall)


def box_matches(results: Sequence[ResultEntry], truth: GroundTruth) -> tuple[Matches, Found]:
    """Boxes, and how they match people of any, small, medium and large size."""
    number = truth.image_numbers
    boxes = as_array([result.bbox for result in results], (-1, 4))
    people = truth.people
    labels, crowd = people.boxes_xywh, people.is_crowd

    def similarity(found: IntArray, labelled: IntArray) -> FloatArray:
        return _coco_iou(boxes[found], labels[labelled], crowd[labelled])

    found = Found(image_numbers(results, number), scores_of(results), boxes[:, 2] * boxes[:, 3])
    matches = match(
        found,
        Labelled(image_numbers(people.entries, number), people.areas, crowd, crowd),
        similarity,
        thresholds=THRESHOLDS,
        area_ranges=(_ANY, _SMALL, _MEDIUM, _LARGE),
        most=BOXES_PER_IMAGE,
    )
    return matches, found


def _numbers(curves: FloatArray) -> Stats:
    """Of (A, T, …): the mean over all thresholds, at 0.5, at 0.75, then the mean of each size."""
    everyone = curves[0]
    at_50, at_75 = everyone[0], everyone[5]
    return tuple(map(_mean, [everyone, at_50, at_75, *curves[1:]]))


def _mean(values: FloatArray) -> float | None:
    return None if np.isnan(values).any() else float(np.mean(values.reshape(-1)))


def _coco_iou(boxes_xywh: FloatArray, labels_xywh: FloatArray, crowd: BoolArray) -> FloatArray:
    """(P,) IoU of pairs; with a crowd, the share of the found box that lies in it.

    The order of the operations is pycocotools' own: another one changes the last digit.
    """
    far, near = np.minimum, np.maximum
    sides = far(
        boxes_xywh[:, 2:] + boxes_xywh[:, :2], labels_xywh[:, 2:] + labels_xywh[:, :2]
    ) - near(boxes_xywh[:, :2], labels_xywh[:, :2])
    shared = np.where((sides > 0).all(axis=1), sides[:, 0] * sides[:, 1], 0.0)
    own = boxes_xywh[:, 2] * boxes_xywh[:, 3]
    union = np.where(crowd, own, own + labels_xywh[:, 2] * labels_xywh[:, 3] - shared)
    return np.divide(shared, union, out=np.zeros_like(shared), where=shared > 0)
