"""Names of categories and keypoints: what is the same name, in any script, and what is not."""

from __future__ import annotations

import pytest

from posepipe.core.skeleton import COCO_PERSON, Skeleton
from posepipe.io.categories import keypoint_names, person_categories
from posepipe.io.entries import Entries
from posepipe.io.schema import CategoryEntry


def skeleton(category: str, *keypoints: str) -> Skeleton:
    sigmas = (0.067,) * len(keypoints)
    return Skeleton(category, keypoints, (), (), sigmas, category=category)


def told(category: CategoryEntry, wanted: Skeleton) -> list[str]:
    findings = keypoint_names([category], wanted, "a.json", fatal=True)
    return [finding.message for finding in findings]


@pytest.mark.parametrize(
    ("wanted", "written"),
    [
        (("nose", "left_eye", "right_eye"), ("Nose", "L_Eye", "R_Eye")),
        (("nose", "left_eye", "right_eye"), ("nose", "l-eye", "r eye")),
        (("eye_left", "eye_right"), ("eye.L", "eye.R")),
        (("ухо левое", "ухо правое"), ("Ухо_левое", "УХО-ПРАВОЕ")),
        (("左目", "右目"), (" 左目", "右目 ")),
        (("élbow", "knee"), ("e\u0301lbow", "knee")),
    ],
)
def test_names_that_differ_in_spelling_are_the_same(
    wanted: tuple[str, ...], written: tuple[str, ...]
) -> None:
    assert told(CategoryEntry(1, "person", written), skeleton("person", *wanted)) == []


@pytest.mark.parametrize(
    ("wanted", "written"),
    [
        (("left_eye", "right_eye"), ("right_eye", "left_eye")),
        (("left_eye", "right_eye"), ("R_eye", "L_eye")),
        (("ухо левое", "ухо правое"), ("ухо правое", "ухо левое")),
        (("左目", "右目"), ("右目", "左目")),
        (("α", "β"), ("β", "α")),
        (("*", "+"), ("+", "*")),
    ],
)
def test_another_order_is_told_in_any_script(
    wanted: tuple[str, ...], written: tuple[str, ...]
) -> None:
    (line,) = told(CategoryEntry(1, "person", written), skeleton("person", *wanted))
    assert "in another order than person's: 2 of 2 (1: " in line


def test_other_keypoints_are_told() -> None:
    names = ("нос", *COCO_PERSON.keypoints[1:])
    (line,) = told(CategoryEntry(1, "person", names), COCO_PERSON)
    assert "others than coco_person's: 1 of 17 (1: нос in place of nose)" in line


@pytest.mark.parametrize(("own", "other"), [("狗", "猫"), ("собака", "кошка"), ("dog", "cat")])
def test_a_category_of_another_name_is_not_taken(own: str, other: str) -> None:
    wanted = skeleton(own, "a", "b")
    entries = Entries((), (), (CategoryEntry(1, other), CategoryEntry(2, own)), {}, ())
    found, findings = person_categories(entries, wanted, "a.json")
    assert ([category.id for category in found], findings) == ([2], [])
    entries = Entries((), (), (CategoryEntry(1, other),), {}, ())
    found, (finding,) = person_categories(entries, wanted, "a.json")
    assert found == ()
    assert finding.fatal
