"""Folders appear whole or not at all."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from posepipe.errors import DocumentError
from posepipe.io.folders import check_new_folder, folder_whole, write_folder_whole

FILES = {"a.txt": b"one", "b.bin": b"\x00" * 5000}


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_folder_of_nothing(tmp_path: Path) -> None:
    write_folder_whole(tmp_path / "new", {})
    assert content(tmp_path / "new") == {}


def test_a_folder_has_all_its_files_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for name in ("new", "empty"):
        write_folder_whole(tmp_path / name, FILES)
        assert content(tmp_path / name) == FILES
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "new"]


def test_what_is_there_already_stays(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_bytes(b"mine")
    (tmp_path / "file").write_bytes(b"mine")
    for name, says in (
        ("full", "already exists and is not empty: name another folder"),
        ("file", "exists and is not a folder: name another one"),
        ("absent/new", "there is no folder"),
    ):
        for action in (check_new_folder, lambda folder: write_folder_whole(folder, FILES)):
            with pytest.raises(DocumentError, match=says):
                action(tmp_path / name)
    assert content(tmp_path / "full") == {"mine": b"mine"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "full"]


def test_what_killed_processes_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    others = [tmp_path / name for name in (".other.77.tmp", ".new", "new.77.tmp", ".new.77")]
    left = tmp_path / ".new.4711.tmp"
    for folder in (*others, left):
        (folder / "data").mkdir(parents=True)
        (folder / "data/0.jpg").write_bytes(b"a part")
    (tmp_path / ".new.88.tmp").symlink_to(others[0])
    write_folder_whole(tmp_path / "new", FILES)
    assert sorted(tmp_path.iterdir()) == sorted([*others, tmp_path / "new"])
    assert all((folder / "data/0.jpg").exists() for folder in others)


def test_two_processes_cannot_write_the_same_folder(tmp_path: Path) -> None:
    with folder_whole(tmp_path / "new") as temporary:
        with pytest.raises(DocumentError, match="another process is writing"):
            write_folder_whole(tmp_path / "new", FILES)
        write_folder_whole(tmp_path / "other", FILES)
        (temporary / "a").write_bytes(b"mine")
    assert content(tmp_path / "new") == {"a": b"mine"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "other"]


def test_a_folder_that_takes_no_files_is_found_out_before_the_work() -> None:
    if not Path("/proc/self").is_dir():
        pytest.skip("no /proc")
    with pytest.raises(DocumentError, match="/proc/new cannot be written"):
        check_new_folder(Path("/proc/new"))


@pytest.mark.parametrize("call", ["fsync", "mkdir"])
def test_a_failure_leaves_nothing(
    call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os if call == "fsync" else Path, call, full)
        with pytest.raises(DocumentError) as caught:
            write_folder_whole(tmp_path / "new", FILES)
    assert str(caught.value) == (
        f"{tmp_path / 'new'} cannot be written: No space left on device: nothing was changed"
    )
    assert list(tmp_path.iterdir()) == []


def test_an_interruption_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_: int) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", interrupted)
        with pytest.raises(KeyboardInterrupt):
            write_folder_whole(tmp_path / "new", FILES)
    assert list(tmp_path.iterdir()) == []
