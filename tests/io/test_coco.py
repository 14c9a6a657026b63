from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import (
    DOG,
    annotation,
    annotation_file,
    image_entry,
    keypoints_xyv,
    save_image,
    save_json,
)

from posepipe.errors import DocumentError, ImageError
from posepipe.io.coco import (
    Provenance,
    image_files,
    labelled_boxes,
    read_annotations,
    read_instances,
)


def test_a_file_without_people_has_images_without_people(tmp_path: Path) -> None:
    path = annotation_file(tmp_path / "a.json", images=[image_entry(5), image_entry(3)])
    annotations = read_annotations(path)
    assert [image.id for image in annotations.images] == [5, 3]
    assert annotations.images[0].size_wh == (100, 80)
    for image_id in (5, 3):
        labels = annotations.labels_by_image[image_id]
        assert labels.image_id == image_id
        assert labels.keypoints_xy.shape == (0, 17, 2)
        assert labels.boxes_xyxy.shape == (0, 4)
    assert [len(found) for found in labelled_boxes(annotations)] == [0, 0]


def test_an_empty_file_is_legal(tmp_path: Path) -> None:
    annotations = read_annotations(annotation_file(tmp_path / "a.json"))
    assert len(annotations) == 0
    assert labelled_boxes(annotations) == []


def test_labels_are_read_as_they_stand(tmp_path: Path) -> None:
    people = [
        annotation(11, 2, bbox=[1.5, 2, 3, 4], area=7.25, keypoints=keypoints_xyv(2)),
        annotation(12, 1, iscrowd=1, area=None),
        annotation(13, 2),
    ]
    annotations = read_annotations(annotation_file(tmp_path / "a.json", people))
    labels = annotations.labels_by_image[2]
    assert labels.annotation_ids.tolist() == [11, 13]
    assert labels.boxes_xyxy.tolist() == [[1.5, 2, 4.5, 6], [10, 20, 40, 60]]
    assert labels.areas.tolist() == [7.25, 500]
    assert labels.visibility[0].tolist() == [2, 2] + [0] * 15
    assert labels.keypoints_xy[0, :3].tolist() == [[10, 20], [11, 21], [0, 0]]
    crowd = annotations.labels_by_image[1]
    assert crowd.is_crowd.tolist() == [True]
    assert crowd.areas.tolist() == [1200], "without an area, the box's"
    assert not labels.is_crowd.any()


def test_the_position_of_a_keypoint_that_is_not_labelled_is_zero(tmp_path: Path) -> None:
    numbers = [33.0, 44.0, 0, *keypoints_xyv()[3:]]
    path = annotation_file(tmp_path / "a.json", [annotation(keypoints=numbers)])
    assert read_annotations(path).labels_by_image[1].keypoints_xy[0, 0].tolist() == [0, 0]


def test_other_categories_are_left_out(tmp_path: Path) -> None:
    people = [annotation(1, category_id=7), annotation(2, category_id=1)]
    categories = [{"id": 1, "name": "dog"}, {"id": 7, "name": "person"}]
    path = annotation_file(tmp_path / "a.json", people, categories=categories)
    assert read_annotations(path).labels_by_image[1].annotation_ids.tolist() == [1]


def test_an_instances_file_has_people_without_keypoints(tmp_path: Path) -> None:
    path = annotation_file(tmp_path / "a.json", [annotation(keypoints=None)])
    annotations = read_annotations(path)
    assert not annotations.labels_by_image[1].visibility.any()
    assert len(labelled_boxes(annotations)[0]) == 0
    assert len(labelled_boxes(annotations, everybody=True)[0]) == 1


def test_a_test_sets_image_info_has_no_annotations_at_all(tmp_path: Path) -> None:
    path = tmp_path / "image_info.json"
    path.write_text(json.dumps({"images": [image_entry(1)], "categories": []}), encoding="utf-8")
    assert len(read_annotations(path)) == 1


def test_where_a_label_comes_from_is_kept_for_those_that_say_it(tmp_path: Path) -> None:
    people = [
        annotation(1),
        annotation(2, 2, pseudo_keypoints=[0, 4], box_source="teacher", area_is_estimate=True),
        annotation(3, box_source="teacher", box_score=0.25, iscrowd=1),
    ]
    annotations = read_annotations(annotation_file(tmp_path / "a.json", people))
    assert annotations.provenance == {
        2: Provenance((0, 4), "teacher", None, True),
        3: Provenance((), "teacher", 0.25, False),
    }


def test_labelled_boxes_leave_out_crowds_and_empty_boxes_and_keep_the_images_order(
    tmp_path: Path,
) -> None:
    people = [
        annotation(1, 9, iscrowd=1),
        annotation(2, 9, bbox=[5, 5, 0, 5]),
        annotation(3, 9, keypoints=keypoints_xyv(0)),
        annotation(4, 9, bbox=[5, 6, 7, 8]),
        annotation(5, 4),
    ]
    path = annotation_file(tmp_path / "a.json", people, [image_entry(9), image_entry(4)])
    nine, four = labelled_boxes(read_annotations(path))
    assert (nine.image_id, four.image_id) == (9, 4)
    assert nine.boxes_xyxy.tolist() == [[5, 6, 12, 14]]
    assert nine.scores.tolist() == [1]
    everybody, _ = labelled_boxes(read_annotations(path), everybody=True)
    assert len(everybody) == 2


def test_images_keep_the_annotations_ids_and_order(tmp_path: Path) -> None:
    path = annotation_file(tmp_path / "a.json", images=[image_entry(5), image_entry(3)])
    save_image(tmp_path / "val/000000000005.jpg")
    images = image_files(read_annotations(path), tmp_path / "val")
    assert [(image.id, image.file_name) for image in images] == [
        (5, "000000000005.jpg"),
        (3, "000000000003.jpg"),
    ]
    assert images.images[0].read().shape == (6, 8, 3)
    with pytest.raises(ImageError, match="no such file"):
        images.images[1].read()
    with pytest.raises(ImageError, match="no such folder"):
        image_files(read_annotations(path), tmp_path / "gone")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"images": 5}, "is not a COCO annotation file: `images` is 5, not a list"),
        (
            {"images": [{"file_name": "a.jpg"}]},
            r"read: 1 of 1 \(images\[0\].id is null\)",
        ),
        (
            {"images": [image_entry(1), image_entry(1, file_name="b.jpg")]},
            "ids that two images share: 1 of 2 \\(1: 000000000001.jpg and b.jpg\\): give every",
        ),
        ({"images": [image_entry(2)]}, "that are not listed: 1 of 1 .annotation 1 of image 1.:"),
        (
            {"annotations": [annotation(bbox=[1, 2, 3])]},
            r"annotations\[0\].bbox is \[1, 2, 3\]: left, top, width, height are needed",
        ),
        ({"annotations": [annotation(bbox=None)]}, r"annotations\[0\].bbox is null: left, top"),
        ({"annotations": [annotation(bbox=[1, 2, -3, 4])]}, r"boxes of negative size: 1 of 1"),
        (
            {"annotations": [annotation(keypoints=[1, 2, 2])]},
            r"people without x, y, v of 17 keypoints: 1 of 1 \(annotation 1 has 3 numbers\)",
        ),
        ({"annotations": [annotation(keypoints=["a"])]}, "annotation 1 has something other than"),
        ({"categories": [{"id": 1, "name": "dog"}]}, r"categories named 'person': 0 of 1 \(dog\)"),
    ],
)
def test_a_wrong_file_is_one_line_with_the_file_and_the_place(
    tmp_path: Path, changes: dict[str, Any], reason: str
) -> None:
    document: dict[str, Any] = {"images": [image_entry(1)], "annotations": [annotation()]}
    path = save_json(tmp_path / "a.json", document | changes)
    with pytest.raises(DocumentError, match=reason) as caught:
        read_annotations(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def dog_file(folder: Path, *categories: dict[str, Any]) -> Path:
    """One annotation of ten keypoints of each of the categories."""
    keypoints = [number for k in range(10) for number in (10.0 + k, 20.0 + k, 2)]
    entries = [
        annotation(number, category_id=one["id"], keypoints=keypoints, num_keypoints=10)
        for number, one in enumerate(categories, start=1)
    ]
    return annotation_file(folder / "a.json", entries, categories=list(categories))


def test_the_category_of_a_skeleton_is_found_by_its_name(tmp_path: Path) -> None:
    path = dog_file(tmp_path, {"id": 7, "name": "cat"}, {"id": 0, "name": "Dog"})
    labels = read_annotations(path, skeleton=DOG).labels_by_image[1]
    assert labels.annotation_ids.tolist() == [2]
    assert labels.keypoints_xy.shape == (1, 10, 2)
    assert (labels.visibility == 2).all()


def test_else_all_categories_with_its_keypoints_are_it(tmp_path: Path) -> None:
    names = [name.replace("_", " ").title() for name in DOG.keypoints]
    alike = [{"id": n, "name": name, "keypoints": names} for n, name in ((3, "wolf"), (4, "fox"))]
    found = read_annotations(dog_file(tmp_path, *alike, {"id": 1, "name": "person"}), skeleton=DOG)
    assert found.labels_by_image[1].annotation_ids.tolist() == [1, 2]
    assert "categories not named 'dog': 2" in " ".join(one.line for one in found.findings)


def test_without_its_category_a_file_is_refused(tmp_path: Path) -> None:
    path = dog_file(tmp_path, {"id": 1, "name": "person", "keypoints": ["nose"]})
    with pytest.raises(DocumentError, match=r"categories named 'dog': 0 of 1 \(person\)"):
        read_annotations(path, skeleton=DOG)


SHARED = Path(__file__).parents[2] / "../shared/data/annotations/coco_people_val.json"


@pytest.mark.skipif(not SHARED.is_file(), reason="needs ../shared/data")
def test_cocos_own_labels_are_those_that_pycocotools_reads() -> None:
    from pycocotools.coco import COCO

    annotations = read_annotations(SHARED)
    coco = COCO(str(SHARED))
    assert [image.id for image in annotations.images] == [i["id"] for i in coco.dataset["images"]]
    for image in annotations.images:
        labels = annotations.labels_by_image[image.id]
        expected = coco.imgToAnns[image.id]
        assert labels.annotation_ids.tolist() == [entry["id"] for entry in expected]
        numbers = np.array([entry["keypoints"] for entry in expected]).reshape(-1, 17, 3)
        np.testing.assert_array_equal(labels.keypoints_xy, numbers[..., :2])
        np.testing.assert_array_equal(labels.visibility, numbers[..., 2])
        np.testing.assert_array_equal(labels.areas, [entry["area"] for entry in expected])
    assert sum(map(len, labelled_boxes(annotations))) == 133


# --- all categories

THINGS = [{"id": 1, "name": "person"}, {"id": 18, "name": "dog"}]


def test_instances_are_the_boxes_of_all_categories_in_the_files_order(tmp_path: Path) -> None:
    things = [
        annotation(7, 2, category_id=18, bbox=[1, 2, 3, 4]),
        annotation(5, 1, keypoints=None),
        annotation(6, 2, bbox=[0, 0, 50, 60], iscrowd=1),
    ]
    images = [image_entry(2), image_entry(1), image_entry(3)]
    path = annotation_file(tmp_path / "a.json", things, images, categories=THINGS)
    instances = read_instances(path)
    assert len(instances) == 3
    assert [image.id for image in instances.images] == [2, 1, 3]
    labels = instances.labels_by_image[2]
    assert labels.boxes_xyxy.tolist() == [[1, 2, 4, 6], [0, 0, 50, 60]]
    assert labels.category_ids.tolist() == [18, 1]
    assert labels.is_crowd.tolist() == [False, True]
    assert len(instances.labels_by_image[1]) == 1
    assert instances.labels_by_image[3].boxes_xyxy.shape == (0, 4)
    assert [file.id for file in image_files(instances, tmp_path)] == [2, 1, 3]
    # The people of the same file are those of `read_annotations`.
    assert read_annotations(path).labels_by_image[2].boxes_xyxy.tolist() == [[0, 0, 50, 60]]


def test_an_empty_instances_file_is_legal(tmp_path: Path) -> None:
    assert len(read_instances(annotation_file(tmp_path / "a.json"))) == 0


@pytest.mark.parametrize(
    ("things", "message"),
    [
        ([annotation(1, bbox=[0, 0, -1, 5])], "negative size"),
        ([annotation(1, image_id=9)], "of images that are not listed: 1 of 1"),
    ],
)
def test_instances_that_cannot_be_are_refused(
    things: list[dict[str, Any]], message: str, tmp_path: Path
) -> None:
    path = annotation_file(tmp_path / "a.json", things, [image_entry(1)])
    with pytest.raises(DocumentError, match=message):
        read_instances(path)
