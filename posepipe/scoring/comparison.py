"""Found and labelled poses of all images as arrays, ready to be matched and scored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from posepipe.core.boxes import xywh_to_xyxy
from posepipe.core.poses import PoseLabels, Poses
from posepipe.core.skeleton import Skeleton
from posepipe.io.result_list import ResultEntry
from posepipe.io.schema import AnnotationEntry
from posepipe.scoring.matching import (
    BoolArray,
    FloatArray,
    Found,
    IntArray,
    Labelled,
    Similarity,
)
from posepipe.scoring.oks import oks_of_pairs, similarity_of_keypoints
from posepipe.scoring.results import GroundTruth


@dataclass(frozen=True, eq=False)
class PoseComparison:
    """N poses and M labelled people to compare them with.

    Attributes:
        skeleton: of both; K keypoints.
        found: the poses' images, scores and areas; an area is that of the keypoints' extent.
        keypoints_xy: (N, K, 2) pixels.
        labelled: the people's images, areas and which of them count.
        labels_xy: (M, K, 2) pixels.
        visible: (M, K) whether a keypoint is labelled.
        boxes_xyxy: (M, 4) pixels.
    """

    skeleton: Skeleton
    found: Found
    keypoints_xy: FloatArray
    labelled: Labelled
    labels_xy: FloatArray
    visible: BoolArray
    boxes_xyxy: FloatArray

    @classmethod
    def of(
        cls, results: Sequence[ResultEntry], truth: GroundTruth, skeleton: Skeleton
    ) -> PoseComparison:
        """The comparison of a result list with an annotation file's people."""
        count = len(skeleton)
        number, people = truth.image_numbers, truth.people
        points = as_array([result.keypoints for result in results], (-1, count, 3))
        extent = points[..., :2].max(axis=1) - points[..., :2].min(axis=1)
        visible, crowd = people.keypoints[..., 2] > 0, people.is_crowd
        return cls(
            skeleton=skeleton,
            found=Found(
                image_numbers(results, number), scores_of(results), extent[:, 0] * extent[:, 1]
            ),
            keypoints_xy=points[..., :2],
            labelled=Labelled(
                image_numbers(people.entries, number),
                people.areas,
                crowd | ~visible.any(axis=1),
                crowd,
            ),
            labels_xy=people.keypoints[..., :2],
            visible=visible,
            boxes_xyxy=xywh_to_xyxy(people.boxes_xywh).astype(np.float64, copy=False),
        )

    @classmethod
    def of_images(
        cls, poses: Sequence[Poses], labels: Sequence[PoseLabels], *, skeleton: Skeleton
    ) -> PoseComparison:
        """The comparison of the poses of images with the labels of the same images."""
        count = len(skeleton)
        points = _joined([of.keypoints for of in poses], (0, count, 3))
        extent = np.ptp(points[..., :2], axis=1)
        visible = _joined([of.visibility for of in labels], (0, count)) > 0
        crowd = _joined([of.is_crowd for of in labels], (0,)).astype(bool)
        return cls(
            skeleton=skeleton,
            found=Found(
                np.repeat(np.arange(len(poses)), [len(of) for of in poses]),
                _joined([of.scores for of in poses], (0,)),
                extent[:, 0] * extent[:, 1],
            ),
            keypoints_xy=points[..., :2],
            labelled=Labelled(
                np.repeat(np.arange(len(labels)), [len(of) for of in labels]),
                _joined([of.areas for of in labels], (0,)),
                crowd | ~visible.any(axis=1),
                crowd,
            ),
            labels_xy=_joined([of.keypoints_xy for of in labels], (0, count, 2)),
            visible=visible,
            boxes_xyxy=_joined([of.boxes_xyxy for of in labels], (0, 4)),
        )

    def oks(self, found: IntArray, labels: IntArray) -> FloatArray:
        """(P,) OKS of P pairs of a pose and a person, by index."""
        return oks_of_pairs(
            self.keypoints_xy[found],
            self.labels_xy[labels],
            self.visible[labels],
            self.boxes_xyxy[labels],
            self.labelled.areas[labels],
            sigmas=self.skeleton.sigmas,
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
                sigmas=self.skeleton.sigmas[one],
            )[:, 0]

        whole = self.labelled
        return Labelled(whole.images, whole.areas, whole.ignored | ~seen, whole.crowd), similarity


def image_numbers(
    entries: Sequence[ResultEntry] | Sequence[AnnotationEntry], number: Mapping[int | str, int]
) -> IntArray:
    """(n,) the number of each entry's image."""
    return np.array([number[entry.image_id] for entry in entries], np.intp)


def scores_of(results: Sequence[ResultEntry]) -> FloatArray:
    """(N,) scores."""
    return np.array([result.score for result in results], np.float64)


def _joined(arrays: Sequence[npt.NDArray[Any]], nothing: tuple[int, ...]) -> npt.NDArray[Any]:
    """Arrays one after another; none give an empty one."""
    return np.concatenate([np.zeros(nothing), *arrays]) if arrays else np.zeros(nothing)


def as_array(rows: Sequence[object], shape: tuple[int, ...]) -> FloatArray:
    """Rows of numbers as float64; no rows are an empty array of that shape."""
    return np.array(rows, np.float64).reshape([0 if n == -1 and not rows else n for n in shape])
