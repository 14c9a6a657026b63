"""Samples: each data set is drawn by its share, and each person of it in turn."""

from __future__ import annotations

import numpy as np
import pytest
from builders import DOG, annotation, annotation_file, image_entry, keypoints_xyv, save_image
from training_crops import in_memory

from posepipe.errors import DocumentError, ImageError, RecipeError
from posepipe.io.coco import read_annotations, read_instances
from posepipe.training.data import DataSets, DataTable
from posepipe.training.images import ImageCache
from posepipe.training.samples import (
    DetectionSample,
    PoseSample,
    detection_samples,
    instance_samples,
    pose_samples,
    read_detection_sets,
    read_pose_sets,
)
from posepipe.zoo.recipe import Recipe


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"box_xyxy": [0, 0, 5]}, "box_xyxy must have shape"),
        ({"keypoints_xy": np.zeros((17, 3))}, "keypoints_xy must have shape"),
        ({"weights": np.ones(16)}, "lengths differ"),
        ({"keypoints_xy": np.full((17, 2), np.nan)}, "keypoints_xy must be finite"),
    ],
)
def test_a_sample_that_does_not_fit_together_is_refused(change, message):
    fields = {
        "image": in_memory(np.zeros((4, 4, 3), np.uint8)),
        "box_xyxy": [0, 0, 5, 5],
        "keypoints_xy": np.zeros((17, 2)),
        "weights": np.ones(17),
        "visibility": np.full(17, 2),
        "area": 20.0,
    }
    with pytest.raises(ValueError, match=message):
        PoseSample(**(fields | change))


@pytest.fixture
def annotations(tmp_path):
    """Two people, a crowd and a person without keypoints in one image, nobody in another."""
    for number in (1, 2):
        save_image(tmp_path / f"{number:012d}.jpg", 100, 80)
    people = [
        annotation(1, pseudo_keypoints=[0, 16]),
        annotation(2, keypoints=keypoints_xyv(3), num_keypoints=3, bbox=[1, 2, 3, 4]),
        annotation(3, iscrowd=1, bbox=[50, 50, 20, 10]),
        annotation(4, keypoints=keypoints_xyv(0), num_keypoints=0, bbox=[5, 5, 10, 10]),
    ]
    images = [image_entry(1), image_entry(2)]
    return read_annotations(annotation_file(tmp_path / "people.json", people, images))


def test_everybody_with_a_keypoint_is_a_pose_sample(annotations, tmp_path):
    one, other = pose_samples(annotations, tmp_path, pseudo_weight=0.25)
    assert one.read().shape == (80, 100, 3)
    assert one.image is other.image
    assert one.box_xyxy.tolist() == [10, 20, 40, 60]
    assert one.keypoints_xy[3].tolist() == [13, 23]
    assert one.weights.tolist() == [0.25] + [1] * 15 + [0.25]
    assert one.visibility.tolist() == [2] * 17
    assert other.weights.tolist() == [1] * 3 + [0] * 14
    assert other.visibility.tolist() == [2] * 3 + [0] * 14
    assert one.area == 500


def test_every_image_is_a_detection_sample_with_its_crowds_ignored(annotations, tmp_path):
    crowded, empty = detection_samples(annotations, tmp_path)
    assert crowded.boxes_xyxy.tolist() == [[10, 20, 40, 60], [1, 2, 4, 6], [5, 5, 15, 15]]
    assert crowded.ignored_xyxy.tolist() == [[50, 50, 70, 60]]
    assert empty.boxes_xyxy.shape == empty.ignored_xyxy.shape == (0, 4)


def test_no_image_is_read_before_it_is_needed(annotations, tmp_path):
    (tmp_path / "000000000001.jpg").unlink()
    [first, _] = pose_samples(annotations, tmp_path, pseudo_weight=1)
    [crowded, empty] = detection_samples(annotations, tmp_path)
    with pytest.raises(ImageError, match=r"000000000001\.jpg"):
        first.read()
    with pytest.raises(ImageError, match=r"000000000001\.jpg"):
        crowded.pixels  # noqa: B018
    assert empty.pixels.shape == (80, 100, 3)


def test_people_of_an_image_share_it_in_the_cache(annotations, tmp_path):
    cache = ImageCache(10**6)
    one, other = pose_samples(annotations, tmp_path, pseudo_weight=1, cache=cache)
    assert one.read() is other.read()
    [crowded, _] = detection_samples(annotations, tmp_path, cache=cache)
    assert crowded.pixels is crowded.pixels


def test_boxes_without_area_are_nobody(tmp_path):
    save_image(tmp_path / f"{1:012d}.jpg", 100, 80)
    people = [annotation(1, bbox=[10, 20, 0, 40]), annotation(2)]
    read = read_annotations(annotation_file(tmp_path / "people.json", people))
    [sample] = pose_samples(read, tmp_path, pseudo_weight=1)
    assert sample.box_xyxy.tolist() == [10, 20, 40, 60]
    [image] = detection_samples(read, tmp_path)
    assert image.boxes_xyxy.tolist() == [[10, 20, 40, 60]]


def test_all_sets_of_a_recipe_are_read(annotations, tmp_path):
    table = DataTable(annotations=str(annotations.path), images=str(tmp_path), weight=2.0)
    assert read_pose_sets([], pseudo_weight=1) == read_detection_sets([]) == []
    assert [len(s) for s in read_pose_sets([table, table], pseudo_weight=1)] == [2, 2]
    assert [len(s) for s in read_detection_sets([table])] == [2]
    with pytest.raises(ImageError, match="no such folder"):
        read_pose_sets([DataTable(annotations=table.annotations, images="none")], pseudo_weight=1)


def test_a_skeleton_s_category_is_what_is_learnt(tmp_path):
    categories = [{"id": 1, "name": "person"}, {"id": 18, "name": "dog"}]
    keypoints = [1.0, 2.0, 2] * 10
    entries = [
        annotation(1),
        annotation(2, category_id=18, bbox=[1, 2, 3, 4], keypoints=keypoints, num_keypoints=10),
    ]
    path = annotation_file(tmp_path / "a.json", entries, categories=categories)
    table = DataTable(annotations=str(path), images=str(tmp_path))
    data = DataSets(DOG)
    ((image,),) = read_detection_sets([table], data=data)
    assert image.boxes_xyxy.tolist() == [[1, 2, 4, 6]]
    ((dog,),) = read_pose_sets([table], pseudo_weight=1, data=data)
    assert dog.keypoints_xy.tolist() == [[1, 2]] * 10


def test_a_weight_below_0_is_refused(tmp_path):
    entry = {"annotations": "a.json", "images": "a", "weight": -1.0}
    with pytest.raises(RecipeError, match="weight must be"):
        Recipe("any", tmp_path, {"data": entry}).table("data", DataTable)


def test_things_of_all_categories_keep_their_classes_and_crowds_of_any_are_ignored(tmp_path):
    things = [
        annotation(1, category_id=18, bbox=[1, 2, 3, 4]),
        annotation(2, bbox=[10, 20, 30, 40]),
        annotation(3, category_id=18, iscrowd=1, bbox=[50, 50, 20, 10]),
        annotation(4, category_id=44, bbox=[5, 5, 0, 10]),
    ]
    path = annotation_file(tmp_path / "things.json", things, [image_entry(1), image_entry(2)])
    crowded, empty = instance_samples(read_instances(path), tmp_path, classes=91)
    assert crowded.boxes_xyxy.tolist() == [[1, 2, 4, 6], [10, 20, 40, 60]]
    assert crowded.classes.tolist() == [18, 1]
    assert crowded.ignored_xyxy.tolist() == [[50, 50, 70, 60]]
    assert empty.classes.shape == (0,)
    with pytest.raises(DocumentError, match=r"category id 18.*classes = 18 has room for 1 to 17"):
        instance_samples(read_instances(path), tmp_path, classes=18)


def test_classes_are_as_many_as_boxes():
    pixels, nothing = np.zeros((4, 4, 3), np.uint8), np.zeros((0, 4))
    assert DetectionSample(pixels, [[0, 0, 1, 1]] * 2, nothing).classes.tolist() == [1, 1]
    with pytest.raises(ValueError, match=r"classes must have shape \(2\)"):
        DetectionSample(pixels, [[0, 0, 1, 1]] * 2, nothing, np.ones(3, np.int64))
