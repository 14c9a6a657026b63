"""Files as other programs write them mean what they say, and what is odd is told once."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import annotation, annotation_file, image_entry, keypoints_xyv, save_json

from posepipe.core.skeleton import COCO_PERSON
from posepipe.errors import DocumentError
from posepipe.io import entries
from posepipe.io.coco import Annotations, read_coco
from posepipe.io.result_list import ResultEntry, read_results

NAN = float("nan")


def read(path: Path) -> tuple[Annotations, list[str]]:
    """The people of a file, and the findings without the file's name."""
    people = read_coco(path).people()
    return people, [finding.message.removeprefix(f"{path}: ") for finding in people.findings]


def two(**changes: Any) -> list[dict[str, Any]]:
    """Two people in two images, the first with changes."""
    return [annotation(1, 1) | changes, annotation(2, 2, bbox=[1, 2, 30, 40])]


def assert_same(one: Annotations, other: Annotations) -> None:
    assert one.images == other.images
    assert one.person_ids == other.person_ids
    for name in ("boxes_xywh", "keypoints", "areas", "area_is_estimate", "is_crowd"):
        np.testing.assert_array_equal(getattr(one.people, name), getattr(other.people, name))
    assert [e.id for e in one.people.entries] == [e.id for e in other.people.entries]
    assert one.provenance == other.provenance


@pytest.mark.parametrize(
    "change",
    [
        {"id": 1.0},
        {"id": "1"},
        {"image_id": 1.0},
        {"image_id": "1"},
        {"image_id": "000000000001"},
        {"image_id": True},
        {"category_id": "1"},
        {"category_id": 1.0},
        {"category_id": "person"},
        {"category_id": None},
        {"iscrowd": False},
        {"iscrowd": None},
        {"iscrowd": "0"},
        {"num_keypoints": 17.0},
        {"num_keypoints": None},
        {"bbox": ["10", 20, 30.0, "40"]},
        {"area": "500"},
        {"keypoints": [[10.0 + k, 20.0 + k, 2] for k in range(17)]},
        {"keypoints": [str(number) for number in keypoints_xyv()]},
    ],
)
def test_numbers_of_another_type_mean_the_same(tmp_path: Path, change: dict[str, Any]) -> None:
    plain, _ = read(
        annotation_file(tmp_path / "plain.json", two(), [image_entry(1), image_entry(2)])
    )
    images = [image_entry(1, width=100.0, height="80"), image_entry(2, width=None) | {"id": "2"}]
    path = annotation_file(tmp_path / "a.json", two(**change), images)
    people, findings = read(path)
    assert findings == []
    assert people.images[0] == plain.images[0]
    assert people.images[1].id == 2
    assert not people.images[1].has_size
    np.testing.assert_array_equal(people.people.keypoints, plain.people.keypoints)
    np.testing.assert_array_equal(people.people.boxes_xywh, plain.people.boxes_xywh)
    assert people.people.areas.tolist() == plain.people.areas.tolist() == [500, 500]
    assert len(people.labels_by_image[1]) == len(people.labels_by_image[2]) == 1


def test_both_ways_of_reading_agree_on_files_as_coco_has_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    people = [
        annotation(7, 2, pseudo_keypoints=[3], box_source="teacher", box_score=0.5),
        annotation(3, 1, iscrowd=1, area=None, keypoints=None),
        annotation(4, 1, bbox=[0.1, 0.2, 0.3, 0.4], area_is_estimate=True, num_keypoints=None),
        annotation(5, 9, category_id=7),
    ]
    person = {
        "id": 1,
        "name": "person",
        "keypoints": list(COCO_PERSON.keypoints),
        "skeleton": [[1, 2]],
    }
    categories = [person, {"id": 7, "name": "dog"}]
    path = annotation_file(tmp_path / "a.json", people, categories=categories)
    strictly = read_coco(path)
    monkeypatch.setattr(entries, "as_kind", lambda *_: None)
    leniently = read_coco(path)
    assert strictly.entries.categories == leniently.entries.categories
    assert_same(strictly.people(), leniently.people())
    assert_same_things(strictly, leniently)


def assert_same_things(one: Any, other: Any) -> None:
    for image in one.entries.images:
        labels = [file.instances().labels_by_image[image.id] for file in (one, other)]
        np.testing.assert_array_equal(labels[0].boxes_xyxy, labels[1].boxes_xyxy)
        np.testing.assert_array_equal(labels[0].category_ids, labels[1].category_ids)


def test_ids_that_are_text_or_too_large_are_numbered(tmp_path: Path) -> None:
    ids = ["cam0", 5, 2**63, "2"]
    people = [
        annotation(n, image_id, bbox=[n, 2, 30, 40]) for n, image_id in enumerate(ids, start=1)
    ]
    images = [image_entry(5, file_name=f"{n}.jpg") | {"id": id_} for n, id_ in enumerate(ids)]
    annotations, findings = read(annotation_file(tmp_path / "a.json", people, images))
    assert [image.id for image in annotations.images] == [1, 5, 3, 2]
    assert annotations.text_ids == {"cam0": 1, str(2**63): 3}
    found = {i: labels.boxes_xyxy[0, 0] for i, labels in annotations.labels_by_image.items()}
    assert found == {1: 1, 5: 2, 3: 3, 2: 4}
    (line,) = findings
    assert line.startswith("image ids that are text, or too large: 2 of 4 (cam0, 92233720368547")


def test_nan_counts_only_where_something_is_labelled(tmp_path: Path) -> None:
    numbers = keypoints_xyv(3)
    numbers[9:12] = [NAN, NAN, 0]
    numbers[3:6] = [NAN, 21, 2]
    people = two(keypoints=numbers, num_keypoints=2, area=NAN)
    annotations, findings = read(annotation_file(tmp_path / "a.json", people))
    assert annotations.labels_by_image[1].visibility[0, :4].tolist() == [2, 0, 2, 0]
    assert annotations.labels_by_image[1].keypoints_xy[0, 1:4].tolist() == [
        [0, 0],
        [12, 22],
        [0, 0],
    ]
    assert annotations.labels_by_image[1].areas.tolist() == [1200], "the box's"
    assert findings == [
        "people with labelled keypoints at NaN or beyond any image: 1 of 2 (annotation 1): those "
        "keypoints count as not labelled",
        "people with labelled keypoints without a usable area: 1 of 2 (annotation 1): the "
        "areas of their boxes are used instead",
    ]


@pytest.mark.parametrize("number", [NAN, float("inf"), 1e308, -1e308])
def test_a_box_without_end_is_left_out(tmp_path: Path, number: float) -> None:
    path = annotation_file(tmp_path / "a.json", two(bbox=[10, number, 30, 40]))
    annotations, findings = read(path)
    assert [len(annotations.labels_by_image[n]) for n in (1, 2)] == [0, 1]
    assert len(read_coco(path).instances().labels_by_image[1]) == 0
    assert findings == [
        "boxes with NaN or numbers beyond any image: 1 of 2 (annotation 1): left out"
    ]


def test_a_keypoint_beyond_any_image_counts_as_not_labelled(tmp_path: Path) -> None:
    path = annotation_file(tmp_path / "a.json", two(keypoints=[1e308, 5, 2, *keypoints_xyv()[3:]]))
    annotations, findings = read(path)
    assert annotations.labels_by_image[1].visibility[0].tolist() == [0] + [2] * 16
    assert len(findings) == 2


@pytest.mark.parametrize(
    ("given", "meant"),
    [(3, 2), (-1, 0), (True, 1), (0.5, 2), (2.0, 2), (None, 0)],
)
def test_visibilities_of_other_programs(tmp_path: Path, given: Any, meant: int) -> None:
    numbers = [10, 20, given, *keypoints_xyv()[3:6], *[0, 0, 3], *[0] * 42]
    people = two(keypoints=numbers, num_keypoints=None)
    annotations, findings = read(annotation_file(tmp_path / "a.json", people))
    assert annotations.labels_by_image[1].visibility[0].tolist() == [meant, 2, 0] + [0] * 14
    assert [line.partition(":")[0] for line in findings] == [
        "people with a visibility other than 0, 1, 2"
    ]


@pytest.mark.parametrize("area", [0, -5, NAN, None])
def test_an_area_of_nothing_is_the_boxs(tmp_path: Path, area: float | None) -> None:
    path = save_json(
        tmp_path / "a.json",
        {"images": [image_entry(1), image_entry(2)], "annotations": two(area=area)},
    )
    annotations, findings = read(path)
    assert annotations.people.areas.tolist() == [1200, 500]
    assert annotations.people.area_is_estimate.tolist() == [True, False]
    assert "areas of their boxes are used instead" in findings[0]


def test_the_visibilities_say_how_many_keypoints_are_labelled(tmp_path: Path) -> None:
    people = [
        annotation(1, 1, num_keypoints=0),
        annotation(2, 2, num_keypoints=17, keypoints=keypoints_xyv(0)),
        annotation(3, 3, keypoints=keypoints_xyv(5), num_keypoints=5),
    ]
    _, findings = read(annotation_file(tmp_path / "a.json", people))
    assert findings == [
        "people whose num_keypoints is not the number of their labelled keypoints: 2 of 3 "
        "(annotation 1: 0, not 17, annotation 2: 17, not 0): the labelled ones were counted"
    ]


def test_different_things_with_one_id_are_renumbered_and_repetitions_left_out(
    tmp_path: Path,
) -> None:
    people = [
        annotation(5, 1),
        annotation(5, 1, bbox=[50, 20, 30, 40]),
        annotation(5, 1),
        annotation(1, 2, area_is_estimate=True),
    ]
    annotations, findings = read(annotation_file(tmp_path / "a.json", people))
    assert [entry.id for entry in annotations.people.entries] == [5, 2, 1]
    assert annotations.labels_by_image[1].boxes_xyxy[:, 0].tolist() == [10, 50]
    assert list(annotations.provenance) == [1]
    assert [line.partition(":")[0] for line in findings] == [
        "annotations that are listed twice",
        "annotation ids that are used twice",
    ]


Categories = list[dict[str, Any]]


@pytest.mark.parametrize(
    ("categories", "ids", "told"),
    [
        ([{"id": 0, "name": "person"}], {0}, ""),
        ([{"id": 3, "name": "Person "}], {3}, ""),
        ([{"id": "4", "name": "person"}], {4}, ""),
        ([{"id": 1, "name": "dog"}, {"id": 9, "name": "person"}], {9}, ""),
        ([{"id": 2, "name": "person"}, {"id": 5, "name": "person"}], {2, 5}, "(id 2, id 5)"),
        ([], {7}, "id 7): taken for 'person'"),
        (
            [{"id": 6, "name": "human", "keypoints": list(COCO_PERSON.keypoints)}],
            {6},
            "'human'): used because they have its keypoints",
        ),
    ],
)
def test_the_file_says_which_category_people_have(
    tmp_path: Path, categories: Categories, ids: set[int], told: str
) -> None:
    people = [
        annotation(n, 1, category_id=id_, bbox=[n, 1, 30, 30]) for n, id_ in enumerate(ids, 1)
    ]
    annotations, findings = read(
        annotation_file(tmp_path / "a.json", people, categories=categories)
    )
    assert annotations.person_ids == ids
    assert len(annotations.labels_by_image[1]) == len(ids)
    assert told in " ".join(findings)
    assert bool(told) == bool(findings)


def test_most_being_unusable_is_fatal_and_some_is_not(tmp_path: Path) -> None:
    def broken(count: int) -> Path:
        people = [
            annotation(n, n, bbox=[1, 2] if n <= count else [1, 2, 30, 40]) for n in range(1, 5)
        ]
        return annotation_file(tmp_path / "a.json", people)

    (finding,) = read_coco(broken(2)).people().findings
    assert not finding.fatal
    assert (
        "annotations that cannot be read: 2 of 4 (annotations[0].bbox is [1, 2]: left"
        in finding.line
    )
    (finding,) = read_coco(broken(3)).people().findings
    assert finding.fatal


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ([], "this is a list"),
        (7, "this is 7"),
        ({"annotations": []}, "it has no list of images, `images`"),
        ({"images": {}}, "`images` is {}, not a list"),
        ({"images": [], "annotations": "none"}, '`annotations` is "none", not a list'),
    ],
)
def test_what_is_no_annotation_file_is_refused_in_our_own_words(
    tmp_path: Path, value: object, reason: str
) -> None:
    path = save_json(tmp_path / "a.json", value)
    with pytest.raises(DocumentError, match="is not a COCO annotation file") as caught:
        read_coco(path)
    assert reason in str(caught.value)
    for foreign in ("Expected", "`int`", "$"):
        assert foreign not in str(caught.value)


# --- result lists

BOX = {"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5}


@pytest.mark.parametrize(
    ("change", "field", "meant"),
    [
        ({"image_id": 1490.0}, "image_id", 1490),
        ({"image_id": "000000001490"}, "image_id", 1490),
        ({"image_id": "000000001490.jpg"}, "image_id", "000000001490.jpg"),
        ({"image_id": 2**63}, "image_id", str(2**63)),
        ({"image_id": 2**63 - 1}, "image_id", 2**63 - 1),
        ({"category_id": "3"}, "category_id", 3),
        ({"category_id": None}, "category_id", None),
        ({"score": "0.25"}, "score", 0.25),
        ({"score": True}, "score", 1.0),
        ({"bbox": ["1", 2, 3.0, 4]}, "bbox", (1.0, 2.0, 3.0, 4.0)),
    ],
)
def test_entries_of_results_are_read_leniently(
    tmp_path: Path, change: dict[str, Any], field: str, meant: object
) -> None:
    results = read_results(save_json(tmp_path / "list.json", [BOX, BOX | change]))
    assert results.findings == ()
    assert getattr(results.entries[1], field) == meant
    assert results.entries[0].score == 0.5


def test_nan_and_entries_that_mean_nothing(tmp_path: Path) -> None:
    entries_of: Callable[..., Any] = lambda *values: read_results(  # noqa: E731
        save_json(tmp_path / "list.json", list(values))
    )
    assert np.isnan(entries_of(BOX | {"score": NAN}).entries[0].score)
    results = entries_of(BOX, BOX, BOX | {"bbox": "all"})
    assert len(results.entries) == 2
    assert (
        '1 of 3 ([2].bbox is "all": left, top, width, height is needed)' in results.findings[0].line
    )


def test_a_file_of_another_order_of_fields_and_with_a_mark_is_the_same(tmp_path: Path) -> None:
    path = annotation_file(tmp_path / "a.json", two())
    document = json.loads(path.read_bytes())
    other = tmp_path / "b.json"
    text = json.dumps(dict(reversed(document.items())), indent=1)
    other.write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert_same(read(path)[0], read(other)[0])


def test_a_list_that_is_read_leniently_says_no_more_than_it_does(tmp_path: Path) -> None:
    entry = read_results(save_json(tmp_path / "list.json", [BOX | {"image_id": "1"}])).entries[0]
    assert entry == ResultEntry(1, 1, 0.5, None, (1.0, 2.0, 3.0, 4.0))
