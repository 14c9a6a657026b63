"""What would mislead in an evaluation is refused or warned of."""

from __future__ import annotations

import dataclasses
import re

import pytest
from builders import DOG
from scored import box_guesses, guesses, numbers_of, world

from posepipe.core.skeleton import COCO_PERSON
from posepipe.errors import DocumentError, EvaluationError, PosepipeError
from posepipe.io.result_list import read_results
from posepipe.scoring.evaluation import evaluate, evaluate_boxes


@pytest.mark.parametrize(
    ("changes", "wanted", "message"),
    [
        ({}, None, r"has 30 numbers as keypoints, not 51.*'coco_person' not their .*--model"),
        (
            {"skeleton": dataclasses.asdict(DOG)},
            COCO_PERSON,
            "those of 'dog', not of 'coco_person'",
        ),
    ],
)
def test_results_of_another_skeleton_than_asked_for_are_refused(write, changes, wanted, message):
    truth = world(2, skeleton=DOG)
    results = write("results.json", guesses(truth, **changes))
    with pytest.raises(PosepipeError, match=message):
        evaluate(results, write("annotations.json", truth), skeleton=wanted)


def test_results_of_several_skeletons_are_refused(write):
    puppy = dataclasses.replace(DOG, name="puppy")
    results = [
        {**one, "skeleton": dataclasses.asdict(skeleton)}
        for one in guesses(world(2, skeleton=DOG))[:1]
        for skeleton in (puppy, DOG)
    ]
    with pytest.raises(EvaluationError, match=r"several skeletons \(puppy and dog\)"):
        evaluate(write("kps.json", results), write("annotations.json", world(2, skeleton=DOG)))


@pytest.mark.parametrize("results", ["[]", [], ()])
def test_no_poses_at_all_score_0_with_a_warning(write, annotations, results):
    card = evaluate(write("kps.json", results) if results == "[]" else results, annotations)
    assert set(numbers_of(card)) == {0.0}
    assert card.warnings == ("the results hold no poses: every number is 0",)


def test_no_boxes_at_all_score_0_with_a_warning(write, annotations):
    card = evaluate_boxes(write("boxes.json", {"annotations": []}), annotations)
    assert (card.ap, card.ar, card.boxes) == (0.0, 0.0, 0)
    assert card.warnings == ("the results hold no boxes: every number is 0",)


def test_annotations_without_people_give_no_numbers(write):
    truth = world() | {"annotations": []}
    result = guesses(world())[:1]
    card = evaluate(write("kps.json", result), write("annotations.json", truth))
    assert set(numbers_of(card)) == {None}
    assert any("no people that count" in line for line in card.warnings)


def test_sound_results_give_no_warning(write, annotations):
    assert evaluate(write("kps.json", guesses(world())), annotations).warnings == ()


def changed(index, **values):
    """A function that changes one entry of a result list."""

    def change(results):
        results[index] = {
            key: value for key, value in (results[index] | values).items() if value is not None
        }

    return change


def moved(result, x):
    """A pose of low score at another place."""
    points = [
        value + x if index % 3 == 0 else value for index, value in enumerate(result["keypoints"])
    ]
    return result | {"keypoints": points, "score": 0.01}


def every(**values):
    def change(results):
        for result in results:
            result.update(values)

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (every(image_id=7), r"images none is known to .*, which lacks for example 7"),
        (changed(2, image_id=7), r"only \d+ are known to .*, which lacks for example 7"),
        (every(keypoints=[0.2, 0.9, 1.0] * 17), "normalised; multiply x by"),
        (every(keypoints=[1.0] * 50), r"33 of 33 \(\[0\] has 50 numbers as keypoints, not 51"),
        (every(score=None), r"poses that cannot be used: 33 of 33 \(\[0\] has no score"),
        (lambda results: [entry.pop("keypoints") for entry in results], "has no keypoints"),
    ],
)
def test_results_that_cannot_be_right_are_refused_in_one_line(write, annotations, change, message):
    results = guesses(world())
    change(results)
    with pytest.raises(PosepipeError, match=message) as error:
        evaluate(write("kps.json", results), annotations)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"keypoints": [1.0] * 50}, "has 50 numbers as keypoints, not 51"),
        ({"keypoints": None}, "has no keypoints"),
        ({"score": None}, "has no score"),
        ({"score": float("nan")}, "has a number that is not finite"),
        ({"score": float("inf")}, "has a number that is not finite"),
        ({"score": 1e308}, "has a number that is not finite"),
        ({"keypoints": [float("inf")] * 51}, "has a number that is not finite"),
        ({"keypoints": [float("nan"), 5.0, 1.0] * 17}, "has a number that is not finite"),
    ],
)
def test_a_pose_that_cannot_be_right_is_left_out_and_the_rest_is_scored(
    write, annotations, values, why
):
    results = guesses(world())
    sound = evaluate(write("sound.json", results[:1] + results[2:]), annotations)
    results[1].update(values)
    card = evaluate(write("kps.json", results), annotations)
    assert numbers_of(card) == numbers_of(sound)
    (warning,) = card.warnings
    assert f"kps.json: poses that cannot be used: 1 of 33 ([1] {why}" in warning
    assert ": left out" in warning


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"bbox": [5, 5, -1, 2]}, "has a bbox of negative width or height, [5.0, 5.0, -1.0, 2.0]"),
        ({"bbox": None, "keypoints": [1.0] * 51}, "has no bbox"),
        ({"bbox": [5, 5, float("nan"), 2]}, "has a number that is not finite"),
        ({"score": None}, "has no score"),
    ],
)
def test_a_box_that_cannot_be_right_is_left_out_and_the_rest_is_scored(
    write, annotations, values, why
):
    results = box_guesses(world())
    sound = evaluate_boxes(write("sound.json", results[:1] + results[2:]), annotations)
    results[1].update(values)
    card = evaluate_boxes(write("boxes.json", results), annotations)
    assert (card.ap, card.ar, card.boxes) == (sound.ap, sound.ar, sound.boxes)
    (warning,) = card.warnings
    assert f"boxes that cannot be used: 1 of {len(results)} ([1] {why}" in warning


def test_the_keypoints_of_a_result_may_be_large_in_sum(write, annotations):
    results = guesses(world())
    results[0]["keypoints"] = [9e6, 9e6, 0.5] * 17
    assert evaluate(write("kps.json", results), annotations).poses == len(results)


@pytest.mark.parametrize("wrap", [list, lambda boxes: {"annotations": boxes}])
def test_boxes_where_keypoints_should_be_are_refused(write, annotations, wrap):
    path = write("boxes.json", wrap(box_guesses(world())))
    assert read_results(path).holds_boxes
    with pytest.raises(EvaluationError, match="holds boxes, not keypoints"):
        evaluate(path, annotations)


def test_poses_and_nothing_are_not_boxes(write):
    assert not read_results(write("kps.json", guesses(world(), bbox=[0, 0, 1, 1]))).holds_boxes
    assert not read_results(write("empty.json", [])).holds_boxes


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is not JSON"),
        ("[1, 2]", r"cannot be read: 2 of 2 \(\[0\] is 1, \[1\] is 2\)"),
        ('[{"score": 1}]', "image_id"),
        ('[{"image_id": null}]', r"\[0\].image_id is null"),
        ('{"images": []}', "annotations"),
        ('{"annotations": [{"image_id": 1, "keypoints": [1, 2, 0]}]}', "is an annotation file"),
    ],
)
def test_a_result_file_of_another_shape_is_refused_in_one_line(
    write, annotations, content, message
):
    with pytest.raises(DocumentError, match=message) as error:
        evaluate(write("kps.json", content), annotations)
    assert "\n" not in str(error.value)


def test_a_missing_file_is_named(tmp_path, annotations):
    with pytest.raises(DocumentError, match=r"nowhere\.json"):
        evaluate(tmp_path / "nowhere.json", annotations)
    with pytest.raises(DocumentError, match=r"nowhere\.json"):
        evaluate([], tmp_path / "nowhere.json")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda truth: truth.update(images=[], annotations=[]), "has no images"),
        (lambda truth: truth.update(images=[]), "of images that are not listed: 23 of 23"),
        (lambda truth: truth.update(categories=[{"id": 1, "name": "cat"}]), "0 of 1 .cat."),
        (lambda truth: [a.pop("keypoints") for a in truth["annotations"]], "no keypoints"),
        (lambda truth: [a.update(keypoints=[1, 2, 2]) for a in truth["annotations"]], "3 numbers"),
    ],
)
def test_annotations_that_cannot_be_used_are_refused(write, change, message):
    truth = world()
    change(truth)
    with pytest.raises(PosepipeError, match=message):
        evaluate([], write("annotations.json", truth))


def test_images_that_the_annotations_lack_cannot_be_asked_for(annotations):
    with pytest.raises(EvaluationError, match=r"lacks 1 of the 2 images asked for, such as 11"):
        evaluate([], annotations, image_ids=[10, 11])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (every(score=0.5), r"all \d+ scores are 0\.5"),
        (every(bbox=[0, 0, 5, 5]), r"poses with a bbox: \d+; it was ignored"),
        (changed(0, category_id=2), "left out: 1 poses of other categories"),
        (
            lambda results: results.extend(moved(results[0], x) for x in range(1, 26)),
            r"images with more than 20 poses: 1; COCO ignores the \d+",
        ),
        (
            lambda results: results.extend([results[0] | {"score": 0.01}] * 3),
            r"poses that are in the results again: 3 of 36; COCO counts each as wrong",
        ),
        (
            lambda results: results.__delitem__(slice(3, None)),
            r"images without any pose: \d+ of 12, \d+ of them with labelled people",
        ),
    ],
)
def test_what_may_mislead_is_warned_of_in_one_line(write, annotations, change, message):
    results = guesses(world())
    change(results)
    (warning,) = evaluate(write("kps.json", results), annotations, per_keypoint=False).warnings
    assert re.search(message, warning)
    assert "\n" not in warning


def test_poses_where_boxes_should_be_are_refused(write, annotations):
    with pytest.raises(DocumentError, match="has no bbox"):
        evaluate_boxes(write("kps.json", guesses(world())), annotations)
