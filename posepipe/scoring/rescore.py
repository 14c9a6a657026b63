"""Pose scores: how sure the pipeline is of a whole person, from box and keypoints."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from posepipe.core.poses import Poses
from posepipe.core.shapes import check_same_length, checked


def pose_scores(box_scores: npt.ArrayLike, confidences: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """(N,) box score times the mean confidence of all K keypoints (CPN, section 4.1).

    The mean is over every keypoint, also the unlikely ones: a person who is half out of the
    image ranks below one who is wholly in it.

    Args:
        box_scores: (N,) the detector's scores; N = 0 is legal.
        confidences: (N, K) of the keypoints, K >= 1 unless N = 0.

    Raises:
        ValueError: a wrong shape, lengths that differ, no keypoints, or a value that is not finite.

    >>> pose_scores([0.5, 1.0], [[1.0, 0.5], [0.25, 0.25]]).tolist()
    [0.375, 0.25]
    """
    boxes = checked("box_scores", box_scores, ("N",), np.float64)
    keypoints = checked("confidences", confidences, ("N", "K"), np.float64)
    check_same_length(box_scores=boxes, confidences=keypoints)
    if not len(boxes):
        return np.zeros(0)
    if not keypoints.shape[1]:
        raise ValueError(f"confidences must have at least one keypoint, got {keypoints.shape}")
    scores: npt.NDArray[np.float64] = boxes * keypoints.mean(axis=1)
    return scores


def confident_scores(
    box_scores: npt.ArrayLike, confidences: npt.ArrayLike, *, least: float = 0.2
) -> npt.NDArray[np.float64]:
    """(N,) box score times the mean confidence of the keypoints above `least`; 0 if there are none.

    The rule of the HRNet code base: how much of a person is seen does not matter, only how well.

    Args:
        box_scores: (N,) the detector's scores; N = 0 is legal.
        confidences: (N, K) of the keypoints.
        least: keypoints of this confidence or less are left out.

    Raises:
        ValueError: a wrong shape, lengths that differ, or a value that is not finite.

    >>> confident_scores([0.5, 1.0], [[1.0, 0.1], [0.1, 0.2]]).tolist()
    [0.5, 0.0]
    """
    boxes = checked("box_scores", box_scores, ("N",), np.float64)
    keypoints = checked("confidences", confidences, ("N", "K"), np.float64)
    check_same_length(box_scores=boxes, confidences=keypoints)
    seen = keypoints > least
    number = np.count_nonzero(seen, axis=1)
    total = np.where(seen, keypoints, 0.0).sum(axis=1)
    mean = np.divide(total, number, out=np.zeros(len(boxes)), where=number > 0)
    scores: npt.NDArray[np.float64] = boxes * mean
    return scores


Rule = Literal["product", "box", "confident"]


def rescored(poses: Poses, rule: Rule = "product") -> Poses:
    """The same poses with other scores, worked out from box scores and confidences alone.

    Args:
        poses: of one image.
        rule: "product" as the paper does, see `pose_scores`; "box", the box score alone;
            "confident", see `confident_scores`.
    """
    if rule == "box":
        return replace(poses, scores=poses.box_scores)
    scores = pose_scores if rule == "product" else confident_scores
    return replace(poses, scores=scores(poses.box_scores, poses.keypoints[..., 2]))
