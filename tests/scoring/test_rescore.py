"""Pose scores: box score times the mean of all keypoint confidences."""

from __future__ import annotations

import numpy as np
import pytest

from posepipe.core.poses import Poses
from posepipe.scoring.rescore import pose_scores, rescored


@pytest.mark.parametrize(
    ("box_scores", "confidences", "expected"),
    [
        ([], [], []),
        ([], np.zeros((0, 17)), []),
        ([0.5], [[1.0, 0.0]], [0.25]),
        ([0.5, 1.0], [[0.5], [0.25]], [0.25, 0.25]),
        ([0.0], [[1.0, 1.0]], [0.0]),
    ],
)
def test_scores_by_hand(box_scores, confidences, expected):
    assert pose_scores(box_scores, confidences).tolist() == expected


def test_unlikely_keypoints_count_too():
    one_of_seventeen = np.zeros((1, 17))
    one_of_seventeen[0, 3] = 1.0
    assert pose_scores([1.0], one_of_seventeen)[0] == pytest.approx(1 / 17)


@pytest.mark.parametrize(
    ("box_scores", "confidences", "message"),
    [
        ([0.5], [], "lengths differ"),
        ([0.5], np.zeros((1, 0)), "at least one keypoint"),
        ([[0.5]], [[1.0]], "box_scores must have shape"),
        ([0.5], [[np.nan]], "finite"),
    ],
)
def test_wrong_arrays_are_refused(box_scores, confidences, message):
    with pytest.raises(ValueError, match=message):
        pose_scores(box_scores, confidences)


def test_rescoring_poses_changes_their_scores_only():
    keypoints = np.array([[[1.0, 2.0, 0.5]] * 17, [[3.0, 4.0, 0.25]] * 17])
    poses = Poses(4, keypoints, [9.0, 9.0], [[0, 0, 1, 1]] * 2, [1.0, 0.5])
    result = rescored(poses)
    assert result.scores.tolist() == [0.5, 0.125]
    assert result.image_id == 4
    assert np.array_equal(result.keypoints, keypoints)
    assert poses.scores.tolist() == [9.0, 9.0]
    assert len(rescored(Poses(4, [], [], [], []))) == 0
