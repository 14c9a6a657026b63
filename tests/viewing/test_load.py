"""Which results a page shows with which image of an annotation file."""

import json

import pytest

from posepipe.errors import DocumentError
from posepipe.viewing.load import load_content

SIZE = {"width": 40, "height": 30}


def annotations(folder, *images):
    """An annotation file of images (id, file name) with one labelled person each."""
    path = folder / "labels.json"
    people = [
        {
            "id": number,
            "image_id": image_id,
            "category_id": 1,
            "bbox": [0, 0, 20, 20],
            "area": 400,
            "iscrowd": 0,
            "num_keypoints": 17,
            "keypoints": [5, 5, 2] * 17,
        }
        for number, (image_id, _) in enumerate(images, 1)
    ]
    names = [{"id": image_id, "file_name": name, **SIZE} for image_id, name in images]
    categories = [{"id": 1, "name": "person"}]
    path.write_text(json.dumps({"images": names, "annotations": people, "categories": categories}))
    return path


def poses(folder, *images):
    """A kps.json of images (id, file name or None) with one pose each, the nth at x = n."""
    path = folder / "kps.json"
    entries = [
        {
            "image_id": image_id,
            "category_id": 1,
            "keypoints": [number, 5, 1] * 17,
            "score": 0.5,
            **({} if name is None else {"file_name": name}),
        }
        for number, (image_id, name) in enumerate(images, 1)
    ]
    path.write_text(json.dumps(entries))
    return path


def boxes(folder, *images):
    """A boxes.json of images (id, file name) with one box each, the nth n pixels wide."""
    path = folder / "boxes.json"
    found = [
        {"id": n, "image_id": image_id, "category_id": 1, "bbox": [0, 0, n, 9], "score": 0.5}
        for n, (image_id, _) in enumerate(images, 1)
    ]
    names = [{"id": image_id, "file_name": name, **SIZE} for image_id, name in images]
    document = {"images": names, "annotations": found}
    path.write_text(json.dumps({"image_root": str(folder), **document}))
    return path


def shown(content):
    """File name and x of the person of every image; None where there is nobody."""
    return {
        image.file_name: float(people.keypoints[0, 0, 0]) if len(people) else None
        for image, people in zip(content.images, content.poses, strict=True)
    }


def test_names_tell_what_ids_do_not(tmp_path):
    labels = annotations(tmp_path, (1, "b.jpg"), (2, "a.jpg"), (3, "c.jpg"))
    content = load_content(poses(tmp_path, (1, "a.jpg"), (2, "b.jpg")), annotations=labels)
    assert shown(content) == {"b.jpg": 2, "a.jpg": 1, "c.jpg": None}
    assert [people.image_id for people in content.poses] == [1, 2, 3]
    assert [people.image_id for people in content.labels] == [1, 2, 3]


def test_one_image_in_common_does_not_lose_those_that_only_names_tell(tmp_path):
    labels = annotations(tmp_path, (1, "a.jpg"), (2, "b.jpg"))
    content = load_content(poses(tmp_path, (1, "a.jpg"), (9, "b.jpg")), annotations=labels)
    assert shown(content) == {"a.jpg": 1, "b.jpg": 2}


def test_the_last_parts_of_a_name_will_do(tmp_path):
    labels = annotations(tmp_path, (7, "val/a.jpg"), (8, "val/b.jpg"))
    content = load_content(poses(tmp_path, (1, "b.jpg"), (2, "a.jpg")), annotations=labels)
    assert [float(people.keypoints[0, 0, 0]) for people in content.poses] == [2, 1]


def test_without_names_ids_tell(tmp_path):
    labels = annotations(tmp_path, (1, "b.jpg"), (2, "a.jpg"))
    results = poses(tmp_path, (2, None), (1, None))
    content = load_content(results, annotations=labels, images=tmp_path)
    assert [float(people.keypoints[0, 0, 0]) for people in content.poses] == [2, 1]


def test_boxes_are_matched_likewise(tmp_path):
    labels = annotations(tmp_path, (1, "b.jpg"), (2, "a.jpg"), (3, "c.jpg"))
    content = load_content(boxes(tmp_path, (1, "a.jpg"), (2, "b.jpg")), annotations=labels)
    assert shown(content) == {"b.jpg": 1, "a.jpg": 0.5, "c.jpg": None}  # the boxes' centres
    assert content.of_boxes


def test_results_of_other_images_are_refused(tmp_path):
    labels = annotations(tmp_path, (1, "a.jpg"))
    for results in (poses(tmp_path, (1, "x.jpg")), boxes(tmp_path, (1, "x.jpg"))):
        with pytest.raises(DocumentError, match="different image sets"):
            load_content(results, annotations=labels)


def test_no_poses_at_all_are_shown_as_that(tmp_path):
    labels = annotations(tmp_path, (1, "a.jpg"))
    assert shown(load_content(poses(tmp_path), annotations=labels)) == {"a.jpg": None}
