"""The numbers of COCO's evaluation, of poses and of boxes.

They equal `pycocotools.cocoeval.COCOeval.stats` to the last digit (tested); only an annotation id
of 0 is right here, which pycocotools takes for "not matched".
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from posepipe.core.boxes import xywh_to_xyxy
from posepipe.core.skeleton import COCO_PERSON
from posepipe.scoring.matching import (
    BoolArray,
    FloatArray,
    Found,
    IntArray,
    Labelled,
    Similarity,
    match,
)
from posepipe.scoring.oks import oks_of_pairs, similarity_of_keypoints
from posepipe.scoring.precision import precision_recall
from posepipe.scoring.results import GroundTruth, Label, Result

Stats = tuple[float | None, ...]

THRESHOLDS: FloatArray = np.linspace(0.5, 0.95, 10)
_ANY = (0.0, 1e10)
_SMALL, _MEDIUM, _LARGE = (0.0, 32.0**2), (32.0**2, 96.0**2), (96.0**2, 1e10)
POSES_PER_PICTURE = 20
BOXES_PER_PICTURE = 100


class PoseProblem:
    """Poses and labelled people of all pictures as arrays, ready to be matched.

    Attributes:
        found: N poses; `keypoints_xy` (N, K, 2) are theirs.
        labelled: M people; `labels_xy` (M, K, 2), `visible` (M, K), `boxes_xyxy` (M, 4).
    """

    def __init__(self, results: Sequence[Result], truth: GroundTruth) -> None:
        self.sigmas = COCO_PERSON.sigmas
        count = len(self.sigmas)
        number = {image_id: index for index, image_id in enumerate(sorted(truth.image_ids))}
        points = _array([result.keypoints for result in results], (-1, count, 3))
        self.keypoints_xy = points[..., :2]
        extent = points[..., :2].max(axis=1) - points[..., :2].min(axis=1)
        self.found = Found(
            _pictures(results, number), _scores(results), extent[:, 0] * extent[:, 1]
        )
        nothing = (0.0,) * (3 * count)
        labels = _array([label.keypoints or nothing for label in truth.people], (-1, count, 3))
        self.labels_xy, self.visible = labels[..., :2], labels[..., 2] > 0
        boxes_xywh = _array([label.bbox for label in truth.people], (-1, 4))
        self.boxes_xyxy = xywh_to_xyxy(boxes_xywh).astype(np.float64, copy=False)
        crowd = np.array([bool(label.iscrowd) for label in truth.people], bool)
        counted = np.array([label.labelled_keypoints > 0 for label in truth.people], bool)
        areas = _areas(truth, boxes_xywh)
        self.labelled = Labelled(_pictures(truth.people, number), areas, crowd | ~counted, crowd)

    def oks(self, found: IntArray, labels: IntArray) -> FloatArray:
        """(P,) OKS of P pairs."""
        return oks_of_pairs(
            self.keypoints_xy[found],
            self.labels_xy[labels],
            self.visible[labels],
            self.boxes_xyxy[labels],
            self.labelled.areas[labels],
            sigmas=self.sigmas,
        )

    def one_keypoint(self, keypoint: int) -> tuple[Labelled, Similarity]:
        """The labels, and their similarity with poses, as if people had one keypoint alone."""
        one = slice(keypoint, keypoint + 1)
        poses_xy = np.ascontiguousarray(self.keypoints_xy[:, one])
        labels_xy = np.ascontiguousarray(self.labels_xy[:, one])
        seen = self.visible[:, keypoint]

        def similarity(found: IntArray, labels: IntArray) -> FloatArray:
            return similarity_of_keypoints(
                poses_xy[found],
                labels_xy[labels],
                seen[labels][:, None],
                self.boxes_xyxy[labels],
                self.labelled.areas[labels],
                sigmas=self.sigmas[one],
            )[:, 0]

        whole = self.labelled
        return Labelled(whole.pictures, whole.areas, whole.ignored | ~seen, whole.crowd), similarity


def pose_stats(problem: PoseProblem) -> Stats:
    """`COCOeval.stats` of poses, 10 numbers; None for its -1, "no such people"."""
    precision, recall = _curves(
        problem.found,
        problem.labelled,
        problem.oks,
        area_ranges=(_ANY, _MEDIUM, _LARGE),
        most=POSES_PER_PICTURE,
    )
    return _numbers(precision) + _numbers(recall)


def keypoint_aps(problem: PoseProblem) -> Stats:
    """The AP of each keypoint: COCO's AP as if people and poses had this keypoint alone."""
    aps = []
    for keypoint in range(len(problem.sigmas)):
        labelled, similarity = problem.one_keypoint(keypoint)
        precision, _ = _curves(
            problem.found, labelled, similarity, area_ranges=(_ANY,), most=POSES_PER_PICTURE
        )
        aps.append(_mean(precision[0]))
    return tuple(aps)


def box_stats(results: Sequence[Result], truth: GroundTruth) -> Stats:
    """The numbers of `COCOeval.stats` for boxes that look at 100 boxes a picture: 6 AP, 4 AR."""
    number = {image_id: index for index, image_id in enumerate(sorted(truth.image_ids))}
    boxes = _array([result.bbox for result in results], (-1, 4))
    labels = _array([label.bbox for label in truth.people], (-1, 4))
    crowd = np.array([bool(label.iscrowd) for label in truth.people], bool)

    def similarity(found: IntArray, people: IntArray) -> FloatArray:
        return _coco_iou(boxes[found], labels[people], crowd[people])

    precision, recall = _curves(
        Found(_pictures(results, number), _scores(results), boxes[:, 2] * boxes[:, 3]),
        Labelled(_pictures(truth.people, number), _areas(truth, labels), crowd, crowd),
        similarity,
        area_ranges=(_ANY, _SMALL, _MEDIUM, _LARGE),
        most=BOXES_PER_PICTURE,
    )
    return _numbers(precision) + tuple(_mean(of_size) for of_size in recall)


def _curves(
    found: Found,
    labelled: Labelled,
    similarity: Similarity,
    *,
    area_ranges: Sequence[tuple[float, float]],
    most: int,
) -> tuple[FloatArray, FloatArray]:
    """Precision (A, T, 101) and recall (A, T)."""
    matches = match(
        found, labelled, similarity, thresholds=THRESHOLDS, area_ranges=area_ranges, most=most
    )
    curves = precision_recall(matches, found)
    return curves.precision, curves.recall


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


def _pictures(entries: Sequence[Result] | Sequence[Label], number: dict[int, int]) -> IntArray:
    return np.array([number[entry.image_id] for entry in entries], np.intp)


def _scores(results: Sequence[Result]) -> FloatArray:
    return np.array([result.score for result in results], np.float64)


def _areas(truth: GroundTruth, boxes_xywh: FloatArray) -> FloatArray:
    """(M,) the people's areas; an unknown one is the box's."""
    given = [np.nan if label.area is None else label.area for label in truth.people]
    areas = np.array(given, np.float64)
    return np.where(np.isnan(areas), boxes_xywh[:, 2] * boxes_xywh[:, 3], areas)


def _array(rows: Sequence[object], shape: tuple[int, ...]) -> FloatArray:
    return np.array(rows, np.float64).reshape(shape)
