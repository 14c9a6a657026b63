"""The nouns of poses: checked once, on construction."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from posepipe.core.poses import PoseLabels, Poses


def some_poses(count, **changes):
    fields = {
        "image_id": 3,
        "keypoints": np.full((count, 17, 3), 0.5),
        "scores": np.full(count, 0.5),
        "boxes_xyxy": np.tile([0.0, 0.0, 4.0, 4.0], (count, 1)),
        "box_scores": np.ones(count),
    }
    return Poses(**(fields | changes))


def some_labels(count, **changes):
    fields = {
        "image_id": 3,
        "keypoints_xy": np.zeros((count, 17, 2)),
        "visibility": np.full((count, 17), 2),
        "boxes_xyxy": np.tile([0.0, 0.0, 4.0, 4.0], (count, 1)),
        "areas": np.full(count, 8.0),
        "is_crowd": np.zeros(count, bool),
        "annotation_ids": np.arange(count),
    }
    return PoseLabels(**(fields | changes))


@pytest.mark.parametrize("count", [0, 1, 3])
def test_the_length_is_the_number_of_people(count):
    assert len(some_poses(count)) == count
    assert len(some_labels(count)) == count


def test_nobody_in_an_image_has_the_skeletons_shape():
    nobody = Poses.none(7)
    assert (nobody.image_id, len(nobody)) == (7, 0)
    assert nobody.keypoints.shape == (0, 17, 3)
    assert nobody.boxes_xyxy.shape == (0, 4)


def test_nobody_can_be_given_as_empty_lists():
    nobody = Poses(1, [], [], [], [])
    assert len(nobody) == 0
    assert nobody.keypoints.shape[2] == 3
    assert len(PoseLabels(1, [], [], [], [], [], [])) == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"keypoints": np.zeros((2, 17, 2))}, r"keypoints must have shape \(N, 17, 3\)"),
        ({"keypoints": np.zeros((1, 17, 3))}, "keypoints: 1, scores: 2"),
        ({"keypoints": np.full((2, 17, 3), np.nan)}, "keypoints must be finite"),
        ({"scores": [0.5]}, "lengths differ"),
        ({"boxes_xyxy": np.zeros((2, 5))}, "boxes_xyxy must have shape"),
        ({"box_scores": [1.0, np.inf]}, "box_scores must be finite"),
    ],
)
def test_wrong_poses_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        some_poses(2, **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"visibility": np.zeros((1, 17))}, "lengths differ"),
        ({"keypoints_xy": np.zeros((2, 17, 3))}, "keypoints_xy must have shape"),
        ({"areas": [1.0, np.nan]}, "areas must be finite"),
        ({"annotation_ids": [1, 2, 3]}, "annotation_ids: 3"),
    ],
)
def test_wrong_labels_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        some_labels(2, **changes)


def test_a_pose_keeps_its_own_copy_of_the_arrays():
    keypoints = np.zeros((1, 17, 3))
    poses = some_poses(1, keypoints=keypoints)
    keypoints[:] = 9
    assert not poses.keypoints.any()
    with pytest.raises(ValueError, match="read-only"):
        poses.keypoints[0, 0, 0] = 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        poses.image_id = 4


def test_labels_have_the_types_that_they_promise():
    labels = some_labels(1)
    assert labels.visibility.dtype == labels.annotation_ids.dtype == np.int64
    assert labels.is_crowd.dtype == np.bool_


def test_poses_become_cocos_results_in_plain_values():
    poses = some_poses(2, scores=np.array([0.25, 0.75]), box_scores=np.array([0.5, 1.0]))
    first, second = poses.to_coco()
    assert first == {
        "image_id": 3,
        "category_id": 1,
        "keypoints": [0.5] * 51,
        "score": 0.25,
        "box_xyxy": [0.0, 0.0, 4.0, 4.0],
        "box_score": 0.5,
    }
    assert second["score"] == 0.75
    assert json.loads(json.dumps(poses.to_coco())) == [first, second]
    assert poses.to_coco(category_id=4)[0]["category_id"] == 4
    assert some_poses(0).to_coco() == []
