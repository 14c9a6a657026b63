"""Outputs that cannot be written, or must not be: one line, and what was there stays."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from builders import annotation, annotation_file, image_entry, pose_entry, save_json
from commands import (
    content,
    error_of,
    lines,
    photo,
    posepipe,
    start,
)

from posepipe.io import jsonfiles


def commands_with_output(person: Path, output: Path) -> dict[str, list[object]]:
    """Every command that writes a file, on input which is sound."""
    keypoints = save_json(person.parent / "in_kps.json", [pose_entry()])
    labels = annotation_file(
        person.parent / "labels.json", [annotation()], [image_entry(1, file_name="a.jpg")]
    )
    return {
        "detect": ["detect", person.parent / "pictures", "-o", output],
        "run": ["run", person.parent / "pictures", "-o", output],
        "pose": ["pose", person, "-o", output],
        "eval": ["eval", keypoints, "--annotations", labels, "--json", output],
    }


@pytest.mark.posix
@pytest.mark.parametrize("command", ["detect", "run", "pose", "eval"])
def test_an_output_that_cannot_be_written_is_found_out_before_any_work(
    command: str, person: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(*_: object, **__: object) -> None:
        pytest.fail("a model was loaded")

    monkeypatch.setattr("posepipe.pipeline.load_detection", load)
    monkeypatch.setattr("posepipe.pipeline.load_pose", load)
    for output, says in [
        (tmp_path / "no" / "where" / "out.json", "there is no folder"),
        (tmp_path / "pictures", "is a folder: name a file to write"),
        (tmp_path / "boxes.json" / "out.json", "there is no folder"),
        (Path("/dev/null"), "is a device or pipe"),
        (Path("-"), "results go to files, not to stdout"),
    ]:
        line = error_of(posepipe(*commands_with_output(person, output)[command]))
        assert says in line
        assert str(output) in line


@pytest.mark.parametrize("failure", [errno.ENOSPC, errno.EACCES, errno.EROFS])
@pytest.mark.parametrize("command", ["pose", "eval"])
def test_a_full_or_read_only_disk_leaves_an_earlier_output_alone(
    command: str,
    failure: int,
    person: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class FailingSync:
        """`os` for this module alone: a journal syncs, too, now and then by the clock."""

        def __getattr__(self, name: str) -> object:
            return getattr(os, name)

        def fsync(self, _: int) -> None:
            raise OSError(failure, os.strerror(failure))

    output = save_json(tmp_path / "out.json", "earlier")
    arguments = commands_with_output(person, output)[command]
    monkeypatch.setattr(jsonfiles, "os", FailingSync())
    result = posepipe(*arguments)
    assert result.exit_code == 1
    assert lines(result)[-1].startswith(f"posepipe: {output} cannot be written: ")
    assert os.strerror(failure) in lines(result)[-1]
    assert content(output) == "earlier"
    assert not list(tmp_path.glob(".out.json*"))


@pytest.mark.posix
@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_an_error(person: Path, tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    result = posepipe("pose", person, "-o", tmp_path / "locked" / "kps.json")
    assert "cannot be written: Permission denied" in error_of(result)


def test_a_full_disk_under_the_drawn_images_is_an_error(
    person: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    result = posepipe("draw", person, "-o", tmp_path / "drawn")
    assert "a.jpg cannot be written: No space left on device" in error_of(result)
    assert not list((tmp_path / "drawn").iterdir())


def overwriting(person: Path, keypoints: Path, labels: Path) -> list[tuple[list[object], Path]]:
    """Commands whose output is one of their inputs, with the file that is in danger."""
    folder, image = person.parent / "pictures", person.parent / "pictures" / "a.jpg"
    listed = person.parent / "list.txt"
    listed.write_text("pictures/a.jpg\n", encoding="utf-8")
    link = person.parent / "link.json"
    link.symlink_to(person)
    return [
        (["pose", person, "-o", person], person),
        (["pose", person, "-o", link], person),
        (["pose", "--ground-truth", labels, "--images", folder, "-o", labels], labels),
        (["detect", image, "-o", image], image),
        (["detect", folder, "-o", image], image),
        (["detect", listed, "-o", listed], listed),
        (["run", listed, "-o", image], image),
        (["eval", keypoints, "--annotations", labels, "--json", labels], labels),
        (["eval", keypoints, "--annotations", labels, "--json", keypoints], keypoints),
        (["draw", person, "-o", folder], image),
        (["draw", keypoints, "-o", folder], image),
    ]


def test_an_input_is_never_overwritten(person: Path, tmp_path: Path) -> None:
    keypoints = save_json(tmp_path / "kps.json", [pose_entry()])
    labels = annotation_file(
        tmp_path / "labels.json",
        [annotation()],
        [image_entry(1, file_name="a.jpg", width=200, height=200)],
    )
    for arguments, file in overwriting(person, keypoints, labels):
        before = file.read_bytes()
        line = error_of(posepipe(*arguments))
        assert "destroy" in line, arguments
        assert file.read_bytes() == before


def test_drawing_into_a_file_is_an_error(person: Path, tmp_path: Path) -> None:
    file = save_json(tmp_path / "file", [])
    assert "is not a folder" in error_of(posepipe("draw", person, "-o", file))
    assert "cannot be written" in error_of(posepipe("draw", person, "-o", file / "drawn"))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's device /dev/full")
def test_a_full_disk_under_stdout_is_an_error() -> None:
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        process = start("models", stdout=full)
        _, said = process.communicate(timeout=60)
    assert said == "posepipe: No space left on device\n"
    assert process.returncode == 1


def test_an_image_whose_drawn_copy_would_have_too_long_a_name_is_skipped(tmp_path: Path) -> None:
    from PIL import Image

    images = tmp_path / "pictures"
    photo(images / "a.jpg")
    long = f"{'x' * 250}.tif"
    with Image.open(images / "a.jpg") as image:
        image.save(images / long)
    entries = [pose_entry(), pose_entry(image_id=2, file_name=long)]
    (tmp_path / "drawn").mkdir()
    result = posepipe("draw", save_json(tmp_path / "kps.json", entries), "-o", tmp_path / "drawn")
    assert result.exit_code == 0
    assert "would have too long a name: rename it" in lines(result)[0]
    assert [path.name for path in (tmp_path / "drawn").iterdir()] == ["a.jpg"]


def test_two_images_with_the_same_file_are_not_drawn_over_each_other(tmp_path: Path) -> None:
    names = ["a.jpg", "a.jpg", "b.jpg", "c.jpg", "c.jpg", "d.jpg"]
    for name in set(names):
        photo(tmp_path / "pictures" / name)
    entries = [pose_entry(image_id=i, file_name=name) for i, name in enumerate(names, 1)]
    keypoints = save_json(tmp_path / "kps.json", entries)
    for number in range(5):  # two threads would write the same file at the same time
        drawn = tmp_path / f"drawn {number}"
        result = posepipe("draw", keypoints, "-o", drawn)
        assert result.exit_code == 0
        first, second, _ = lines(result)
        assert first.endswith("its drawn copy would replace that of image 1, a.jpg")
        assert second.endswith("its drawn copy would replace that of image 4, c.jpg")
        assert sorted(path.name for path in drawn.iterdir()) == sorted(set(names))
