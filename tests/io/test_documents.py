from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import (
    BOX,
    DOG,
    POSE,
    annotation,
    annotation_file,
    detections,
    image_entry,
    image_set,
    save_image,
    save_json,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from posepipe.core.boxes import Detections
from posepipe.core.skeleton import COCO_PERSON, Skeleton
from posepipe.errors import DocumentError, ImageError, OptionError
from posepipe.io.coco import read_annotations
from posepipe.io.documents import (
    BoxesDocument,
    ModelUsed,
    Skipped,
    as_written,
    labelled_document,
    made_by,
    read_boxes,
    read_keypoints,
    write_boxes,
)


def boxes_document(root: Path, *found: Detections, **changes: Any) -> BoxesDocument:
    """A document of images of 100 x 80 pixels, whose ids are 1…n."""
    sized = tuple(replace(of_image, size_wh=(100, 80)) for of_image in found)
    return BoxesDocument(image_set(root, len(found)), sized, **changes)


def assert_same(detections: Detections, expected: Detections) -> None:
    assert detections.image_id == expected.image_id
    np.testing.assert_array_equal(detections.boxes_xyxy, expected.boxes_xyxy)
    np.testing.assert_array_equal(detections.scores, expected.scores)


def boxes_strategy() -> st.SearchStrategy[Detections]:
    """People with boxes of a tenth of a pixel and more, anywhere that touches 100 x 80 pixels."""
    corners = npst.arrays(np.float32, (4, 2), elements=st.floats(-90, 79, width=32))
    sizes = npst.arrays(np.float32, (4, 2), elements=st.floats(91, 300, width=32))
    scores = npst.arrays(np.float32, 4, elements=st.floats(0, 1, width=32))

    def build(low: Any, size: Any, score: Any, count: int) -> Detections:
        boxes = np.concatenate([low, low + size], axis=1)
        return Detections(1, boxes[:count], score[:count])

    return st.builds(build, corners, sizes, scores, st.integers(0, 4))


def test_a_document_of_no_images_comes_back(tmp_path: Path) -> None:
    write_boxes(tmp_path / "boxes.json", boxes_document(tmp_path))
    document = read_boxes(tmp_path / "boxes.json")
    assert len(document.images) == 0
    assert document.detections == ()


def test_everything_in_a_document_comes_back(tmp_path: Path) -> None:
    origin = made_by("detect", [ModelUsed("fpn", "abc")], {"nms": "soft", "scales": [1, 0.5]})
    skipped = (Skipped("gone.png", "no such file"),)
    found = (Detections.none(1), detections(2, [[1.0, 2.0, 5.0, 6.0], [0.5, 0.0, 99.0, 80.0]]))
    written = boxes_document(tmp_path / "photos", *found, made_by=origin, skipped=skipped)
    write_boxes(tmp_path / "boxes.json", written)
    read = read_boxes(tmp_path / "boxes.json")
    assert read.made_by == origin
    assert read.made_by is not None
    assert read.made_by.versions["numpy"] == np.__version__
    assert read.skipped == skipped
    assert read.problems == ()
    assert [found.size_wh for found in read.detections] == [(100, 80)] * 2
    assert read.images.root == tmp_path / "photos"
    assert [(i.id, i.path, i.file_name) for i in read.images] == [
        (n, tmp_path / "photos" / f"{n}.png", f"{n}.png") for n in (1, 2)
    ]
    for one, other in zip(read.detections, found, strict=True):
        assert_same(one, as_written(other))


@settings(max_examples=60, deadline=None)
@given(found=boxes_strategy())
def test_boxes_come_back_as_written_and_do_not_drift(
    tmp_path_factory: pytest.TempPathFactory, found: Detections
) -> None:
    path = tmp_path_factory.mktemp("boxes") / "boxes.json"
    write_boxes(path, boxes_document(path.parent, found))
    (read,) = read_boxes(path).detections
    assert_same(read, as_written(found))
    assert_same(as_written(read), read)
    np.testing.assert_allclose(read.boxes_xyxy, found.boxes_xyxy, atol=0.0006)
    np.testing.assert_allclose(read.scores, found.scores, atol=6e-7)
    before = path.read_bytes()
    write_boxes(path, boxes_document(path.parent, read))
    assert path.read_bytes() == before


def test_the_same_document_is_the_same_bytes_whatever_the_order_of_the_settings(
    tmp_path: Path,
) -> None:
    for number, options in enumerate([{"a": 1, "b": 2}, {"b": 2, "a": 1}]):
        origin = made_by("detect", settings=options)
        document = boxes_document(tmp_path, detections(1), made_by=origin)
        write_boxes(tmp_path / f"{number}.json", document)
    assert (tmp_path / "0.json").read_bytes() == (tmp_path / "1.json").read_bytes()


def test_numbers_are_written_with_few_digits(tmp_path: Path) -> None:
    found = detections(1, [[0.1, -1e-9, 1 / 3, 2]], [0.7])
    write_boxes(tmp_path / "boxes.json", boxes_document(tmp_path, found))
    text = (tmp_path / "boxes.json").read_text()
    assert '"bbox":[0.1,0.0,0.233,2.0],"score":0.7' in text


def test_pycocotools_reads_what_is_written(tmp_path: Path) -> None:
    from pycocotools.coco import COCO

    write_boxes(
        tmp_path / "boxes.json", boxes_document(tmp_path, Detections.none(1), detections(2))
    )
    coco = COCO(str(tmp_path / "boxes.json"))
    assert coco.getImgIds() == [1, 2]
    assert [entry["bbox"] for entry in coco.loadAnns(coco.getAnnIds(2))] == [[1, 2, 4, 4]]
    assert coco.loadCats(1)[0]["name"] == "person"


@pytest.mark.parametrize(
    ("root", "document", "stored"),
    [
        ("", "boxes.json", ""),
        ("photos", "boxes.json", "photos"),
        ("", "out/now/boxes.json", "../.."),
        ("photos", "out/boxes.json", None),
    ],
)
def test_a_folder_with_document_and_images_can_be_moved(
    tmp_path: Path, root: str, document: str, stored: str | None
) -> None:
    before = tmp_path / "before"
    save_image(before / root / "1.png")
    (before / document).parent.mkdir(parents=True, exist_ok=True)
    write_boxes(before / document, boxes_document(before / root, detections(1)))
    text = json.loads((before / document).read_text())["image_root"]
    if stored is None:
        assert text == str(before / root)
        return
    assert text in (stored, stored or ".")
    shutil.move(before, tmp_path / "after")
    (image,) = read_boxes(tmp_path / "after" / document).images
    assert image.read().shape == (6, 8, 3)


def test_images_that_moved_alone_are_found_with_their_new_folder(tmp_path: Path) -> None:
    write_boxes(tmp_path / "boxes.json", boxes_document(tmp_path / "gone", detections(1)))
    save_image(tmp_path / "new/1.png")
    (image,) = read_boxes(tmp_path / "boxes.json", images=tmp_path / "new").images
    assert image.read().shape == (6, 8, 3)
    with pytest.raises(ImageError, match="no such folder"):
        read_boxes(tmp_path / "boxes.json", images=tmp_path / "newer")


UNSOUND = [
    ([10, 10, 0, 5], 0.9, "no area"),
    ([10, 10, 5, -5], 0.9, "no area"),
    ([10, 10, 1e-9, 5], 0.9, "no area"),
    ([float("nan"), 10, 5, 5], 0.9, "not finite"),
    ([1e308, 10, 1e308, 5], 0.9, "not finite"),
    ([10, 10, 5, 5], float("nan"), "score"),
    ([10, 10, 5, 5], 1.5, "score"),
    ([10, 10, 5, 5], -0.1, "score"),
    ([100, 10, 5, 5], 0.9, "outside its image of 100 x 80"),
    ([10, 80, 5, 5], 0.9, "outside its image"),
    ([-5, 10, 5, 5], 0.9, "outside its image"),
    ([10, -9, 5, 5], 0.9, "outside its image"),
]


@pytest.mark.parametrize(("bbox", "score", "why"), UNSOUND)
def test_a_box_that_is_not_sound_is_left_out_and_listed(
    tmp_path: Path, bbox: list[float], score: float, why: str
) -> None:
    sound = {"image_id": 7, "category_id": 1, "bbox": [-5, -5, 20, 200], "score": 1}
    entries = [sound, sound | {"bbox": bbox, "score": score}]
    path = save_json(tmp_path / "list.json", entries)
    names = annotation_file(tmp_path / "a.json", images=[image_entry(3), image_entry(7)])
    document = read_boxes(path, images=tmp_path, annotations=names)
    assert [len(found) for found in document.detections] == [0, 1]
    (problem,) = document.problems
    assert problem.startswith("image 7 (000000000007.jpg): box [")
    assert why in problem
    assert "\n" not in problem


def test_a_box_of_an_unknown_image_is_left_out_and_listed(tmp_path: Path) -> None:
    entry = {"image_id": 99, "category_id": 1, "bbox": [1, 1, 5, 5], "score": 1}
    path = save_json(tmp_path / "list.json", [entry, entry | {"image_id": 7}])
    names = annotation_file(tmp_path / "a.json", images=[image_entry(7)])
    document = read_boxes(path, images=tmp_path, annotations=names)
    assert len(document.detections[0]) == 1
    assert document.problems == ("image 99: box [1, 1, 5, 5], entry 1, score 1: image id unknown",)


def test_where_most_boxes_cannot_be_used_the_list_is_refused(tmp_path: Path) -> None:
    entry = {"image_id": 99, "category_id": 1, "bbox": [1, 1, 5, 5], "score": 1}
    path = save_json(tmp_path / "list.json", [entry, entry, entry | {"image_id": 7}])
    names = annotation_file(tmp_path / "a.json", images=[image_entry(7)])
    with pytest.raises(DocumentError, match="2 of 3 boxes cannot be used, such as image 99: box"):
        read_boxes(path, images=tmp_path, annotations=names)


def test_a_plain_list_finds_its_images_by_their_coco_names(tmp_path: Path) -> None:
    save_image(tmp_path / "val/000000000042.png")
    save_image(tmp_path / "val/COCO_val2014_000000000007.jpg")
    entry = {"category_id": 1, "bbox": [1, 1, 5, 5], "score": 0.5}
    entries = [entry | {"image_id": n} for n in (42, 7, 1, 42)]
    entries.append(entry | {"image_id": 42, "category_id": 18})
    path = save_json(tmp_path / "list.json", entries)
    document = read_boxes(path, images=tmp_path / "val")
    assert [(image.id, image.file_name) for image in document.images] == [
        (1, "000000000001.jpg"),
        (7, "COCO_val2014_000000000007.jpg"),
        (42, "000000000042.png"),
    ]
    assert [len(found) for found in document.detections] == [1, 1, 2]
    assert document.other_categories == 1
    assert [found.size_wh for found in document.detections] == [None, (8, 6), (8, 6)]
    assert document.images.images[2].read().shape == (6, 8, 3)
    with pytest.raises(ImageError, match="no such file"):
        document.images.images[0].read()


def test_an_empty_list_is_a_detection_list_and_a_keypoint_list(tmp_path: Path) -> None:
    path = save_json(tmp_path / "list.json", [])
    assert len(read_boxes(path, images=tmp_path).images) == 0
    assert len(read_keypoints(path).images) == 0


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ({}, "it has no list `annotations`"),
        (5, "is not a list of boxes or poses: it is 5"),
        ([5], r"entries that cannot be read: 1 of 1 \(\[0\] is 5\)"),
        ([BOX | {"bbox": [1, 2, 3]}], r"\[0\].bbox is \[1, 2, 3\]: left, top, width, height"),
        ([{"image_id": 1, "bbox": [1, 2, 3, 4]}], r"\[0\] has no score"),
        ([BOX | {"image_id": None}], r"\[0\].image_id is null"),
        ([POSE], "holds keypoints, not boxes: .*posepipe eval"),
        ([POSE | BOX], "holds keypoints, not boxes"),
        ({"images": [image_entry()], "annotations": [annotation()]}, "--ground-truth"),
        (
            {"images": [image_entry(), image_entry(1, file_name="b.jpg")], "annotations": []},
            "image ids that two images share: 1 of 2",
        ),
        (
            [BOX | {"category_id": 0}] * 3,
            "no box of 3 is of a person: their category_id is 0, a person's is 1: name the ann",
        ),
        (
            {"images": [], "annotations": [], "info": {"tool": "posepipe"}},
            "in `info` it lacks the field .version",
        ),
    ],
)
def test_a_file_that_holds_no_boxes_says_what_is_wrong(
    tmp_path: Path, value: object, reason: str
) -> None:
    path = save_json(tmp_path / "wrong.json", value)
    with pytest.raises(DocumentError, match=reason) as caught:
        read_boxes(path, images=tmp_path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_a_list_needs_a_folder_and_a_document_no_annotations(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="--images DIR"):
        read_boxes(save_json(tmp_path / "list.json", [BOX]))
    write_boxes(tmp_path / "boxes.json", boxes_document(tmp_path))
    with pytest.raises(OptionError, match="leave out --annotations"):
        read_boxes(tmp_path / "boxes.json", annotations=tmp_path / "a.json")


def test_another_programs_coco_shaped_document_is_read(tmp_path: Path) -> None:
    info = {"description": "somebody's detections"}
    value = {"info": info, "images": [image_entry(4)], "annotations": [BOX | {"image_id": 4}]}
    document = read_boxes(save_json(tmp_path / "theirs.json", value))
    assert document.made_by is None
    assert document.detections[0].boxes_xyxy.tolist() == [[1, 2, 4, 6]]
    assert document.images.root == tmp_path


def test_labelled_boxes_stand_in_for_a_detectors(tmp_path: Path) -> None:
    path = annotation_file(
        tmp_path / "a.json", [annotation(1, 2)], [image_entry(1), image_entry(2)]
    )
    document = labelled_document(read_annotations(path), tmp_path)
    assert [len(found) for found in document.detections] == [0, 1]
    assert document.detections[1].size_wh == (100, 80)
    write_boxes(tmp_path / "boxes.json", document)
    assert_same(read_boxes(tmp_path / "boxes.json").detections[1], document.detections[1])


def test_results_must_be_those_of_the_images(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="one result per image"):
        boxes_document(tmp_path, detections(2))
    with pytest.raises(ValueError, match=r"unknown: 1\.png"):
        write_boxes(
            tmp_path / "boxes.json",
            BoxesDocument(image_set(tmp_path, 1), (detections(1),)),
        )
    assert not (tmp_path / "boxes.json").exists()


@pytest.fixture
def boxes_of_dogs(tmp_path: Path) -> Path:
    """A boxes.json of a detector of dogs."""
    save_image(tmp_path / "1.png")
    document = boxes_document(tmp_path, detections(1), category="dog")
    write_boxes(tmp_path / "boxes.json", document)
    return tmp_path / "boxes.json"


@pytest.mark.parametrize("wanted", [None, DOG])
def test_boxes_of_another_category_are_those_of_its_skeleton(
    boxes_of_dogs: Path, wanted: Skeleton | None
) -> None:
    read = read_boxes(boxes_of_dogs, skeleton=wanted)
    assert read.category == "dog"
    assert [len(found) for found in read.detections] == [1]
    written = boxes_of_dogs.read_bytes()
    write_boxes(boxes_of_dogs, read)
    assert boxes_of_dogs.read_bytes() == written


def test_boxes_of_another_category_than_the_model_s_are_refused(boxes_of_dogs: Path) -> None:
    with pytest.raises(DocumentError, match="boxes of 'dog', but the model is for 'person'"):
        read_boxes(boxes_of_dogs, skeleton=COCO_PERSON)


def test_a_detection_list_has_the_category_ids_of_the_annotations(tmp_path: Path) -> None:
    save_image(tmp_path / "000000000001.jpg")
    entries = [
        {"image_id": 1, "category_id": n, "bbox": [1, 2, 3, 4], "score": 0.5} for n in (1, 7)
    ]
    boxes = save_json(tmp_path / "list.json", entries)
    categories = [{"id": 1, "name": "person"}, {"id": 7, "name": "dog"}]
    images = [image_entry(1, width=8, height=6)]
    names = annotation_file(tmp_path / "a.json", [], images, categories=categories)
    read = read_boxes(boxes, images=tmp_path, annotations=names, skeleton=DOG)
    assert len(read.detections[0]) == 1
    assert read.other_categories == 1
