"""The check of data sets: what cannot be used, what has changed, each file read once."""

from __future__ import annotations

import os
import shutil

import pytest
from builders import annotation, annotation_file, save_image
from small_sets import entry, lines, size_wh

from posepipe.core.skeleton import COCO_PERSON
from posepipe.errors import ImageError
from posepipe.io.checksums import sha256_of
from posepipe.io.coco import read_coco
from posepipe.io.images import ImageFile
from posepipe.training.data import DataSets, DataTable
from posepipe.training.datacheck import check_data, data_fingerprint
from posepipe.training.samples import read_pose_sets


def test_no_data_has_no_problems():
    assert lines([]) == []


def test_sound_data_have_no_problems(make_set):
    # The same ids in both, for different images: that is no problem.
    assert lines([make_set("a"), make_set("bcd")], [make_set("val")]) == []


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


def test_images_that_cannot_be_used_are_told_and_left_out(make_set, tmp_path):
    images = [entry("a", 1), entry("a", 2, width=99), *(entry("a", n) for n in range(3, 12))]
    people = [annotation(n, n) for n in range(1, 12)]
    table = make_set("a", people, images)
    folder = tmp_path / "a"
    for number in range(6, 12):
        save_image(folder / f"a-{number}.png", *size_wh("a", number))
    (folder / "a-3.png").write_bytes(b"no image")
    # A photograph taken upright: labels for the image as it lies would be wrong.
    save_image(folder / "turned.jpg", 100, 83, orientation=6)
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
    assert [sample.image.file.id for sample in samples] == [1, 7, 8, 9, 10, 11]


def test_a_truncated_jpeg_is_found_though_its_header_is_sound(tmp_path):
    path = save_image(tmp_path / "a.jpg", 640, 480, orientation=6)
    file = ImageFile(1, path, "a.jpg")
    assert file.decoded_size_wh() == file.size_wh == (480, 640)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert file.size_wh == (480, 640)
    with pytest.raises(ImageError, match="damaged or truncated"):
        file.decoded_size_wh()


def test_where_most_images_cannot_be_used_that_is_fatal(make_set, tmp_path):
    images = [entry("a", n) for n in (1, 2, 3, 4, 5)]
    (told,) = lines([make_set("a", images=images)])
    assert told == (
        True,
        f"missing images in {tmp_path / 'a'}: 3 of 5 (a-3.png, a-4.png, a-5.png): left out",
    )


def test_exchanged_sizes_of_images_that_no_exif_turns_are_a_slip(make_set, tmp_path):
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


def test_an_image_that_is_both_learnt_and_measured_is_fatal_whatever_its_name(make_set, tmp_path):
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
    save_image(tmp_path / "val" / "a-1.png", 103, 80)
    images = [entry("a", 1, width=103), entry("val", 2)]
    annotation_file(tmp_path / "val.json", [annotation(1)], images)
    assert lines([train], [validate]) == [
        (
            False,
            "file names both in training and in validation, with different bytes: 1 of 2 (a-1.png)",
        )
    ]


def test_a_fingerprint_tells_a_changed_file_and_a_changed_image(make_set, tmp_path):
    def fingerprint(*tables):
        return data_fingerprint(tables, DataSets())

    assert fingerprint() == []
    table = make_set("a")
    [before] = fingerprint(table)
    assert before.sha256 == sha256_of(tmp_path / "a.json")
    assert before.image_count == 2
    files = [tmp_path / "a" / f"a-{n}.png" for n in (1, 2)]
    assert before.image_bytes == sum(file.stat().st_size for file in files)
    save_image(files[0], 333, 222)
    assert fingerprint(table) != [before]
    files[0].unlink()
    assert fingerprint(table)[0].image_bytes == files[1].stat().st_size
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
