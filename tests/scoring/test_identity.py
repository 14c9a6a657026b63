"""Results are matched with labels by what files say, not by the convention of an id."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from builders import annotation, annotation_file, image_entry, keypoints_xyv, save_json

from posepipe.errors import DocumentError, EvaluationError
from posepipe.io.coco import read_annotations
from posepipe.scoring.evaluation import evaluate, evaluate_boxes
from posepipe.scoring.scorecard import ScoreCard

OWN = {"box_xyxy": [10, 20, 40, 60], "box_score": 0.9, "image_root": "in"}


def person(place: int) -> list[float]:
    """17 keypoints that lie elsewhere for every image."""
    return [n + 30 * place * (k % 3 < 2) for k, n in enumerate(keypoints_xyv())]


def labels(path: Path, names: list[str], **changes: Any) -> Path:
    """One person in each image, whose ids are 1…n; the pose tells which image it is."""
    images = [
        image_entry(n, file_name=name, width=999, height=999)
        for n, name in enumerate(names, start=1)
    ]
    people = [
        annotation(n, n, keypoints=person(int(name.rpartition("/")[2][0])), area=900.0)
        for n, name in enumerate(names, start=1)
    ]
    return annotation_file(path, people, images, **changes)


def pose(image_id: object, place: int, **changes: Any) -> dict[str, Any]:
    score = 0.5 + 0.1 * place
    entry = {"image_id": image_id, "category_id": 1, "keypoints": person(place), "score": score}
    return entry | changes


def scored(tmp_path: Path, results: list[dict[str, Any]], truth: Path) -> ScoreCard:
    return evaluate(save_json(tmp_path / "kps.json", results), truth, per_keypoint=False)


def test_images_with_other_ids_are_matched_by_name_and_it_is_said(tmp_path: Path) -> None:
    truth = labels(tmp_path / "a.json", ["2.jpg", "3.jpg", "1.jpg"])
    results = [pose(n, n, file_name=f"{n}.jpg", **OWN) for n in (1, 2, 3)]
    card = scored(tmp_path, results, truth)
    assert card.ap == pytest.approx(1)
    (line,) = [w for w in card.warnings if "other ids" in w]
    assert "3 of 3 (1.jpg: 1, there 3, 2.jpg: 2, there 1, 3.jpg: 3, there 2): matched by" in line
    without_names = [pose(n, n) for n in (1, 2, 3)]
    assert scored(tmp_path, without_names, truth).ap == 0, "then there are the ids alone"


@pytest.mark.parametrize(
    ("listed", "named"),
    [
        ("val2017/1.jpg", "1.jpg"),
        ("1.jpg", "val2017/1.jpg"),
        ("http://example.org/val2017/1.jpg", "1.jpg"),
        (r"val\1.jpg", "1.png"),
    ],
)
def test_names_agree_as_far_as_their_last_parts_do(tmp_path: Path, listed: str, named: str) -> None:
    truth = labels(tmp_path / "a.json", ["2.jpg", listed.replace("\\", "/")])
    assert scored(tmp_path, [pose(7, 1, file_name=named), pose(1, 2)], truth).ap == pytest.approx(1)
    assert scored(tmp_path, [pose(2, 1, file_name=named), pose(1, 2)], truth).warnings == ()


def test_the_longest_common_end_of_a_name_decides(tmp_path: Path) -> None:
    truth = labels(tmp_path / "a.json", ["one/1.jpg", "two/1.jpg", "2.jpg"])
    entries = [pose(8, 1, file_name="in/two/1.jpg"), pose(9, 1, file_name="in/one/1.jpg")]
    assert scored(tmp_path, [*entries, pose(3, 2)], truth).ap == pytest.approx(1)
    ambiguous = [pose(8, 1, file_name="1.jpg"), pose(3, 2)]
    assert "left out: 1 poses on images outside" in " ".join(
        scored(tmp_path, ambiguous, truth).warnings
    )


def test_results_whose_names_are_all_others_are_refused_though_their_ids_are_there(
    tmp_path: Path,
) -> None:
    truth = labels(tmp_path / "a.json", ["1.jpg", "2.jpg"])
    results = [pose(n, n, file_name=f"holiday-{n}.jpg") for n in (1, 2)]
    with pytest.raises(EvaluationError, match=r"none is known .* example holiday-1\.jpg"):
        scored(tmp_path, results, truth)


@pytest.mark.parametrize("key", ["1490", 1490.0, "000000001490", "000000001490.jpg", "x/1490.jpg"])
def test_ids_as_other_programs_write_them(tmp_path: Path, key: object) -> None:
    people = [annotation(1, 1490, keypoints=person(1), area=900.0)]
    name = "1490.jpg" if key == "x/1490.jpg" else "000000001490.jpg"
    truth = annotation_file(tmp_path / "a.json", people, [image_entry(1490, file_name=name)])
    assert scored(tmp_path, [pose(key, 1)], truth).ap == pytest.approx(1)


def test_ids_that_are_text_are_matched_as_text(tmp_path: Path) -> None:
    people = [annotation(1, "cam0", keypoints=person(1), area=900.0)]
    images = [image_entry(1) | {"id": "cam0"}]
    truth = annotation_file(tmp_path / "a.json", people, images)
    assert scored(tmp_path, [pose("cam0", 1)], truth).ap == pytest.approx(1)
    with pytest.raises(EvaluationError, match=r"none is known to .*, which lacks for example cam1"):
        scored(tmp_path, [pose("cam1", 1)], truth)


PERSON_0 = [{"id": 0, "name": "person"}]
PERSON_3 = [{"id": 1, "name": "car"}, {"id": 3, "name": "person"}]


@pytest.mark.parametrize(
    ("categories", "given", "own", "counts"),
    [
        (PERSON_0, 0, False, True),
        (PERSON_0, 1, False, True),
        (PERSON_0, 1, True, True),
        (PERSON_0, None, False, True),
        (PERSON_0, 7, False, False),
        (PERSON_3, 3, False, True),
        (PERSON_3, 1, False, False),
        (PERSON_3, 1, True, True),
        ([{"id": 1, "name": "person"}], 0, False, False),
    ],
)
def test_which_category_is_a_persons_is_the_annotation_files_to_say(
    tmp_path: Path, categories: list[dict[str, Any]], given: int | None, own: bool, counts: bool
) -> None:
    id_ = next(c["id"] for c in categories if c["name"] == "person")
    people = [annotation(1, 1, category_id=id_, keypoints=person(1), area=900.0)]
    images = [image_entry(1, file_name="1.jpg")]
    truth = annotation_file(tmp_path / "a.json", people, images, categories=categories)
    extra = {"file_name": "1.jpg", **OWN} if own else {}
    results = [pose(1, 1, category_id=given, **extra)]
    if counts:
        assert scored(tmp_path, results, truth).ap == pytest.approx(1)
    else:
        with pytest.raises(EvaluationError, match=f"id is {given}, a person's is {id_} in"):
            scored(tmp_path, results, truth)
    boxes = [{"image_id": 1, "category_id": given, "bbox": [10, 20, 30, 40], "score": 0.9}]
    document = {"images": images, "annotations": boxes, "info": {"tool": "posepipe"} if own else {}}
    path = save_json(tmp_path / "boxes.json", document)
    if counts:
        assert evaluate_boxes(path, truth).ap == pytest.approx(1)
    else:
        with pytest.raises(EvaluationError, match="none of the 1 boxes"):
            evaluate_boxes(path, truth)


def test_people_of_two_categories_named_person_all_count(tmp_path: Path) -> None:
    people = [annotation(n, n, category_id=n, keypoints=person(n), area=900.0) for n in (1, 2)]
    categories = [{"id": 1, "name": "person"}, {"id": 2, "name": "person"}]
    truth = annotation_file(tmp_path / "a.json", people, categories=categories)
    card = scored(tmp_path, [pose(1, 1), pose(2, 2, category_id=2)], truth)
    assert (card.people, card.ap) == (2, pytest.approx(1))
    assert "categories named 'person': 2 of 2" in card.warnings[0]


def test_an_area_of_0_does_not_make_perfect_poses_worth_nothing(tmp_path: Path) -> None:
    people = [annotation(1, 1, keypoints=person(1), area=0), annotation(2, 2, bbox=[1, 1, 0, 0])]
    truth = annotation_file(tmp_path / "a.json", people)
    card = scored(tmp_path, [pose(1, 1)], truth)
    assert card.ap is not None
    assert card.ap > 0
    assert card.ap_medium is card.ap_large is None, "their sizes are not known"
    assert any("without a usable area" in line for line in card.warnings)


@pytest.mark.parametrize("shift", [0, 0.3, -0.6])
def test_a_person_who_is_labelled_twice_counts_once(tmp_path: Path, shift: float) -> None:
    box = [10 + shift, 20, 30, 40 + shift]
    people = [
        annotation(1, 1, keypoints=person(1), area=900.0),
        annotation(2, 1, keypoints=person(1), area=900.0, bbox=box),
    ]
    card = scored(tmp_path, [pose(1, 1)], annotation_file(tmp_path / "a.json", people))
    assert (card.people, card.ap) == (1, pytest.approx(1))
    assert "labelled twice: 1 of 2 (annotation 2 as 1): counted once" in card.warnings[0]


@pytest.mark.parametrize(
    "changes",
    [
        {"bbox": [10, 20, 32, 40]},
        {"keypoints": [*person(1)[:-3], 0, 0, 0]},
        {"image_id": 2},
        {"iscrowd": 1},
    ],
)
def test_people_who_only_look_alike_all_count(tmp_path: Path, changes: dict[str, object]) -> None:
    people = [annotation(n, 1, keypoints=person(1), area=900.0) for n in (1, 2)]
    people[1] |= changes | {"num_keypoints": None}
    truth = annotation_file(tmp_path / "a.json", people)
    card = scored(tmp_path, [pose(1, 1)], truth)
    assert not any("labelled twice" in line for line in card.warnings)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"area": 0.0625}, "whose area does not fit their box: 2 of 2"),
        ({"area": 1.0}, "whose area does not fit their box: 2 of 2"),
        ({"area": 1e6}, "whose area does not fit their box: 2 of 2"),
        ({"bbox": [0.1, 0.2, 0.3, 0.4], "area": 900.0}, "smaller than 2 pixels: 2 of 2"),
        ({"bbox": [80, 20, 9, 9]}, "none of whose labelled keypoints is in or near their box"),
        ({"iscrowd": 3}, "whose iscrowd is neither 0 nor 1: 2 of 2"),
    ],
)
def test_labels_that_cannot_be_right_are_told(
    tmp_path: Path, changes: dict[str, object], says: str
) -> None:
    people = [annotation(n, n, keypoints=person(1), area=900.0) | changes for n in (1, 2)]
    card = scored(tmp_path, [pose(1, 1)], annotation_file(tmp_path / "a.json", people))
    assert any(says in line for line in card.warnings), card.warnings


def test_num_keypoints_that_contradicts_the_visibilities_does_not_count(tmp_path: Path) -> None:
    people = [
        annotation(1, 1, keypoints=person(1), area=900.0, num_keypoints=0),
        annotation(2, 2, keypoints=[0] * 51, area=900.0, num_keypoints=17),
    ]
    card = scored(tmp_path, [pose(1, 1)], annotation_file(tmp_path / "a.json", people))
    assert (card.people, card.ap) == (1, pytest.approx(1))


@pytest.mark.parametrize(
    "names",
    [
        [f"Joint-{n}" for n in range(17)],
        [f"point {n}" for n in range(14)],
        ["nose", "right_eye", "left_eye", *(f"x{n}" for n in range(14))],
    ],
)
def test_keypoints_of_other_names_are_refused(tmp_path: Path, names: list[str]) -> None:
    categories = [{"id": 1, "name": "person", "keypoints": names}]
    truth = labels(tmp_path / "a.json", ["1.jpg"], categories=categories)
    with pytest.raises(DocumentError, match="keypoints of 'person' that are others than coco_p"):
        scored(tmp_path, [pose(1, 1)], truth)


def test_the_spelling_of_keypoints_does_not_matter_nor_do_numbers(tmp_path: Path) -> None:
    from posepipe.core.skeleton import COCO_PERSON

    spelt = [name.replace("_", " ").title() for name in COCO_PERSON.keypoints]
    for names in (spelt, [str(n) for n in range(1, 18)], []):
        categories = [{"id": 1, "name": "person", "keypoints": names}]
        truth = labels(tmp_path / "a.json", ["1.jpg"], categories=categories)
        assert scored(tmp_path, [pose(1, 1)], truth).ap == pytest.approx(1)


def test_annotations_that_were_read_already_are_not_read_again(tmp_path: Path) -> None:
    truth = labels(tmp_path / "a.json", ["1.jpg", "2.jpg"])
    annotations = read_annotations(truth)
    results = save_json(tmp_path / "kps.json", [pose(1, 1), pose(2, 2)])
    of_file = evaluate(results, truth)
    truth.unlink()
    assert evaluate(results, annotations) == of_file
