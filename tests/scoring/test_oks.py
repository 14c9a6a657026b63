"""OKS equals pycocotools'; OKS-NMS keeps the best of those who are alike."""

from __future__ import annotations

import contextlib
import io
import math

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from posepipe.core.boxes import xyxy_to_xywh
from posepipe.core.poses import PoseLabels, Poses
from posepipe.scoring.oks import oks, oks_among, oks_nms, without_duplicates

NOSE_TOLERANCE = 2 * 0.026


def labels_of(keypoints_xy, visibility, areas=None, boxes=None):
    count = len(keypoints_xy)
    return PoseLabels(
        image_id=1,
        keypoints_xy=keypoints_xy,
        visibility=visibility,
        boxes_xyxy=np.tile([0.0, 0.0, 8.0, 8.0], (count, 1)) if boxes is None else boxes,
        areas=np.full(count, 100.0) if areas is None else areas,
        is_crowd=np.zeros(count, bool),
        annotation_ids=np.arange(1, count + 1),
    )


def random_scene(seed, poses, people):
    """Poses near random people, some of whom have few labelled keypoints or none."""
    random = np.random.default_rng(seed)
    corners = random.integers(0, 300, (people, 2)).astype(float)
    sizes = random.integers(8, 200, (people, 2)).astype(float)
    boxes = np.concatenate([corners, corners + sizes], axis=1)
    xy = corners[:, None] + random.uniform(0, 1, (people, 17, 2)) * sizes[:, None]
    visibility = random.integers(0, 3, (people, 17))
    visibility[::4] = 0
    xy = np.where(visibility[..., None] > 0, xy, 0.0)
    areas = 0.5 * sizes.prod(axis=1) + random.uniform(0, 1, people)
    near = random.integers(0, people, poses)
    found = xy[near] + random.normal(0, 4.0, (poses, 17, 2))
    return found, labels_of(xy, visibility, areas, boxes)


def oks_of_pycocotools(found, labels):
    truth, results = COCO(), COCO()
    keypoints = np.concatenate([labels.keypoints_xy, labels.visibility[..., None]], axis=2)
    truth.dataset = {
        "images": [{"id": 1}],
        "categories": [{"id": 1}],
        "annotations": [
            {
                "id": int(labels.annotation_ids[index]),
                "image_id": 1,
                "category_id": 1,
                "bbox": xyxy_to_xywh(labels.boxes_xyxy[index]).tolist(),
                "area": float(labels.areas[index]),
                "iscrowd": 0,
                "keypoints": keypoints[index].reshape(-1).tolist(),
                "num_keypoints": int((labels.visibility[index] > 0).sum()),
            }
            for index in range(len(labels))
        ],
    }
    entries = [
        {
            "image_id": 1,
            "category_id": 1,
            "keypoints": np.column_stack([pose, np.ones(17)]).reshape(-1).tolist(),
            "score": 1.0 - 0.001 * rank,
        }
        for rank, pose in enumerate(found)
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        results = truth.loadRes(entries)
        evaluator = COCOeval(truth, results, "keypoints")
        evaluator._prepare()
        return evaluator.computeOks(1, 1)


@pytest.mark.parametrize("seed", range(12))
def test_oks_equals_pycocotools_to_the_last_digit(seed):
    found, labels = random_scene(seed, poses=20, people=9)
    matrix = oks(found, labels)
    assert 0.05 < matrix.mean() < 0.95
    assert np.array_equal(matrix, oks_of_pycocotools(found, labels))


@pytest.mark.parametrize(("poses", "people"), [(0, 0), (0, 3), (3, 0)])
def test_nobody_gives_an_empty_matrix(poses, people):
    labels = labels_of(np.zeros((people, 17, 2)), np.full((people, 17), 2))
    assert oks(np.zeros((poses, 17, 3)), labels).shape == (poses, people)


def test_oks_with_one_labelled_keypoint_by_hand():
    visibility = np.zeros((1, 17), int)
    visibility[0, 0] = 1
    labels = labels_of(np.full((1, 17, 2), 50.0), visibility, areas=[400.0])
    found = np.full((1, 17, 2), 50.0)
    found[0, 0] += [3, 4]  # 5 pixels; the square root of the area is 20
    found[0, 1:] += 1000  # nobody labelled these
    expected = math.exp(-((5 / 20 / NOSE_TOLERANCE) ** 2) / 2)
    assert oks(found, labels)[0, 0] == pytest.approx(expected, rel=1e-12)


def test_the_confidence_of_a_keypoint_is_not_looked_at():
    found, labels = random_scene(3, poses=5, people=4)
    with_confidence = np.concatenate([found, np.zeros((5, 17, 1))], axis=2)
    assert np.array_equal(oks(with_confidence, labels), oks(found, labels))


def test_the_label_itself_has_oks_1_and_a_far_pose_0():
    found, labels = random_scene(1, poses=2, people=6)
    labelled = (labels.visibility > 0).any(axis=1)
    assert (np.diag(oks(labels.keypoints_xy, labels))[labelled] == 1).all()
    assert (oks(found + 1e6, labels) == 0).all()


def test_a_person_without_labels_forgives_poses_in_three_times_its_box():
    labels = labels_of(np.zeros((1, 17, 2)), np.zeros((1, 17)), boxes=[[10.0, 10.0, 20.0, 30.0]])
    inside = np.full((1, 17, 2), [0.0, 50.0])  # on the corner of the box from (0, -10) to (30, 50)
    assert oks(inside, labels)[0, 0] == 1
    assert oks(inside - np.array([0.5, 0]), labels)[0, 0] < 1
    assert oks(inside + np.array([0, 0.5]), labels)[0, 0] < 1


def test_a_larger_person_tolerates_more():
    found, labels = random_scene(5, poses=6, people=4)
    larger = labels_of(labels.keypoints_xy, labels.visibility, labels.areas * 2, labels.boxes_xyxy)
    assert (oks(found, larger) >= oks(found, labels)).all()


@pytest.mark.parametrize("shape", [(2, 16, 2), (2, 17, 4), (17, 2)])
def test_poses_of_another_skeleton_are_refused(shape):
    with pytest.raises(ValueError, match="keypoints_xy must have shape"):
        oks(np.zeros(shape), labels_of(np.zeros((1, 17, 2)), np.ones((1, 17))))


def poses_at(shifts, scores, side=100.0):
    """The same random pose, shifted to the right by each of `shifts` pixels."""
    base = np.random.default_rng(0).uniform(0, side, (17, 2))
    count = len(shifts)
    keypoints = np.ones((count, 17, 3))
    for index, shift in enumerate(shifts):
        keypoints[index, :, :2] = base + np.array([shift, 0])
    boxes = np.array([[shift, 0.0, shift + side, side] for shift in shifts]).reshape(-1, 4)
    return Poses(1, keypoints, scores, boxes, np.ones(count))


def test_oks_among_poses_is_symmetric_with_1_on_the_diagonal():
    matrix = oks_among(poses_at([0, 3, 7, 200], [0.1, 0.2, 0.3, 0.4]))
    assert np.array_equal(matrix, matrix.T)
    assert (np.diag(matrix) == 1).all()
    assert matrix[0, 1] > matrix[0, 2] > matrix[0, 3]


def test_oks_among_is_oks_to_labels_of_the_box_s_area():
    poses = poses_at([0, 6], [0.5, 0.4])
    labels = labels_of(poses.keypoints[:, :, :2], np.full((2, 17), 2), areas=np.full(2, 100.0**2))
    assert np.allclose(oks_among(poses), oks(poses.keypoints, labels), rtol=1e-12)


@pytest.mark.parametrize(
    ("shifts", "scores", "kept"),
    [
        ([], [], []),
        ([0], [0.5], [0]),
        ([0, 1], [0.5, 0.9], [1]),
        ([0, 1], [0.5, 0.5], [0]),
        ([0, 500], [0.5, 0.9], [1, 0]),
        ([0, 8, 16], [0.5, 0.9, 0.7], [1]),
        ([0, 8, 16], [0.9, 0.8, 0.7], [0, 2]),
    ],
)
def test_nms_keeps_the_best_of_similar_poses(shifts, scores, kept):
    assert oks_nms(poses_at(shifts, scores), threshold=0.6).tolist() == kept


def test_nms_at_1_keeps_even_equal_poses():
    assert oks_nms(poses_at([0, 0], [0.5, 0.9]), threshold=1.0).tolist() == [1, 0]


def test_the_kept_poses_are_unlike_and_each_other_is_like_a_better_kept_one():
    random = np.random.default_rng(2)
    poses = poses_at(random.uniform(0, 150, 40).tolist(), random.uniform(0, 1, 40))
    kept = oks_nms(poses, threshold=0.5)
    similarity = oks_among(poses)
    assert 2 < len(kept) < 30
    assert (similarity[np.ix_(kept, kept)] - np.eye(len(kept)) <= 0.5).all()
    for gone in set(range(40)) - set(kept.tolist()):
        better = [index for index in kept if poses.scores[index] >= poses.scores[gone]]
        assert similarity[gone, better].max() > 0.5


def test_suppression_does_not_depend_on_the_order_of_the_poses():
    random = np.random.default_rng(4)
    shifts, scores = random.uniform(0, 150, 20), random.permutation(20) / 20
    order = random.permutation(20)
    kept = oks_nms(poses_at(shifts, scores), threshold=0.5)
    kept_shuffled = oks_nms(poses_at(shifts[order], scores[order]), threshold=0.5)
    assert order[kept_shuffled].tolist() == kept.tolist()


def test_without_duplicates_keeps_the_order_of_the_poses():
    poses = poses_at([500, 0, 1], [0.1, 0.5, 0.9])
    left = without_duplicates(poses, threshold=0.6)
    assert left.scores.tolist() == [0.1, 0.9]
    assert np.array_equal(left.boxes_xyxy, poses.boxes_xyxy[[0, 2]])


@pytest.mark.parametrize("threshold", [-0.1, 1.1, math.nan])
def test_a_threshold_outside_0_to_1_is_refused(threshold):
    with pytest.raises(ValueError, match="threshold must lie in"):
        oks_nms(poses_at([], []), threshold=threshold)


def test_sigmas_of_another_skeleton_can_be_given():
    labels = labels_of(np.zeros((1, 2, 2)), np.ones((1, 2)))
    assert oks(np.zeros((1, 2, 2)), labels, sigmas=[0.05, 0.1])[0, 0] == 1
