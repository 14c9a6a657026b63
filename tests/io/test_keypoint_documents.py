"""kps.json: what is written comes back, and results of other programs are read."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from builders import (
    BOX,
    DOG,
    POSE,
    annotation_file,
    image_entry,
    image_set,
    poses,
    save_image,
    save_json,
)

from posepipe.core.skeleton import COCO_PERSON
from posepipe.errors import DocumentError
from posepipe.io.documents import (
    KeypointsDocument,
    growing_keypoints,
    read_keypoints,
    write_keypoints,
)
from posepipe.io.images import ImageSet


def keypoints_document(root: Path) -> KeypointsDocument:
    return KeypointsDocument(image_set(root, 3), (poses(1, 2), poses(2, 0), poses(3, 1)))


def test_poses_come_back_without_the_images_that_have_nobody(tmp_path: Path) -> None:
    save_image(tmp_path / "photos/3.png")
    written = keypoints_document(tmp_path / "photos")
    write_keypoints(tmp_path / "kps.json", written)
    read = read_keypoints(tmp_path / "kps.json")
    assert [(image.id, image.file_name) for image in read.images] == [(1, "1.png"), (3, "3.png")]
    assert read.images.images[1].read().shape == (6, 8, 3)
    for one, other in zip(read.poses, (written.poses[0], written.poses[2]), strict=True):
        assert one.image_id == other.image_id
        np.testing.assert_allclose(one.keypoints[..., :2], other.keypoints[..., :2], atol=5.01e-4)
        np.testing.assert_allclose(one.keypoints[..., 2], other.keypoints[..., 2], atol=5.01e-7)
        np.testing.assert_allclose(one.scores, other.scores, atol=5.01e-7)
        np.testing.assert_allclose(one.boxes_xyxy, other.boxes_xyxy, atol=5.01e-4)
        np.testing.assert_allclose(one.box_scores, other.box_scores, atol=5.01e-7)
    again = tmp_path / "again.json"
    write_keypoints(again, read)
    assert again.read_bytes() == (tmp_path / "kps.json").read_bytes()


def test_a_result_has_no_bbox_and_pycocotools_takes_it(tmp_path: Path) -> None:
    from pycocotools.coco import COCO

    write_keypoints(tmp_path / "kps.json", keypoints_document(tmp_path))
    entries = json.loads((tmp_path / "kps.json").read_text())
    assert len(entries) == 3
    assert all(len(entry["keypoints"]) == 51 for entry in entries)
    assert not any("bbox" in entry for entry in entries)
    names = annotation_file(tmp_path / "a.json", images=[image_entry(n) for n in (1, 2, 3)])
    results = COCO(str(names)).loadRes(str(tmp_path / "kps.json"))
    assert [len(results.getAnnIds(n)) for n in (1, 2, 3)] == [2, 0, 1]


@pytest.mark.parametrize("count", [0, 1, 2])
def test_a_document_that_grows_is_the_same_in_the_end(tmp_path, count):
    document = keypoints_document(tmp_path)
    images = ImageSet(document.images.root, document.images.images[:count])
    part = KeypointsDocument(images, document.poses[:count])
    write_keypoints(tmp_path / "whole.json", part)
    with growing_keypoints(tmp_path / "grown.json", root=tmp_path) as write:
        for image, people in zip(part.images, part.poses, strict=True):
            write(image, people)
        assert not (tmp_path / "grown.json").exists()
    assert (tmp_path / "grown.json").read_bytes() == (tmp_path / "whole.json").read_bytes()


def test_a_document_that_stops_growing_in_an_error_is_none(tmp_path):
    with pytest.raises(KeyboardInterrupt), growing_keypoints(tmp_path / "a.json", root=tmp_path):
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_poses_of_another_skeleton_say_so_and_come_back_as_they_were(tmp_path: Path) -> None:
    of_dogs = (poses(1, 2, DOG), poses(2, 1), poses(3, 0, DOG))
    write_keypoints(tmp_path / "kps.json", KeypointsDocument(image_set(tmp_path, 3), of_dogs))
    dog, _, person = json.loads((tmp_path / "kps.json").read_text())
    assert dog["skeleton"]["keypoints"] == list(DOG.keypoints)
    assert dog["skeleton"]["sigmas"] == list(DOG.sigmas)
    assert "skeleton" not in person
    read = read_keypoints(tmp_path / "kps.json")
    assert [one.skeleton for one in read.poses] == [DOG, COCO_PERSON]
    write_keypoints(tmp_path / "again.json", read)
    assert (tmp_path / "again.json").read_bytes() == (tmp_path / "kps.json").read_bytes()


def test_skeletons_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "kps.json"
    write_keypoints(path, KeypointsDocument(image_set(tmp_path, 1), (poses(1, 2, DOG),)))
    entries = json.loads(path.read_text())
    entries[0]["skeleton"]["name"] = "puppy"
    with pytest.raises(DocumentError, match=r"has poses of several skeletons \(puppy, dog\)"):
        read_keypoints(save_json(path, entries))


def test_a_pose_of_a_skeleton_that_contradicts_itself_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "kps.json"
    write_keypoints(path, KeypointsDocument(image_set(tmp_path, 1), (poses(1, 2, DOG),)))
    entries = json.loads(path.read_text())
    entries[0]["skeleton"]["sigmas"] = [0.1]
    read = read_keypoints(save_json(path, entries))
    assert len(read.poses[0]) == 1
    (finding,) = read.findings
    assert "1 of 2 ([0].skeleton: sigmas has 1 numbers for 10 keypoints)" in finding.line
    entries[1]["skeleton"]["sigmas"] = [0.1]
    with pytest.raises(DocumentError, match="2 of 2"):
        read_keypoints(save_json(path, entries))


def test_nobody_anywhere_is_an_empty_list(tmp_path: Path) -> None:
    write_keypoints(
        tmp_path / "kps.json", KeypointsDocument(image_set(tmp_path, 1), (poses(1, 0),))
    )
    assert (tmp_path / "kps.json").read_text() == "[]\n"


def test_another_programs_results_are_read_as_far_as_they_go(tmp_path: Path) -> None:
    numbers = [n for k in range(17) for n in (10 + k, 90 - k, 1)]
    other = POSE | {"image_id": 42, "keypoints": numbers}
    path = save_json(tmp_path / "theirs.json", [other, other | {"category_id": 2}])
    read = read_keypoints(path, images=tmp_path)
    assert read.other_categories == 1
    assert read.images.images[0].path == tmp_path / "000000000042.jpg"
    assert read.poses[0].boxes_xyxy.tolist() == [[10, 74, 26, 90]]
    assert read.poses[0].box_scores.tolist() == [0.5]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ({"annotations": [BOX]}, "holds boxes: .*posepipe pose"),
        ([BOX], "holds boxes: .*posepipe pose"),
        ([5], r"\[0\] is 5"),
        ([POSE | {"keypoints": [1, 2, 3]}], r"\[0\] has 3 numbers as keypoints, not 51"),
        ([POSE | {"keypoints": [float("nan")] * 51}], r"\[0\] has a number that is not finite"),
        ([POSE | {"score": float("inf")}], r"\[0\] has a number that is not finite"),
        ([POSE | {"keypoints": ["a"] * 51}], r"\[0\].keypoints is .*: x, y, confidence of every"),
        ([{"image_id": 1}], r"\[0\] has no keypoints"),
        ([POSE | {"score": None}], r"\[0\] has no score"),
        ([POSE | {"keypoints": [1e300] * 51}], "beyond any image"),
    ],
)
def test_a_file_that_holds_no_poses_says_what_is_wrong(
    tmp_path: Path, value: object, reason: str
) -> None:
    path = save_json(tmp_path / "wrong.json", value)
    with pytest.raises(DocumentError, match=reason) as caught:
        read_keypoints(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        {"score": None},
        {"score": 1e308},
        {"keypoints": [1.0] * 50},
        {"keypoints": [float("nan")] * 51},
    ],
)
def test_a_pose_that_cannot_be_used_is_left_out(tmp_path: Path, change: dict[str, object]) -> None:
    path = save_json(tmp_path / "some.json", [POSE, POSE | change])
    document = read_keypoints(path)
    assert [len(poses) for poses in document.poses] == [1]
    (finding,) = document.findings
    assert finding.message.startswith(f"{path}: poses that cannot be used: 1 of 2 ([1] has ")
    assert not finding.fatal
