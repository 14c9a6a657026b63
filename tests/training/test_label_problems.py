"""Every kind of problem of labels is one line with its count, and nothing else."""

from __future__ import annotations

import pytest
from builders import annotation, keypoints_xyv
from small_sets import entry, lines

from posepipe.core.skeleton import COCO_PERSON
from posepipe.errors import DocumentError
from posepipe.io.coco import read_annotations
from posepipe.training.samples import pose_samples

PROBLEMS = {
    "an annotation twice": (
        [annotation(1), annotation(1), annotation(2, 2), annotation(2, 2)],
        (False, "annotations that are listed twice: 2 of 4 (1, 2): taken once"),
    ),
    "an annotation id of two people": (
        [annotation(1), annotation(1, bbox=[11, 20, 30, 40]), annotation(2, 2)],
        (
            False,
            "annotation ids that are used twice: 1 of 3 (1): they are different things, so all of "
            "them are used",
        ),
    ),
    "a person twice": (
        [annotation(1), annotation(2)],
        (False, "people who are labelled twice: 1 of 2 (annotation 2 as 1): counted once"),
    ),
    "an image that is not listed": (
        [annotation(1), annotation(2, image_id=9)],
        (
            False,
            "annotations of images that are not listed: 1 of 2 (annotation 2 of image 9): left out",
        ),
    ),
    "a wrong number of keypoints": (
        [annotation(1, keypoints=[1, 2, 2]), annotation(2, 2, keypoints="none"), annotation(3)],
        (
            True,
            "people without x, y, v of 17 keypoints: 2 of 3 (annotation 1 has 3 numbers, "
            "annotation 2 has something other than numbers): their keypoints count as not labelled",
        ),
    ),
    "a wrong visibility": (
        [annotation(1, keypoints=[10, 20, 3] + [0] * 48), annotation(2)],
        (
            False,
            "people with a visibility other than 0, 1, 2: 1 of 2 (annotation 1): above 0 counts "
            "as labelled",
        ),
    ),
    "unknown pseudo keypoints": (
        [annotation(1, bbox=[12, 20, 30, 40], pseudo_keypoints=[0, 17]), annotation(2, 2)],
        (False, "people with unknown pseudo keypoints: 1 of 2 (annotation 1)"),
    ),
    "a box in parts of the image": (
        [annotation(1, bbox=[0.1, 0.25, 0.3, 0.5], keypoints=[0.2, 0.3, 2] * 17, area=0.1)],
        (
            False,
            "people with labelled keypoints whose boxes are smaller than 2 pixels: 1 of 1 "
            "(annotation 1): boxes are in pixels, not in parts of the image",
        ),
    ),
    "an area in parts of the image": (
        [annotation(1, bbox=[9, 20, 30, 40], area=0.0625), annotation(2, 2)],
        (
            False,
            "people with labelled keypoints whose area does not fit their box: 1 of 2 "
            "(annotation 1): areas are in square pixels, and OKS depends on them",
        ),
    ),
    "keypoints in parts of the image": (
        [annotation(1, bbox=[40, 30, 30, 40], keypoints=[0.4, 0.5, 2] * 17), annotation(2, 2)],
        (
            False,
            "people none of whose labelled keypoints is in or near their box: 1 of 2 "
            "(annotation 1)",
        ),
    ),
    "a flag of another kind": (
        [annotation(1, bbox=[13, 20, 30, 40], iscrowd=2), annotation(2, 2)],
        (
            False,
            "labels whose iscrowd is neither 0 nor 1: 1 of 2 (annotation 1): counted as crowd "
            "regions",
        ),
    ),
    "a negative size": (
        [annotation(1, bbox=[50, 20, -30, 40]), annotation(2)],
        (False, "boxes of negative size: 1 of 2 (annotation 1): left out"),
    ),
    "no area": (
        [annotation(n, bbox=[10, 20, 0, 40]) for n in (1, 2, 3, 4)] + [annotation(5)],
        (
            False,
            "boxes without area: 4 of 5 (annotation 1, annotation 2, annotation 3, …): nobody is "
            "looked for there",
        ),
    ),
    "a box outside": (
        [annotation(1, bbox=[101, 20, 30, 40]), annotation(2)],
        (False, "boxes outside their images: 1 of 2 (annotation 1)"),
    ),
    "a box that reaches out": (
        [
            annotation(1, bbox=[80, 20, 30, 40]),
            annotation(2, bbox=[73, 20, 30, 40], keypoints=None),
        ],
        (
            False,
            "boxes that reach outside their images by more than a tenth of their size: 1 of 2 "
            "(annotation 1)",
        ),
    ),
    "a keypoint astray": (
        [annotation(1, keypoints=[120, 20, 2] + [0] * 48), annotation(2)],
        (
            False,
            "people with keypoints outside the image by more than a tenth of its size: 1 of 2 "
            "(annotation 1)",
        ),
    ),
    "nobody with keypoints": (
        [annotation(1, keypoints=keypoints_xyv(0)), annotation(2, iscrowd=1)],
        (True, "people with labelled keypoints: 0 of 2"),
    ),
}


@pytest.mark.parametrize("name", PROBLEMS)
def test_every_problem_of_labels_is_a_line_of_its_own(make_set, name):
    people, expected = PROBLEMS[name]
    assert lines([make_set("a", people)]) == [expected]
    assert lines([], [make_set("a", people)]) == [expected]


def test_several_problems_are_all_told(make_set):
    people = [person for people, _ in PROBLEMS.values() for person in people]
    for number, person in enumerate(people):
        person = people[number] = dict(person)
        person["id"] = 1 if number < 4 else number
    people[3]["bbox"] = [9, 9, 9, 9]
    told = {line.split(":")[0] for _, line in lines([make_set("a", people)])}
    assert told == {
        expected.split(":")[0]
        for name, (_, (_, expected)) in PROBLEMS.items()
        if name != "nobody with keypoints"
    }


def test_what_is_fatal_in_labels_is_refused_on_reading_too(make_set):
    people, (fatal, _) = PROBLEMS["a wrong number of keypoints"]
    assert fatal
    table = make_set("a", people)
    with pytest.raises(DocumentError):
        pose_samples(read_annotations(table.annotations), table.images, pseudo_weight=0.3)


def test_a_detector_needs_no_keypoints_and_nobody_is_a_warning(make_set):
    unlabelled = [annotation(1, keypoints=keypoints_xyv(0))]
    assert lines([make_set("a", unlabelled)], learnt="people") == []
    assert lines([make_set("a", [])], learnt="people") == [(False, "people: 0 of 0")]
    assert lines([make_set("a", [])]) == [(True, "people with labelled keypoints: 0 of 0")]


def test_other_categories_are_not_checked(make_set):
    dog = annotation(2, category_id=18, keypoints=[1, 2], bbox=[-900, 0, 1, 1])
    assert lines([make_set("a", [annotation(1), dog])]) == []


def test_ids_and_names_that_are_listed_twice_are_told(make_set):
    images = [entry("a", 1), entry("a", 2), entry("a", 2)]
    assert lines([make_set("a", images=images)]) == [
        (False, "images that are listed twice: 1 of 3 (2): taken once"),
    ]
    images = [entry("a", 1), entry("a", 2), entry("a", 1) | {"id": 3}]
    assert lines([make_set("a", images=images)]) == [
        (False, "file names under several ids: 1 of 3 (a-1.png)"),
    ]
    images = [entry("a", 1), entry("a", 2), entry("a", 1) | {"id": 2}]
    assert lines([make_set("a", images=images)]) == [
        (
            True,
            "image ids that two images share: 1 of 3 (2: a-2.png and a-1.png): give every "
            "image an id of its own",
        ),
    ]


def test_keypoints_that_the_file_names_in_another_order_are_not_learnt(make_set):
    names = list(COCO_PERSON.keypoints)
    names[1], names[2] = names[2], names[1]
    table = make_set("a", categories=[{"id": 1, "name": "person", "keypoints": names}])
    (problem,) = lines([table])
    assert problem[0]
    assert "that are in another order than coco_person's: 2 of 17 (2: right_eye" in problem[1]
    assert not any(fatal for fatal, _ in lines([table], learnt="people"))


def test_all_categories_with_the_skeleton_s_keypoints_are_learnt(make_set):
    names = list(COCO_PERSON.keypoints)
    alike = [{"id": n, "name": f"kind {n}", "keypoints": names} for n in (4, 5)]
    entries = [annotation(n, n, category_id=n + 3) for n in (1, 2)]
    (told,) = lines([make_set("a", entries, categories=alike)])
    assert told == (
        False,
        "categories not named 'person': 2 of 2 ('kind 4', 'kind 5'): used because they have its "
        "keypoints",
    )
    strange = [{**one, "keypoints": names[1:]} for one in alike]
    assert (True, "people with labelled keypoints: 0 of 2") in lines(
        [make_set("b", entries, categories=strange)]
    )
