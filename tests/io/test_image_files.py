"""Images are found however an annotation file names them."""

from __future__ import annotations

from pathlib import Path

import pytest
from builders import annotation, annotation_file, image_entry, save_image

from posepipe.errors import DocumentError, ImageError
from posepipe.io.coco import read_annotations, read_coco
from posepipe.io.documents import labelled_document
from posepipe.io.image_files import image_files


def listed(tmp_path: Path, *names: str) -> Path:
    images = [image_entry(n, file_name=name) for n, name in enumerate(names, start=1)]
    return annotation_file(tmp_path / "a.json", images=images)


@pytest.mark.parametrize(
    ("name", "file", "told"),
    [
        ("a.jpg", "a.jpg", False),
        ("val/a.jpg", "val/a.jpg", False),
        (r"val\a.jpg", "val/a.jpg", False),
        (r".\val\a.jpg", "val/a.jpg", False),
        (r"C:\data\val\a.jpg", "val/a.jpg", True),
        (r"C:\data\val\a.jpg", "a.jpg", True),
        ("/data/people/a.jpg", "a.jpg", True),
        ("/data/people/a.jpg", "people/a.jpg", True),
        ("http://images.cocodataset.org/val2017/a.jpg", "a.jpg", True),
        ("s3://bucket/val2017/a.jpg", "val2017/a.jpg", True),
        ("in/a.jpg", "a.jpg", True),
        (r"in\val\a.jpg", "val/a.jpg", True),
        ("../in/a.jpg", "a.jpg", False),
    ],
)
def test_a_name_leads_to_its_file(tmp_path: Path, name: str, file: str, told: bool) -> None:
    save_image(tmp_path / "in" / file)
    images = image_files(read_annotations(listed(tmp_path, name)), tmp_path / "in")
    (image,) = images
    assert image.read().shape == (6, 8, 3)
    assert image.path.samefile(tmp_path / "in" / file)
    assert [name in finding.line for finding in images.findings] == [True] * told


def test_an_absolute_path_that_is_here_is_taken(tmp_path: Path) -> None:
    there = save_image(tmp_path / "elsewhere" / "a.jpg")
    (tmp_path / "in").mkdir()
    (image,) = image_files(read_annotations(listed(tmp_path, str(there))), tmp_path / "in")
    assert image.path == there


def test_last_parts_that_two_names_share_mean_neither(tmp_path: Path) -> None:
    save_image(tmp_path / "in" / "a.jpg")
    path = listed(tmp_path, "/data/one/a.jpg", "/data/two/a.jpg")
    for image in image_files(read_annotations(path), tmp_path / "in"):
        with pytest.raises(ImageError, match="no such file"):
            image.read()
    save_image(tmp_path / "in" / "two" / "a.jpg")
    one, two = image_files(read_annotations(path), tmp_path / "in")
    assert not one.path.exists()
    assert two.path == tmp_path / "in" / "two" / "a.jpg"


def test_a_url_that_is_not_here_is_not_fetched_and_named(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    path = listed(tmp_path, "http://example.org/a.jpg", "")
    url, nameless = image_files(read_annotations(path), tmp_path / "in")
    with pytest.raises(ImageError, match=r"example\.org/a\.jpg is a URL, which is not fetched"):
        url.read()
    with pytest.raises(
        ImageError, match=r"in/\(image 2\): the annotation file has no file_name for"
    ):
        nameless.read()


def test_a_folder_that_is_there_is_meant(tmp_path: Path) -> None:
    save_image(tmp_path / "in" / "a.jpg")
    (tmp_path / "in" / "val").mkdir()
    (image,) = image_files(read_annotations(listed(tmp_path, "val/a.jpg")), tmp_path / "in")
    with pytest.raises(ImageError, match=r"val/a\.jpg: no such file"):
        image.read()


def test_a_name_that_is_not_utf8_is_told_and_the_others_are_read(tmp_path: Path) -> None:
    save_image(tmp_path / "in" / "b.jpg")
    annotations = read_annotations(listed(tmp_path, "caf\udce9.jpg", "b.jpg"))
    (finding,) = annotations.findings
    assert "file names that are not UTF-8: 1 of 2 (caf\ufffd.jpg): rename them" in finding.line
    bad, good = image_files(annotations, tmp_path / "in")
    assert good.read().shape == (6, 8, 3)
    with pytest.raises(ImageError, match="no such file"):
        bad.read()


def labelled(tmp_path: Path, *sizes: tuple[int | None, int | None]) -> Path:
    """A file of a person in each image, with the sizes that it says."""
    images = [
        image_entry(n, file_name=f"{n}.jpg", width=width, height=height)
        for n, (width, height) in enumerate(sizes, start=1)
    ]
    people = [annotation(n, n, bbox=[70, 5, 20, 30]) for n in range(1, len(sizes) + 1)]
    return annotation_file(tmp_path / "a.json", people, images)


@pytest.mark.parametrize("said", [(100, 80), (80, 100), (-1, -1), (0, 0), (None, None)])
def test_the_images_own_size_counts(tmp_path: Path, said: tuple[int | None, int | None]) -> None:
    save_image(tmp_path / "1.jpg", 100, 80)
    document = labelled_document(read_coco(labelled(tmp_path, said)).people(), tmp_path)
    [found] = document.detections
    assert (len(found), found.size_wh) == (1, (100, 80))
    exchanged = [finding for finding in document.findings if "exchanged" in finding.what]
    assert len(exchanged) == (said == (80, 100))


def test_labels_for_another_size_or_for_the_image_on_its_side_are_not_used(
    tmp_path: Path,
) -> None:
    for number in (1, 2, 3):
        save_image(tmp_path / f"{number}.jpg", 100, 80)
    save_image(tmp_path / "2.jpg", 100, 80, orientation=6)  # 80 x 100, the right way up
    path = labelled(tmp_path, (100, 80), (100, 80), (100, 80))
    document = labelled_document(read_coco(path).people(), tmp_path)
    assert [bool(image.problem) for image in document.images] == [False, True, False]
    with pytest.raises(ImageError, match="they leave out its EXIF orientation"):
        document.images.images[1].read()
    path = labelled(tmp_path, (640, 480), (100, 80), (100, 80))
    with pytest.raises(DocumentError, match="of another size than their labels are for: 2 of 3"):
        labelled_document(read_coco(path).people(), tmp_path)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"bbox": [10, 20, 0, 0]}, "of 2 labelled people 0 are crowd regions"),
        ({"bbox": [10, 20, 0, 40]}, "0 are crowd regions and 2 have boxes without area"),
        ({"iscrowd": 1}, "of 2 labelled people 2 are crowd regions"),
    ],
)
def test_labels_of_whom_nobody_can_be_posed_are_refused(
    tmp_path: Path, changes: dict[str, object], why: str
) -> None:
    people = [annotation(n, n, **changes) for n in (1, 2)]
    images = [image_entry(n, file_name="a.jpg") for n in (1, 2)]
    path = annotation_file(tmp_path / "a.json", people, images)
    with pytest.raises(DocumentError, match=f"nobody's pose can be estimated.*{why}"):
        labelled_document(read_coco(path).people(), tmp_path)
    path = annotation_file(tmp_path / "b.json", [*people, annotation(3)], images)
    assert len(labelled_document(read_coco(path).people(), tmp_path).detections[0]) == 1


def test_labels_of_boxes_alone_are_all_taken(tmp_path: Path) -> None:
    people = [annotation(n, 1, bbox=[n, 2, 9, 9], keypoints=None) for n in (1, 2)]
    path = annotation_file(tmp_path / "a.json", people)
    document = labelled_document(read_coco(path).people(), tmp_path)
    assert len(document.detections[0]) == 2
    assert "nobody has any: all boxes are taken" in document.findings[0].line
    path = annotation_file(tmp_path / "a.json", [*people, annotation(3, 1)])
    document = labelled_document(read_coco(path).people(), tmp_path)
    assert len(document.detections[0]) == 1
    assert "people without labelled keypoints: 2 of 3" in document.findings[0].line
    assert document.findings[0].line.endswith(": left out")
