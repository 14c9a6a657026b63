"""COCO's skeleton: consistent with itself, and with COCO's own tolerances."""

from __future__ import annotations

import pytest
from pycocotools.cocoeval import Params

from posepipe.core.skeleton import COCO_PERSON


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
