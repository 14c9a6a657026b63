"""Skeletons: consistent with themselves, COCO's with COCO's own tolerances, sides by names."""

from __future__ import annotations

import dataclasses

import pytest
from pycocotools.cocoeval import Params

from posepipe.core.skeleton import (
    COCO_PERSON,
    DEFAULT_SIGMA,
    Skeleton,
    mirror_pairs_by_name,
    side_and_part,
)


def test_every_keypoint_has_a_name_of_its_own_and_a_tolerance():
    assert len(COCO_PERSON) == 17
    assert len(set(COCO_PERSON.keypoints)) == 17
    assert len(COCO_PERSON.sigmas) == 17


def test_the_tolerances_equal_those_of_pycocotools_to_the_last_bit():
    assert list(COCO_PERSON.sigmas) == Params(iouType="keypoints").kpt_oks_sigmas.tolist()


def test_mirroring_twice_changes_nothing():
    mirrored = COCO_PERSON.mirrored
    assert [mirrored[index] for index in mirrored] == list(range(17))


def test_mirror_pairs_are_left_and_right_of_the_same_part():
    for left, right in COCO_PERSON.mirror_pairs:
        names = COCO_PERSON.keypoints[left], COCO_PERSON.keypoints[right]
        assert names[0] == names[1].replace("right_", "left_")
        assert COCO_PERSON.sigmas[left] == COCO_PERSON.sigmas[right]


def test_only_the_nose_is_its_own_mirror_image():
    own = [index for index, other in enumerate(COCO_PERSON.mirrored) if index == other]
    assert own == [COCO_PERSON.keypoints.index("nose")]


@pytest.mark.parametrize(("keypoint", "side"), [(0, "middle"), (5, "left"), (16, "right")])
def test_a_keypoint_is_on_the_person_s_own_side(keypoint, side):
    assert COCO_PERSON.side(keypoint) == side


def test_the_upper_body_is_what_lies_above_the_hips():
    upper = {COCO_PERSON.keypoints[index] for index in COCO_PERSON.upper_body}
    parts = {side_and_part(name)[1] for name in set(COCO_PERSON.keypoints) - upper}
    assert parts == {"hip", "knee", "ankle"}


def test_limbs_look_the_same_in_the_mirror_and_connect_all_keypoints():
    limbs = {frozenset(limb) for limb in COCO_PERSON.limbs}
    mirrored = {frozenset(COCO_PERSON.mirrored[end] for end in limb) for limb in limbs}
    assert limbs == mirrored
    assert len(limbs) == len(COCO_PERSON.limbs)
    reached, size = {0}, 0
    while len(reached) > size:
        size = len(reached)
        reached |= {end for limb in limbs if limb & reached for end in limb}
    assert reached == set(range(17))


DOG = Skeleton("dog", ("nose", "left_ear", "right_ear"), ((1, 2),), ((0, 1),), (0.1, 0.2, 0.2))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"keypoints": (), "sigmas": ()}, "at least one keypoint"),
        ({"keypoints": ("nose", "ear", "ear")}, "'ear' is listed twice"),
        ({"limbs": ((0, 3),)}, "numbered 0 to 2: there is no 3"),
        ({"upper_body": (-1,)}, "there is no -1"),
        ({"mirror_pairs": ((1, 2), (0, 1))}, "'left_ear' is in mirror_pairs twice"),
        ({"sigmas": (0.1,)}, "1 numbers for 3 keypoints"),
        ({"sigmas": (0.1, 0.1, 0.0)}, "must be positive numbers"),
    ],
)
def test_a_skeleton_that_contradicts_itself_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(DOG, **changes)


def test_sides_are_those_of_the_mirror_pairs_whatever_the_names():
    renamed = dataclasses.replace(DOG, keypoints=("a", "b", "c"))
    assert [renamed.side(index) for index in range(3)] == ["middle", "left", "right"]


def test_the_default_tolerance_is_the_mean_of_coco_s():
    assert round(sum(COCO_PERSON.sigmas) / 17, 3) == DEFAULT_SIGMA


def test_the_names_of_coco_s_keypoints_give_its_mirror_pairs():
    assert mirror_pairs_by_name(COCO_PERSON.keypoints) == COCO_PERSON.mirror_pairs


@pytest.mark.parametrize(
    ("name", "side", "part"),
    [
        ("left_front_paw", "left", "front_paw"),
        ("front-left-paw", "left", "front_paw"),
        ("L_Eye", "left", "eye"),
        ("REye", "right", "eye"),
        ("kneeR", "right", "knee"),
        ("Right Elbow", "right", "elbow"),
        ("tail", "middle", "tail"),
        ("l", "middle", "l"),  # a name, not a side
        ("left_of_right_eye", "middle", "left_of_right_eye"),
        ("", "middle", ""),
    ],
)
def test_a_name_tells_its_side(name, side, part):
    assert side_and_part(name) == (side, part)
