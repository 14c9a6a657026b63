"""Hand-made errors of each kind are recognised, and mending everything gives AP 1."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posepipe.analysis.errors import KeypointError, find_errors
from posepipe.analysis.explain import explain
from posepipe.core.skeleton import COCO_PERSON
from posepipe.scoring.comparison import PoseComparison
from posepipe.scoring.matching import Found, Labelled

K = len(COCO_PERSON)
NOSE = COCO_PERSON.keypoints.index("nose")
LEFT, RIGHT = (COCO_PERSON.keypoints.index(f"{side}_wrist") for side in ("left", "right"))
SIZE = 200.0  # of a person, in pixels


def person(left):
    """(K, 2) keypoints far from each other, of somebody whose left edge is there."""
    column, row = np.arange(K) % 4, np.arange(K) // 4
    return np.stack([left + 50.0 * column, 50.0 * row], axis=1)


def comparison(poses, people, *, scores=None, ignored=None, visible=None, images=None):
    poses = np.array(poses, float).reshape(-1, K, 2)
    people = np.array(people, float).reshape(-1, K, 2)
    found_in, labelled_in = images or (np.zeros(len(poses)), np.zeros(len(people)))
    number = len(people)
    low = people.min(axis=1) if number else np.zeros((0, 2))
    return PoseComparison(
        skeleton=COCO_PERSON,
        found=Found(
            np.array(found_in, np.intp),
            np.array(np.linspace(1, 0.5, len(poses)) if scores is None else scores, float),
            np.full(len(poses), SIZE**2),
        ),
        keypoints_xy=poses,
        labelled=Labelled(
            np.array(labelled_in, np.intp),
            np.full(number, SIZE**2),
            np.array(np.zeros(number) if ignored is None else ignored, bool),
            np.zeros(number, bool),
        ),
        labels_xy=people,
        visible=np.ones((number, K), bool) if visible is None else visible,
        boxes_xyxy=np.concatenate([low, low + SIZE], axis=1),
    )


def kinds_of(pose, *people, visible=None):
    errors = find_errors(comparison([pose], people, visible=visible))
    return errors.kinds[0]


def test_a_perfect_pose_has_no_errors():
    assert (kinds_of(person(0), person(0)) == KeypointError.GOOD).all()


@pytest.mark.parametrize(
    ("similarity", "kind"),
    [
        (0.86, KeypointError.GOOD),
        (0.84, KeypointError.JITTER),
        (0.51, KeypointError.JITTER),
        (0.49, KeypointError.MISS),
    ],
)
def test_distance_tells_good_jitter_and_miss_apart(similarity, kind):
    pose = person(0)
    tolerance = 2 * COCO_PERSON.sigmas[NOSE] * SIZE
    pose[NOSE, 1] -= tolerance * np.sqrt(-2 * np.log(similarity))
    kinds = kinds_of(pose, person(0))
    assert kinds[NOSE] == kind
    assert (np.delete(kinds, NOSE) == KeypointError.GOOD).all()


def test_left_for_right_is_an_inversion():
    pose = person(0)
    pose[LEFT] = person(0)[RIGHT]
    kinds = kinds_of(pose, person(0))
    assert kinds[LEFT] == KeypointError.INVERSION
    assert kinds[RIGHT] == KeypointError.GOOD


@pytest.mark.parametrize("of_other", [LEFT, RIGHT])
def test_the_place_of_another_person_s_keypoint_is_a_swap(of_other):
    pose = person(0)
    pose[LEFT] = person(300)[of_other]
    assert kinds_of(pose, person(0), person(300))[LEFT] == KeypointError.SWAP
    assert kinds_of(pose, person(0))[LEFT] == KeypointError.MISS


def test_another_person_in_another_image_is_no_swap():
    pose = person(0)
    pose[LEFT] = person(300)[LEFT]
    apart = comparison([pose], [person(0), person(300)], images=([0], [0, 1]))
    assert find_errors(apart).kinds[0, LEFT] == KeypointError.MISS


def test_a_keypoint_in_the_middle_has_no_mirror_image():
    pose = person(0)
    pose[NOSE] = person(0)[LEFT]
    assert kinds_of(pose, person(0))[NOSE] == KeypointError.MISS


def test_unlabelled_keypoints_are_not_judged():
    visible = np.ones((1, K), bool)
    visible[0, LEFT] = False
    pose = person(0)
    pose[RIGHT] = pose[LEFT]  # where the left one would be, but nobody says so
    kinds = kinds_of(pose, person(0), visible=visible)
    assert kinds[LEFT] == KeypointError.UNLABELLED
    assert kinds[RIGHT] == KeypointError.MISS


def test_poses_about_nobody_and_people_without_a_pose():
    errors = find_errors(comparison([person(0), person(900)], [person(0), person(400)]))
    assert errors.found.tolist() == [0]
    assert errors.people.tolist() == [0]
    assert errors.spurious.tolist() == [1]
    assert errors.missed.tolist() == [1]


def test_poses_on_people_who_do_not_count_are_neither_right_nor_wrong():
    errors = find_errors(
        comparison([person(0), person(400)], [person(0), person(400)], ignored=[False, True])
    )
    assert errors.spurious.size == errors.missed.size == 0


def test_each_cost_is_that_of_its_errors_alone():
    """One of four people has a wrong wrist, one is missed, and there is one pose too many."""
    people = [person(left) for left in (0, 400, 800, 1200)]
    poses = [*map(np.copy, people[:3]), person(3000)]
    poses[0][LEFT:] += 25  # several keypoints off by a bit
    explained = explain(comparison(poses, people, scores=[0.9, 0.8, 0.7, 0.95]))
    by_name = {cause.name: cause for cause in explained.causes}
    assert by_name["false positive"].count == by_name["false negative"].count == 1
    assert by_name["jitter"].count > 0
    assert by_name["swap"].count == by_name["inversion"].count == 0
    assert by_name["swap"].alone == by_name["inversion"].alone == explained.ap
    for name in ("jitter", "false positive", "false negative"):
        assert by_name[name].alone > explained.ap


def test_a_worse_pose_with_a_higher_score_is_an_error_of_order():
    worse = person(0)
    worse[5:] += 20
    ranked = explain(comparison([person(0), worse], [person(0)], scores=[0.9, 0.5]))
    misranked = explain(comparison([person(0), worse], [person(0)], scores=[0.5, 0.9]))
    numbers = [ranked.ap, ranked.ap_perfect_order, misranked.ap_perfect_order]
    assert numbers == pytest.approx([1, 1, 1])
    assert misranked.ap < 0.9
    count = {cause.name: cause.count for cause in misranked.causes}
    assert count["score order"] == 1
    assert {cause.name: cause.count for cause in ranked.causes}["score order"] == 0


def test_nobody_who_counts_explains_nothing():
    explained = explain(comparison([person(0)], [], images=([0], [])))
    assert explained.ap is None
    assert explained.causes == ()


def test_no_poses_are_all_false_negatives():
    explained = explain(comparison([], [person(0), person(400)], images=([], [0, 0])))
    assert explained.ap == 0
    assert explained.causes[-1].count == 2
    assert explained.causes[-1].progressive == 1  # nobody is left


@settings(max_examples=25)
@given(st.integers(0, 10_000))
def test_mending_everything_gives_ap_1_and_no_step_costs(seed):
    random = np.random.default_rng(seed)
    images = 4
    labelled_in = random.integers(0, images, random.integers(1, 9))
    people = [person(random.uniform(0, 500)) for _ in labelled_in]
    poses, found_in = [], []
    for image, points in zip(labelled_in, people, strict=True):
        for _ in range(random.integers(0, 3)):
            poses.append(points + random.normal(0, random.uniform(0, 60), points.shape))
            found_in.append(image)
    for _ in range(random.integers(0, 30)):
        poses.append(person(random.uniform(0, 500)) + random.uniform(0, 99, 2))
        found_in.append(random.integers(0, images))
    whole = comparison(
        poses,
        people,
        scores=random.uniform(0, 1, len(poses)),
        ignored=random.random(len(people)) < 0.2,
        visible=random.random((len(people), K)) < 0.8,
        images=(found_in, labelled_in),
    )
    explained = explain(whole)
    if explained.ap is None:
        return
    assert explained.causes[-1].progressive == pytest.approx(1, abs=1e-12)
    errors = find_errors(whole)
    judged = np.count_nonzero(errors.kinds != KeypointError.UNLABELLED)
    assert sum(errors.count(kind) for kind in KeypointError if kind >= 0) == judged
    for shares in explained.per_keypoint.values():
        assert not shares or sum(shares.values()) == pytest.approx(1)
    for trait in {group.trait for group in explained.groups}:
        groups = [group for group in explained.groups if group.trait == trait]
        assert sum(group.people for group in groups) == len(errors.people) + len(errors.missed)
        assert sum(group.found for group in groups) == len(errors.people)
