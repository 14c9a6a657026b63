"""Which images inputs lead to, in which order, and by which ids."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from builders import save_image

from posepipe.errors import ImageError
from posepipe.io.find_images import find_images
from posepipe.io.images import ImageSet, coco_id


def names(images: ImageSet) -> list[str]:
    return [image.file_name for image in images]


def test_a_folder_gives_its_images_in_natural_order(tmp_path: Path) -> None:
    for name in ("f10.jpg", "f9.JPG", "f1.png", ".hidden.jpg", "in/f2.jpg", ".in/f3.jpg"):
        save_image(tmp_path / name)
    (tmp_path / "notes.md").touch()
    (tmp_path / "looks-like.jpg").mkdir()
    images = find_images([tmp_path])
    assert names(images) == ["f1.png", "f9.JPG", "f10.jpg"]
    assert [image.id for image in images] == [1, 2, 3]
    assert images.root == tmp_path
    assert all(image.path == tmp_path / image.file_name for image in images)
    assert names(find_images([tmp_path], recursive=True)) == [
        *("f1.png", "f9.JPG", "f10.jpg"),
        "in/f2.jpg",
    ]


def test_files_folders_patterns_and_lists_go_together(tmp_path: Path) -> None:
    for name in ("a/1.jpg", "b/2.jpg", "b/no-suffix.png", "c/3.jpg", "c/4.jpg", "d/x/5.jpg"):
        save_image(tmp_path / name)
    (tmp_path / "b/no-suffix.png").rename(tmp_path / "b/no-suffix")
    (tmp_path / "d/list.txt").write_text("# a list\n\n  x/5.jpg  \n../c/4.jpg\n", encoding="utf-8")
    inputs: list[str | Path] = [
        tmp_path / "a",
        tmp_path / "b/2.jpg",
        tmp_path / "b/no-suffix",
        str(tmp_path / "c/[3]*.jpg"),
        tmp_path / "d/list.txt",
    ]
    images = find_images(inputs)
    assert images.root == tmp_path
    assert names(images) == [
        *("a/1.jpg", "b/2.jpg", "b/no-suffix", "c/3.jpg", "c/4.jpg"),
        "d/x/5.jpg",
    ]
    assert all(image.read().shape == (6, 8, 3) for image in images)


def test_a_pattern_can_reach_any_depth(tmp_path: Path) -> None:
    for name in ("a/1.jpg", "a/b/2.jpg"):
        save_image(tmp_path / name)
    assert names(find_images([str(tmp_path / "**/*.jpg")])) == ["1.jpg", "b/2.jpg"]


def test_paths_may_be_relative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_image(tmp_path / "photos/1.jpg")
    monkeypatch.chdir(tmp_path)
    for text in ("photos", "photos/1.jpg", "photos/*", "./photos/../photos"):
        assert names(find_images([text])) == ["1.jpg"]


def test_an_image_named_twice_comes_once(tmp_path: Path) -> None:
    path = save_image(tmp_path / "photos/1.jpg")
    (tmp_path / "photos/2.jpg").symlink_to(path)
    (tmp_path / "again").symlink_to(tmp_path / "photos")
    inputs: list[str | Path] = [
        tmp_path / "photos",
        path,
        tmp_path / "again",
        str(tmp_path / "photos/*.jpg"),
    ]
    assert len(find_images(inputs)) == 1


def test_a_loop_of_folders_ends(tmp_path: Path) -> None:
    save_image(tmp_path / "a/1.jpg")
    (tmp_path / "a/up").symlink_to(tmp_path)
    assert names(find_images([tmp_path], recursive=True)) == ["a/1.jpg"]


def test_the_order_of_the_inputs_does_not_matter(tmp_path: Path) -> None:
    paths = [save_image(tmp_path / f"{n}/p.jpg") for n in (10, 2, 33)]
    forward, backward = find_images(paths), find_images(paths[::-1])
    assert names(forward) == names(backward) == ["2/p.jpg", "10/p.jpg", "33/p.jpg"]


@pytest.mark.parametrize(
    ("file_names", "ids"),
    [
        (["000000001490.jpg", "000000000009.png"], [9, 1490]),
        (["COCO_val2014_000000000042.jpg", "000000000007.jpg"], [7, 42]),
        (["7.jpg", "007.png"], [1, 2]),
        (["7.jpg", "eight.jpg"], [1, 2]),
        (["99999999999999999999.jpg"], [1]),
    ],
)
def test_ids_are_coco_ids_where_every_name_carries_one(
    tmp_path: Path, file_names: list[str], ids: list[int]
) -> None:
    for name in file_names:
        save_image(tmp_path / name)
    images = find_images([tmp_path])
    assert sorted(image.id for image in images) == ids
    assert all(coco_id(image.file_name) in (image.id, None) or ids == [1, 2] for image in images)


def test_an_input_that_leads_nowhere_fails_when_its_turn_comes(tmp_path: Path) -> None:
    save_image(tmp_path / "000000000009.jpg")
    (tmp_path / "empty").mkdir()
    (tmp_path / "list.txt").write_text("000000000011.jpg\n", encoding="utf-8")
    (tmp_path / "nothing.txt").write_text("# nothing\n", encoding="utf-8")
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\x00")
    inputs = [
        *("000000000009.jpg", "000000000010.jpg", "empty", "*.gif", "no-folder"),
        *("list.txt", "nothing.txt", "binary.txt"),
    ]
    images = find_images([tmp_path / name for name in inputs])
    assert [image.id for image in images] == [9, 10, 11, 12, 13, 14, 15, 16]
    assert names(images)[:3] == [f"{n:012d}.jpg" for n in (9, 10, 11)]
    reasons = {}
    for image in images.images[1:]:
        with pytest.raises(ImageError) as caught:
            image.read()
        reasons[image.file_name] = str(caught.value)
        with pytest.raises(ImageError):
            _ = image.size_wh
    assert "no such file: check" in reasons["000000000010.jpg"]
    assert "no such file: check" in reasons["000000000011.jpg"]
    assert "a folder without images" in reasons["empty"]
    assert "no file matches this pattern" in reasons["*.gif"]
    assert "no such file or folder" in reasons["no-folder"]
    assert "names no images" in reasons["nothing.txt"]
    assert "UTF-8" in reasons["binary.txt"]


@pytest.mark.parametrize(
    ("inputs", "reason"),
    [
        ([], "no images were named"),
        (["gone.jpg"], "gone.jpg: no such file"),
        (["gone"], "gone: no such file or folder"),
        (["*.jpg"], "no file matches this pattern"),
        (["."], "a folder without images .*search them with --recursive"),
        (["gone", "*.jpg"], r"and 1 more inputs lead nowhere"),
        (["a" * 300], "cannot be looked up"),
    ],
)
def test_inputs_that_all_lead_nowhere_are_an_error_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inputs: list[str], reason: str
) -> None:
    (tmp_path / "in").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ImageError, match=reason) as caught:
        find_images(inputs)
    assert "\n" not in str(caught.value)


def test_a_folder_can_be_copied_and_found_again_with_the_same_names(tmp_path: Path) -> None:
    save_image(tmp_path / "one/a/1.jpg")
    save_image(tmp_path / "one/b.jpg")
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    one = find_images([tmp_path / "one"], recursive=True)
    two = find_images([tmp_path / "two"], recursive=True)
    assert [(i.id, i.file_name) for i in one] == [(i.id, i.file_name) for i in two]
