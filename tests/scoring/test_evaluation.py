"""COCO's numbers equal pycocotools' own; what would mislead is refused or warned of."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from builders import DOG
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from posepipe.core.boxes import Detections
from posepipe.core.poses import Poses
from posepipe.core.skeleton import COCO_PERSON
from posepipe.errors import DocumentError, EvaluationError, PosepipeError
from posepipe.io.result_list import read_results
from posepipe.scoring.evaluation import evaluate, evaluate_boxes

REAL = Path(__file__).parents[2] / "../shared/data/annotations/coco_people_val.json"
ESTIMATED = REAL.with_name("lspet_val.json")


def world(seed=0, images=12, people=4, skeleton=COCO_PERSON, category_id=1):
    """A small annotation file as COCO writes them: all sizes, crowds, people without keypoints."""
    random = np.random.default_rng(seed)
    annotations = []
    for image in range(1, images + 1):
        for _ in range(int(random.integers(0, people + 1))):
            x, y = random.integers(0, 300, 2).tolist()
            w, h = random.integers(12, 260, 2).tolist()
            visibility = random.integers(0, 3, len(skeleton))
            if random.random() < 0.2:
                visibility[:] = 0
            xy = [x, y] + random.uniform(0, 1, (len(skeleton), 2)) * [w, h]
            points = np.column_stack([np.round(xy), visibility]) * (visibility > 0)[:, None]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image * 10,
                    "category_id": category_id,
                    "bbox": [x, y, w, h],
                    "area": round(0.6 * w * h + float(random.random()), 3),
                    "iscrowd": int(random.random() < 0.1),
                    "keypoints": points.reshape(-1).tolist(),
                    "num_keypoints": int((visibility > 0).sum()),
                }
            )
    names = list(skeleton.keypoints)
    return {
        "images": [{"id": image * 10} for image in range(1, images + 1)],
        "categories": [{"id": category_id, "name": skeleton.category, "keypoints": names}],
        "annotations": annotations,
    }


def guesses(truth, seed=1, noise=0.05, **extra):
    """Results near the labels, of different quality, some people twice, some poses on nobody."""
    random = np.random.default_rng(seed)
    results = []
    for label in truth["annotations"]:
        for _ in range(int(random.integers(1, 3))):
            points = np.array(label["keypoints"], float).reshape(-1, 3)
            spread = random.uniform(0, 2 * noise) * label["area"] ** 0.5
            points[:, :2] = points[:, :2] + random.normal(0, spread, (len(points), 2))
            if not label["num_keypoints"] or random.random() < 0.1:
                points[:, :2] = random.uniform(0, 400, (len(points), 2))
            points[:, 2] = 0.5
            results.append(
                {
                    "image_id": label["image_id"],
                    "category_id": label["category_id"],
                    "keypoints": np.round(points, 2).reshape(-1).tolist(),
                    "score": round(float(random.uniform(0.1, 1)), 3),
                    **extra,
                }
            )
    return results


def box_guesses(truth, seed=1):
    random = np.random.default_rng(seed)
    return [
        {
            "image_id": label["image_id"],
            "category_id": 1,
            "bbox": (np.array(label["bbox"]) + random.uniform(0, 9, 4)).round(2).tolist(),
            "score": round(float(random.uniform(0.1, 1)), 3),
        }
        for label in truth["annotations"]
        for _ in range(int(random.integers(1, 3)))
    ]


@pytest.fixture
def write(tmp_path):
    def to_file(name, content):
        path = tmp_path / name
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    return to_file


@pytest.fixture
def annotations(write):
    return write("annotations.json", world())


def stats_of_pycocotools(results, annotations, kind="keypoints", image_ids=None, sigmas=None):
    """What somebody gets who follows pycocotools' own example."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(annotations))
        evaluator = COCOeval(truth, truth.loadRes(str(results)), kind)
        if sigmas is not None:
            evaluator.params.kpt_oks_sigmas = np.array(sigmas)
        if image_ids is not None:
            evaluator.params.imgIds = list(image_ids)
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return [None if value == -1 else value for value in evaluator.stats]


def numbers_of(card):
    return [value for _, value in card.numbers]


@pytest.mark.parametrize("seed", range(6))
def test_pose_numbers_equal_pycocotools_to_the_last_digit(write, seed):
    truth = world(seed)
    annotations = write("annotations.json", truth)
    results = write("kps.json", guesses(truth, seed, file_name="a.jpg", box_xyxy=[0, 0, 9, 9]))
    card = evaluate(results, annotations, per_keypoint=False)
    assert 0 < card.ap < 1
    assert numbers_of(card) == stats_of_pycocotools(results, annotations)


@pytest.mark.parametrize("seed", range(3))
def test_box_numbers_equal_pycocotools_to_the_last_digit(write, seed):
    truth = world(seed)
    annotations = write("annotations.json", truth)
    results = write("boxes.json", box_guesses(truth, seed))
    card = evaluate_boxes(results, annotations)
    stats = stats_of_pycocotools(results, annotations, "bbox")
    assert 0 < card.ap < 1
    assert numbers_of(card) == [*stats[:6], *stats[8:]]


def test_numbers_on_real_annotations_equal_pycocotools(write):
    if not REAL.is_file():
        pytest.skip(f"no {REAL}: the shared data is not here")
    results = write("kps.json", guesses(json.loads(REAL.read_text())))
    card = evaluate(results, REAL, per_keypoint=False)
    assert (card.images, card.people) == (44, 133)
    assert numbers_of(card) == stats_of_pycocotools(results, REAL)


def test_perfect_poses_score_1_everywhere(write):
    truth = world()
    perfect = []
    for rank, label in enumerate(truth["annotations"]):
        if label["num_keypoints"] and not label["iscrowd"]:
            left, top, _, _ = label["bbox"]
            points = np.array(label["keypoints"]).reshape(17, 3)
            points[points[:, 2] == 0] = [left, top, 1]  # nobody knows where, but on the person
            entry = {"image_id": label["image_id"], "score": 0.1 + rank, "category_id": 1}
            perfect.append(entry | {"keypoints": points.reshape(-1).tolist()})
    card = evaluate(write("kps.json", perfect), write("annotations.json", truth))
    assert numbers_of(card) == pytest.approx([1.0] * 10)
    assert [score.ap for score in card.per_keypoint] == pytest.approx([1.0] * 17)
    assert card.poses == card.people == len(perfect)


def test_poses_in_memory_give_the_numbers_of_the_file(write, annotations):
    results = guesses(world())
    by_image = {}
    for result in results:
        by_image.setdefault(result["image_id"], []).append(result)
    poses = [
        Poses(
            image_id,
            np.array([entry["keypoints"] for entry in entries]).reshape(-1, 17, 3),
            [entry["score"] for entry in entries],
            np.zeros((len(entries), 4)),
            np.ones(len(entries)),
        )
        for image_id, entries in by_image.items()
    ]
    from_file = evaluate(write("kps.json", results), annotations)
    assert evaluate(iter(poses), annotations) == from_file


def test_detections_in_memory_give_the_numbers_of_the_file(write, annotations):
    boxes = [
        {"image_id": 20, "bbox": [30, 40, 50, 60], "score": 0.5},
        {"image_id": 20, "bbox": [31, 40, 50, 60], "score": 0.25},
        {"image_id": 30, "bbox": [1, 2, 3, 4], "score": 0.75},
    ]
    found = [
        Detections(20, [[30, 40, 80, 100], [31, 40, 81, 100]], [0.5, 0.25]),
        Detections(30, [[1, 2, 4, 6]], [0.75]),
        Detections.none(40),
    ]
    from_list = evaluate_boxes(write("list.json", boxes), annotations)
    from_document = evaluate_boxes(write("boxes.json", {"annotations": boxes}), annotations)
    assert evaluate_boxes(found, annotations) == from_list == from_document
    assert from_list.boxes == 3


def test_a_part_of_the_images_can_be_evaluated(write, annotations):
    results = write("kps.json", guesses(world()))
    part = [20, 30, 50]
    card = evaluate(results, annotations, image_ids=part, per_keypoint=False)
    assert card.images == 3
    assert numbers_of(card) == stats_of_pycocotools(results, annotations, image_ids=part)
    assert any("outside this split" in line for line in card.warnings)


@pytest.mark.parametrize("keypoint", [0, 9])
def test_the_ap_of_a_keypoint_is_pycocotools_ap_on_files_with_this_keypoint_alone(write, keypoint):
    truth = world(7)
    results = guesses(truth, noise=0.02)
    card = evaluate(write("kps.json", results), write("annotations.json", truth))
    numbers = slice(3 * keypoint, 3 * keypoint + 3)
    for entry in results + truth["annotations"]:
        entry["keypoints"] = entry["keypoints"][numbers]
    for label in truth["annotations"]:
        label["num_keypoints"] = int(label["keypoints"][2] > 0)
    with contextlib.redirect_stdout(io.StringIO()):
        alone = COCO(write("alone.json", truth))
        evaluator = COCOeval(alone, alone.loadRes(results), "keypoints")
        evaluator.params.kpt_oks_sigmas = evaluator.params.kpt_oks_sigmas[keypoint : keypoint + 1]
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    assert 0 < evaluator.stats[0] < 1
    assert card.per_keypoint[keypoint].name == COCO_PERSON.keypoints[keypoint]
    assert card.per_keypoint[keypoint].ap == evaluator.stats[0]


def test_numbers_of_any_skeleton_equal_pycocotools_with_its_sigmas(write):
    truth = world(2, skeleton=DOG, category_id=7)
    annotations = write("annotations.json", truth)
    results = write("results.json", guesses(truth))
    card = evaluate(results, annotations, skeleton=DOG)
    assert 0 < card.ap < 1
    assert numbers_of(card) == stats_of_pycocotools(results, annotations, sigmas=DOG.sigmas)
    assert [one.name for one in card.per_keypoint] == list(DOG.keypoints)
    own = dataclasses.replace(DOG, sigmas=(0.03,) * 10)
    assert evaluate(results, annotations, skeleton=own).ap < card.ap


def test_results_that_name_their_skeleton_are_scored_by_it_whatever_their_category_id(write):
    truth = world(2, skeleton=DOG, category_id=7)
    annotations = write("annotations.json", truth)
    results = guesses(truth)
    expected = evaluate(write("results.json", results), annotations, skeleton=DOG)
    named = [{**one, "category_id": 1, "skeleton": dataclasses.asdict(DOG)} for one in results]
    assert evaluate(write("kps.json", named), annotations) == expected


@pytest.mark.parametrize(
    ("changes", "wanted", "message"),
    [
        ({}, None, r"has 30 numbers as keypoints, a coco_person has 51: .*\(--model\)"),
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
    with pytest.raises(EvaluationError, match=message):
        evaluate(results, write("annotations.json", truth), skeleton=wanted)


def test_boxes_of_any_category_are_scored_as_those_of_people(write):
    people, dogs = (world(2, skeleton=DOG, category_id=n) for n in (1, 7))
    people["categories"][0] = {"id": 1, "name": "person"}
    for label in people["annotations"]:
        del label["keypoints"], label["num_keypoints"]
    results = write("boxes.json", box_guesses(people))
    card = evaluate_boxes(results, write("people.json", people))
    assert 0 < card.ap < 1
    truth = write("dogs.json", dogs)
    assert evaluate_boxes(results, truth, skeleton=DOG) == card


def test_results_of_several_skeletons_are_refused(write):
    puppy = dataclasses.replace(DOG, name="puppy")
    results = [
        {**one, "skeleton": dataclasses.asdict(skeleton)}
        for one in guesses(world(2, skeleton=DOG))[:1]
        for skeleton in (puppy, DOG)
    ]
    with pytest.raises(EvaluationError, match=r"several skeletons \(puppy and dog\)"):
        evaluate(write("kps.json", results), write("annotations.json", world(2, skeleton=DOG)))


def test_a_keypoint_that_is_always_wrong_spoils_no_other_keypoint_s_ap(write):
    truth = world(3)
    results = guesses(truth, noise=0.02)
    spoilt = copy.deepcopy(results)
    for result in spoilt:
        result["keypoints"][3 * 5] += 50  # the left shoulder
    annotations = write("annotations.json", truth)
    before = evaluate(write("before.json", results), annotations).per_keypoint
    after = evaluate(write("after.json", spoilt), annotations).per_keypoint
    assert after[5].ap < 0.3 * before[5].ap
    assert [*after[:5], *after[6:]] == [*before[:5], *before[6:]]


def test_nothing_is_printed(write, annotations, capsys):
    evaluate(write("kps.json", guesses(world())), annotations)
    evaluate_boxes(write("boxes.json", box_guesses(world())), annotations)
    assert capsys.readouterr() == ("", "")


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
        (changed(1, keypoints=[1.0] * 50), r"result 1 \(image \d+\) has 50 numbers as keypoints"),
        (changed(1, keypoints=None), r"result 1 \(image \d+\) has no keypoints"),
        (changed(1, score=None), r"result 1 \(image \d+\) has no score"),
        (changed(1, score=float("nan")), r"result 1 .* not finite"),
        (changed(1, keypoints=[float("inf")] * 51), r"result 1 .* not finite"),
        (every(keypoints=[0.2, 0.9, 1.0] * 17), "normalised; multiply x by"),
        (lambda results: [entry.pop("keypoints") for entry in results], "has no keypoints"),
    ],
)
def test_results_that_cannot_be_right_are_refused_in_one_line(write, annotations, change, message):
    results = guesses(world())
    change(results)
    with pytest.raises(EvaluationError, match=message) as error:
        evaluate(write("kps.json", results), annotations)
    assert "\n" not in str(error.value)


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
            lambda results: results.extend([results[0] | {"score": 0.01}] * 25),
            r"images with more than 20 poses: 1; COCO ignores the \d+",
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


def test_a_bbox_beside_the_keypoints_does_not_change_the_numbers(write, annotations):
    plain = evaluate(write("a.json", guesses(world())), annotations)
    boxed = evaluate(write("b.json", guesses(world(), bbox=[0, 0, 300, 300])), annotations)
    assert numbers_of(boxed) == numbers_of(plain)


def test_numbers_by_size_are_not_available_where_areas_are_estimates(write):
    truth = world()
    results, boxes = write("kps.json", guesses(truth)), write("boxes.json", box_guesses(truth))
    for label in truth["annotations"]:
        label["area_is_estimate"] = True
    annotations = write("annotations.json", truth)
    card = evaluate(results, annotations)
    assert (card.ap_medium, card.ap_large, card.ar_medium, card.ar_large) == (None,) * 4
    assert [card.ap, card.ar75] == [stats_of_pycocotools(results, annotations)[i] for i in (0, 7)]
    of_boxes = evaluate_boxes(boxes, annotations)
    assert [value for head, value in of_boxes.numbers if head[-2:] in (" S", " M", " L")] == (
        [None] * 6
    )
    for warnings in (card.warnings, of_boxes.warnings):
        assert any("only estimate people's areas" in line for line in warnings)


def test_real_annotations_with_estimated_areas_have_no_numbers_by_size():
    if not ESTIMATED.is_file():
        pytest.skip(f"no {ESTIMATED}: the shared data is not here")
    card = evaluate([], ESTIMATED, per_keypoint=False)
    assert (card.ap, card.ap_medium, card.people) == (0.0, None, 153)


def test_boxes_of_negative_size_are_refused(write, annotations):
    boxes = [{"image_id": 10, "bbox": [5, 5, -1, 2], "score": 0.5}]
    with pytest.raises(EvaluationError, match="negative width or height"):
        evaluate_boxes(write("boxes.json", boxes), annotations)


def test_poses_where_boxes_should_be_are_refused(write, annotations):
    with pytest.raises(EvaluationError, match="has no bbox"):
        evaluate_boxes(write("kps.json", guesses(world())), annotations)
