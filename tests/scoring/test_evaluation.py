"""COCO's numbers equal pycocotools' own."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import io
import json
from pathlib import Path

import numpy as np
import pytest
from builders import DOG
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from scored import box_guesses, guesses, numbers_of, stats_of_pycocotools, world

from posepipe.core.boxes import Detections
from posepipe.core.poses import Poses
from posepipe.core.skeleton import COCO_PERSON
from posepipe.scoring.evaluation import evaluate, evaluate_boxes

REAL = Path(__file__).parents[2] / "../shared/data/annotations/coco_people_val.json"
ESTIMATED = REAL.with_name("lspet_val.json")


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
