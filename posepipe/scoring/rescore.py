"""Pose scores: how sure the pipeline is of a whole person, from box and keypoints."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from posepipe.core.poses import Poses
from posepipe.core.shapes import check_same_length, checked


def pose_scores(box_scores: npt.ArrayLike, confidences: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """(N,) box score times the mean confidence of all K keypoints (CPN, section 4.1).

    The mean is over every keypoint, also the unlikely ones: a person who is half out of the
    picture ranks below one who is wholly in it.

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


def rescored(poses: Poses) -> Poses:
    """The same poses, scored as the paper does: box score times mean keypoint confidence."""
    return replace(poses, scores=pose_scores(poses.box_scores, poses.keypoints[..., 2]))
