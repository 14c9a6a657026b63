"""The check of the data: every kind of problem in one line with its count, and nothing else."""

from __future__ import annotations

import os
import shutil

import pytest
from builders import annotation, annotation_file, image_entry, keypoints_xyv, save_picture

from posepipe.core.skeleton import COCO_PERSON
from posepipe.errors import DocumentError, ImageError
from posepipe.io.checksums import sha256_of
from posepipe.io.coco import read_annotations, read_coco
from posepipe.io.images import ImageFile
from posepipe.training.data import DataSets, DataTable
from posepipe.training.datacheck import check_data, data_fingerprint
from posepipe.training.samples import pose_samples, read_pose_sets


@pytest.fixture
def make_set(tmp_path):
    """Makes a data set of two images and two people; what is given replaces its parts."""

    def make(name, annotations=None, images=None, **changes):
        folder = tmp_path / name
        for number in (1, 2):
            save_picture(folder / f"{name}-{number}.png", *size_wh(name, number))
        if images is None:
            images = [entry(name, number) for number in (1, 2)]
        if annotations is None:
            annotations = [annotation(1), annotation(2, image_id=2)]
        path = annotation_file(tmp_path / f"{name}.json", annotations, images, **changes)
        return DataTable(annotations=str(path), images=str(folder))

    return make


def size_wh(name, number):
    """Of another width for every set and another height for every image."""
    return 100 + ord(name[0]) - ord("a"), 79 + number


def entry(name, number, **changes):
    width, height = size_wh(name, number)
    given = {"file_name": f"{name}-{number}.png", "width": width, "height": height}
    return image_entry(number, **{**given, **changes})


def lines(train, validate=(), **options):
    learnt = options.get("learnt", "keypoints")
    data = DataSets(COCO_PERSON, keypoints=learnt == "keypoints")
    found = check_data(train, validate, data=data, learnt=learnt)
    for finding in found:
        assert finding.line.startswith("error: " if finding.fatal else "warning: ")
        assert "\n" not in finding.line
    # Without the paths, which differ from run to run.
    return [(f.fatal, f.line.split(f"{f.where}: ", 1)[1]) for f in found]


def test_no_data_has_no_problems():
    assert lines([]) == []


def test_sound_data_have_no_problems(make_set):
    # The same ids in both, for different images: that is no problem.
    assert lines([make_set("a"), make_set("bcd")], [make_set("val")]) == []


PROBLEMS = {
    "an annotation twice": (
        [annotation(1), annotation(1), annotation(2, 2), annotation(2, 2)],
        (False, "annotations that are listed twice: 2 of 4 (1, 2): taken once"),
    ),
    "an annotation id of two people": (
        [annotation(1), annotation(1, bbox=[11, 20, 30, 40]), annotation(2, 2)],
        (
            False,
            "annotation ids that are used twice: 1 of 3 (1): they are different things, so all of "
            "them are used",
        ),
    ),
    "a person twice": (
        [annotation(1), annotation(2)],
        (False, "people who are labelled twice: 1 of 2 (box 10, 20, 30, 40 of image 1)"),
    ),
    "an image that is not listed": (
        [annotation(1), annotation(2, image_id=9)],
        (
            False,
            "annotations of images that are not listed: 1 of 2 (annotation 2 of image 9): left out",
        ),
    ),
    "a wrong number of keypoints": (
        [annotation(1, keypoints=[1, 2, 2]), annotation(2, keypoints="none"), annotation(3)],
        (
            True,
            "people without x, y, v of 17 keypoints: 2 of 3 (annotation 1 has 3 numbers, "
            "annotation 2 has something other than numbers): their keypoints count as not labelled",
        ),
    ),
    "a wrong visibility": (
        [annotation(1, keypoints=[10, 20, 3] + [0] * 48), annotation(2)],
        (
            False,
            "people with a visibility other than 0, 1, 2: 1 of 2 (annotation 1): above 0 counts "
            "as labelled",
        ),
    ),
    "unknown pseudo keypoints": (
        [annotation(1, pseudo_keypoints=[0, 17]), annotation(2, 2)],
        (False, "people with unknown pseudo keypoints: 1 of 2 (annotation 1)"),
    ),
    "a negative size": (
        [annotation(1, bbox=[50, 20, -30, 40]), annotation(2)],
        (False, "boxes of negative size: 1 of 2 (annotation 1): left out"),
    ),
    "no area": (
        [annotation(n, bbox=[10, 20, 0, 40]) for n in (1, 2, 3, 4)] + [annotation(5)],
        (
            False,
            "boxes without area, whose people are left out: 4 of 5 "
            "(annotation 1, annotation 2, annotation 3, …)",
        ),
    ),
    "a box outside": (
        [annotation(1, bbox=[101, 20, 30, 40]), annotation(2)],
        (False, "boxes outside their images: 1 of 2 (annotation 1)"),
    ),
    "a box that reaches out": (
        [annotation(1, bbox=[80, 20, 30, 40]), annotation(2, bbox=[73, 20, 30, 40])],
        (
            False,
            "boxes that reach outside their images by more than a tenth of their size: 1 of 2 "
            "(annotation 1)",
        ),
    ),
    "a keypoint astray": (
        [annotation(1, keypoints=[120, 20, 2] + [0] * 48), annotation(2)],
        (
            False,
            "people with keypoints outside the image by more than a tenth of its size: 1 of 2 "
            "(annotation 1)",
        ),
    ),
    "nobody with keypoints": (
        [annotation(1, keypoints=keypoints_xyv(0)), annotation(2, iscrowd=1)],
        (True, "people with labelled keypoints: 0 of 2"),
    ),
}


@pytest.mark.parametrize("name", PROBLEMS)
def test_every_problem_of_labels_is_a_line_of_its_own(make_set, name):
    people, expected = PROBLEMS[name]
    assert lines([make_set("a", people)]) == [expected]
    assert lines([], [make_set("a", people)]) == [expected]


def test_several_problems_are_all_told(make_set):
    people = [person for people, _ in PROBLEMS.values() for person in people]
    for number, person in enumerate(people):
        person = people[number] = dict(person)
        person["id"] = 1 if number < 4 else number
    people[3]["bbox"] = [9, 9, 9, 9]
    told = {line.split(":")[0] for _, line in lines([make_set("a", people)])}
    assert told == {
        expected.split(":")[0]
        for name, (_, (_, expected)) in PROBLEMS.items()
        if name != "nobody with keypoints"
    }


def test_what_is_fatal_in_labels_is_refused_on_reading_too(make_set):
    people, (fatal, _) = PROBLEMS["a wrong number of keypoints"]
    assert fatal
    table = make_set("a", people)
    with pytest.raises(DocumentError):
        pose_samples(read_annotations(table.annotations), table.images, pseudo_weight=0.3)


def test_a_detector_needs_no_keypoints_and_nobody_is_a_warning(make_set):
    unlabelled = [annotation(1, keypoints=keypoints_xyv(0))]
    assert lines([make_set("a", unlabelled)], learnt="people") == []
    assert lines([make_set("a", [])], learnt="people") == [(False, "people: 0 of 0")]
    assert lines([make_set("a", [])]) == [(True, "people with labelled keypoints: 0 of 0")]


def test_other_categories_are_not_checked(make_set):
    dog = annotation(2, category_id=18, keypoints=[1, 2], bbox=[-900, 0, 1, 1])
    assert lines([make_set("a", [annotation(1), dog])]) == []


def test_ids_and_names_that_are_listed_twice_are_told(make_set):
    images = [entry("a", 1), entry("a", 2), entry("a", 2)]
    assert lines([make_set("a", images=images)]) == [
        (False, "images that are listed twice: 1 of 3 (2): taken once"),
    ]
    images = [entry("a", 1), entry("a", 2), entry("a", 1) | {"id": 3}]
    assert lines([make_set("a", images=images)]) == [
        (False, "file names under several ids: 1 of 3 (a-1.png)"),
    ]
    images = [entry("a", 1), entry("a", 2), entry("a", 1) | {"id": 2}]
    assert lines([make_set("a", images=images)]) == [
        (
            True,
            "image ids that two images share: 1 of 3 (2: a-2.png and a-1.png): give every "
            "image an id of its own",
        ),
    ]


def test_a_file_or_folder_of_no_use_is_a_line_too(make_set, tmp_path):
    (tmp_path / "bad.json").write_text('{"images": 5}')
    bad = DataTable(annotations=str(tmp_path / "bad.json"), images=str(tmp_path))
    none = DataTable(annotations=str(tmp_path / "none.json"), images=str(tmp_path))
    expected_lost = f"missing folders: 1 ({tmp_path / 'nowhere'})"
    lost = DataTable(annotations=make_set("a").annotations, images=str(tmp_path / "nowhere"))
    empty = make_set("b", [], [])
    told = lines([bad, none, lost, empty])
    assert [fatal for fatal, _ in told] == [True] * 4
    assert "is not a COCO annotation file" in told[0][1]
    assert "no such file" in told[1][1]
    assert told[2][1] == expected_lost
    assert told[3][1] == "images: 0"


def test_pictures_that_cannot_be_used_are_told_and_left_out(make_set, tmp_path):
    images = [entry("a", 1), entry("a", 2, width=99), *(entry("a", n) for n in range(3, 12))]
    people = [annotation(n, n) for n in range(1, 12)]
    table = make_set("a", people, images)
    folder = tmp_path / "a"
    for number in range(6, 12):
        save_picture(folder / f"a-{number}.png", *size_wh("a", number))
    (folder / "a-3.png").write_bytes(b"no image")
    # A photograph taken upright: labels for the image as it lies would be wrong.
    save_picture(folder / "turned.jpg", 100, 83, orientation=6)
    (folder / "turned.jpg").rename(folder / "a-4.png")
    whole = (folder / "a-6.png").read_bytes()
    (folder / "a-6.png").write_bytes(whole[: len(whole) // 2])  # its header is sound
    data = DataSets(COCO_PERSON)
    missing, unreadable, size = check_data([table], [], data=data)
    assert missing.line.endswith(f"missing images in {folder}: 1 of 11 (a-5.png): left out")
    assert "unreadable images: 2 of 11 (" in unreadable.line
    assert "a-3.png is not an image" in unreadable.line
    assert "a-6.png is damaged or truncated" in unreadable.line
    assert size.line.endswith(
        "images of another size than their labels are for: 2 of 11 (a-2.png is 100 x 81 pixels, "
        "its labels are for 99 x 81, a-4.png is 83 x 100 pixels, its labels are for 100 x 83 (they "
        "leave out its EXIF orientation)): left out"
    )
    assert not any(finding.fatal for finding in (missing, unreadable, size))
    (samples,) = read_pose_sets([table], pseudo_weight=1, data=data)
    assert [sample.picture.file.id for sample in samples] == [1, 7, 8, 9, 10, 11]


def test_a_truncated_jpeg_is_found_though_its_header_is_sound(tmp_path):
    path = save_picture(tmp_path / "a.jpg", 640, 480, orientation=6)
    file = ImageFile(1, path, "a.jpg")
    assert file.decoded_size_wh() == file.size_wh == (480, 640)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert file.size_wh == (480, 640)
    with pytest.raises(ImageError, match="damaged or truncated"):
        file.decoded_size_wh()


def test_where_most_pictures_cannot_be_used_that_is_fatal(make_set, tmp_path):
    images = [entry("a", n) for n in (1, 2, 3, 4, 5)]
    (told,) = lines([make_set("a", images=images)])
    assert told == (
        True,
        f"missing images in {tmp_path / 'a'}: 3 of 5 (a-3.png, a-4.png, a-5.png): left out",
    )


def test_exchanged_sizes_of_pictures_that_no_exif_turns_are_a_slip(make_set, tmp_path):
    width, height = size_wh("a", 1)
    images = [entry("a", 1, width=height, height=width), entry("a", 2, width=-1, height=None)]
    data = DataSets(COCO_PERSON)
    table = make_set("a", [annotation(1), annotation(2, 2)], images)
    (told,) = check_data([table], [], data=data)
    assert told.line.endswith(
        "images whose width and height are exchanged in the file: 1 of 2 (a-1.png): the "
        "images' own are taken"
    )
    assert not any(data.left_out.values())


def test_a_picture_that_is_both_learnt_and_measured_is_fatal_whatever_its_name(make_set, tmp_path):
    train, validate = make_set("a"), make_set("val")
    shutil.copy(tmp_path / "a" / "a-1.png", tmp_path / "val" / "val-1.png")  # the same bytes
    images = [entry("val", 1, width=100), entry("val", 2)]
    validate = DataTable(
        annotations=str(annotation_file(tmp_path / "v.json", [annotation(1)], images)),
        images=validate.images,
    )
    expected = (True, "images both in training and in validation: 1 of 2 (a-1.png)")
    assert lines([train], [validate]) == [expected]
    (tmp_path / "val" / "val-1.png").unlink()
    os.link(tmp_path / "a" / "a-1.png", tmp_path / "val" / "val-1.png")  # the same file
    assert lines([train], [validate]) == [expected]
    assert lines([train, make_set("b")], [make_set("other"), train]) == [
        (True, "images both in training and in validation: 2 of 2 (a-1.png, a-2.png)")
    ]


def test_the_same_name_with_other_bytes_is_a_warning(make_set, tmp_path):
    train, validate = make_set("a"), make_set("val")
    save_picture(tmp_path / "val" / "a-1.png", 103, 80)
    images = [entry("a", 1, width=103), entry("val", 2)]
    annotation_file(tmp_path / "val.json", [annotation(1)], images)
    assert lines([train], [validate]) == [
        (
            False,
            "file names both in training and in validation, with different bytes: 1 of 2 (a-1.png)",
        )
    ]


def test_a_fingerprint_tells_a_changed_file_and_a_changed_picture(make_set, tmp_path):
    def fingerprint(*tables):
        return data_fingerprint(tables, DataSets())

    assert fingerprint() == []
    table = make_set("a")
    [before] = fingerprint(table)
    assert before.sha256 == sha256_of(tmp_path / "a.json")
    assert before.pictures == 2
    files = [tmp_path / "a" / f"a-{n}.png" for n in (1, 2)]
    assert before.picture_bytes == sum(file.stat().st_size for file in files)
    save_picture(files[0], 333, 222)
    assert fingerprint(table) != [before]
    files[0].unlink()
    assert fingerprint(table)[0].picture_bytes == files[1].stat().st_size
    make_set("a", [annotation(1)])
    assert fingerprint(table)[0].sha256 != before.sha256


def test_every_file_is_read_once(make_set, monkeypatch):
    read = []

    def counting(path):
        read.append(path.name)
        return read_coco(path)

    monkeypatch.setattr("posepipe.training.data.read_coco", counting)
    one, other, data = make_set("a"), make_set("bcd"), DataSets()
    check_data([one, other], [other], data=data)
    read_pose_sets([one, other], pseudo_weight=1, data=data)
    data_fingerprint([one, other, other], data)
    assert sorted(read) == ["a.json", "bcd.json"]


def test_keypoints_that_the_file_names_in_another_order_are_not_learnt(make_set):
    names = list(COCO_PERSON.keypoints)
    names[1], names[2] = names[2], names[1]
    table = make_set("a", categories=[{"id": 1, "name": "person", "keypoints": names}])
    (problem,) = lines([table])
    assert problem[0]
    assert "that are in another order than coco_person's: 2 of 17 (2: right_eye" in problem[1]
    assert not any(fatal for fatal, _ in lines([table], learnt="people"))


def test_all_categories_with_the_skeleton_s_keypoints_are_learnt(make_set):
    names = list(COCO_PERSON.keypoints)
    alike = [{"id": n, "name": f"kind {n}", "keypoints": names} for n in (4, 5)]
    entries = [annotation(n, n, category_id=n + 3) for n in (1, 2)]
    (told,) = lines([make_set("a", entries, categories=alike)])
    assert told == (
        False,
        "categories not named 'person': 2 of 2 ('kind 4', 'kind 5'): their keypoints are its",
    )
    strange = [{**one, "keypoints": names[1:]} for one in alike]
    assert (True, "people with labelled keypoints: 0 of 2") in lines(
        [make_set("b", entries, categories=strange)]
    )
