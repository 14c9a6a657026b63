"""Object keypoint similarity (OKS), COCO's measure of how alike two poses are, and NMS by it.

OKS is 1 for equal poses and falls towards 0 as keypoints move apart: the mean over keypoints of
exp(-d² / (2 · area · (2 · sigma)²)), where d is the distance in pixels, area the person's in
square pixels, and sigma how far apart annotators set that keypoint (COCO's keypoint evaluation).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from posepipe.core.boxes import area
from posepipe.core.poses import PoseLabels, Poses
from posepipe.core.shapes import checked
from posepipe.core.skeleton import COCO_PERSON

FloatArray = npt.NDArray[np.float64]


def oks(
    keypoints_xy: npt.ArrayLike,
    labels: PoseLabels,
    *,
    sigmas: Sequence[float] = COCO_PERSON.sigmas,
) -> FloatArray:
    """(N, M) OKS of N poses with the M labelled people of an image, as pycocotools computes it.

    Only labelled keypoints count (visibility 1 or 2). A person without any is compared by the
    distance of all keypoints to the person's box, made three times as wide and high about its
    centre: COCO uses that to forgive poses on people whose keypoints nobody labelled.

    Args:
        keypoints_xy: (N, K, 2) pixels, or (N, K, 3) with a confidence, which is ignored.
        labels: M people; their `areas` are the scale.
        sigmas: K tolerances.

    Returns:
        (N, M) float64 in [0, 1], equal to `COCOeval.computeOks` to the last digit (for a person
        without labels as far as corners and COCO's width and height agree); N or M may be 0.

    Raises:
        ValueError: the poses, the labels and the sigmas differ in K.
    """
    poses_xy = _points(keypoints_xy, len(sigmas))
    labels_xy = checked("labels.keypoints_xy", labels.keypoints_xy, ("M", len(sigmas), 2), float)
    pose, person = np.indices((len(poses_xy), len(labels_xy))).reshape(2, -1)
    similarity = oks_of_pairs(
        poses_xy[pose],
        labels_xy[person],
        labels.visibility[person] > 0,
        labels.boxes_xyxy[person],
        labels.areas[person],
        sigmas=sigmas,
    )
    return similarity.reshape(len(poses_xy), len(labels_xy))


def oks_of_pairs(
    poses_xy: FloatArray,
    labels_xy: FloatArray,
    labelled: npt.NDArray[np.bool_],
    boxes_xyxy: FloatArray,
    areas: FloatArray,
    *,
    sigmas: Sequence[float],
) -> FloatArray:
    """(P,) `oks` of P pairs of a pose and a labelled person.

    Args:
        poses_xy: (P, K, 2) pixels.
        labels_xy: (P, K, 2) pixels.
        labelled: (P, K) whether the person's keypoint is labelled.
        boxes_xyxy: (P, 4) the persons' boxes in pixels.
        areas: (P,) square pixels.
        sigmas: K tolerances.
    """
    similar = similarity_of_keypoints(
        poses_xy, labels_xy, labelled, boxes_xyxy, areas, sigmas=sigmas
    )
    nothing = ~labelled.any(axis=1, keepdims=True)
    counted = labelled | nothing
    number = np.count_nonzero(counted, axis=1)
    similarity = np.zeros(len(poses_xy))
    for count in np.unique(number):
        # Summing the labelled keypoints alone, side by side in memory, adds them in the order of
        # pycocotools; zeros for the others would change the last digit.
        those = number == count
        similarity[those] = similar[those][counted[those]].reshape(-1, count).sum(axis=1) / count
    return similarity


def similarity_of_keypoints(
    poses_xy: FloatArray,
    labels_xy: FloatArray,
    labelled: npt.NDArray[np.bool_],
    boxes_xyxy: FloatArray,
    areas: FloatArray,
    *,
    sigmas: Sequence[float],
) -> FloatArray:
    """(P, K) how near the keypoints of P pairs are to each other: the terms of which OKS is a mean.

    For a person without any labelled keypoint, how near each keypoint is to the tripled box. Where
    a keypoint alone is not labelled, the number means nothing. Arguments as in `oks_of_pairs`.
    """
    offset = poses_xy - labels_xy
    nothing = ~labelled.any(axis=1)
    if nothing.any():
        offset[nothing] = _offset_from_tripled_box(poses_xy[nothing], boxes_xyxy[nothing])
    similar: FloatArray = np.exp(-_exponent(offset, areas[:, None], sigmas))
    return similar


def oks_among(poses: Poses) -> FloatArray:
    """(N, N) OKS of the poses of one image with each other; 1 on the diagonal.

    All K keypoints count. The scale of a pair is the mean area of the two boxes in which the poses
    were looked for: it makes the measure symmetric, and unlike the extent of the keypoints it does
    not shrink to nothing when a network puts all of them onto one spot. A box is about twice as
    large as the outline that `oks` uses, so values here are higher than between pose and label.
    """
    sigmas = poses.skeleton.sigmas
    poses_xy = _points(poses.keypoints, len(sigmas))
    areas = area(poses.boxes_xyxy).astype(np.float64)
    offset = poses_xy[:, None] - poses_xy[None]  # (N, N, K, 2)
    pair_areas = (areas[:, None] + areas[None]) / 2
    similarity: FloatArray = np.exp(-_exponent(offset, pair_areas[..., None], sigmas)).mean(axis=2)
    return similarity


def oks_nms(poses: Poses, *, threshold: float) -> npt.NDArray[np.intp]:
    """Which poses are kept when the weaker of two similar ones is dropped: greedy hard NMS by OKS.

    From the best pose score downwards, each pose that is still there removes all others whose OKS
    with it is greater than the threshold (see `oks_among`).

    Args:
        poses: of one image.
        threshold: OKS in [0, 1]; at 1 all are kept.

    Returns:
        (kept,) indices, the best score first; of equal scores the earlier one wins.

    Raises:
        ValueError: a threshold outside [0, 1].
    """
    if not 0 <= threshold <= 1:
        raise ValueError(f"threshold must lie in [0, 1], got {threshold}")
    if not len(poses):
        return np.zeros(0, np.intp)
    too_similar = oks_among(poses) > threshold
    alive = np.ones(len(poses), bool)
    kept = []
    for index in np.argsort(-poses.scores, kind="stable"):
        if alive[index]:
            kept.append(index)
            alive &= ~too_similar[index]
    return np.array(kept, np.intp)


def without_duplicates(poses: Poses, *, threshold: float) -> Poses:
    """The poses that `oks_nms` keeps, in the order in which they were given.

    Raises:
        ValueError: a threshold outside [0, 1].
    """
    kept = np.sort(oks_nms(poses, threshold=threshold))
    return poses.of(kept)


def _exponent(offset: FloatArray, areas: FloatArray, sigmas: Sequence[float]) -> FloatArray:
    """(..., K) of OKS's exp(-exponent): offset (..., K, 2) px, areas (..., 1) px².

    The order of the operations and the smallest float above 1, less 1, are pycocotools' own.
    """
    variances = (np.asarray(sigmas) * 2) ** 2
    squared = offset[..., 0] ** 2 + offset[..., 1] ** 2
    exponent: FloatArray = squared / variances / (areas + np.spacing(1)) / 2
    return exponent


def _offset_from_tripled_box(poses_xy: FloatArray, boxes_xyxy: FloatArray) -> FloatArray:
    """(P, K, 2) how far keypoints (P, K, 2) lie outside of their box (P, 4), tripled; 0 inside."""
    size = boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]
    low = (boxes_xyxy[:, :2] - size)[:, None]
    high = (boxes_xyxy[:, :2] + size * 2)[:, None]
    outside: FloatArray = np.maximum(0, low - poses_xy) + np.maximum(0, poses_xy - high)
    return outside


def _points(keypoints: npt.ArrayLike, count: int) -> FloatArray:
    """(N, K, 2) of (N, K, 2) or (N, K, 3)."""
    array = np.asarray(keypoints, dtype=np.float64)
    if array.size == 0 and len(array) == 0:
        return np.zeros((0, count, 2))
    if array.ndim == 3 and array.shape[2] == 3:
        array = array[..., :2]
    return checked("keypoints_xy", array, ("N", count, 2), np.float64)
