from __future__ import annotations

import errno
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from posepipe.errors import DocumentError
from posepipe.io.jsonfiles import (
    NOT_UTF8,
    decode,
    decode_untyped,
    lines_of_array,
    read_bytes,
    write_whole,
)


def decoded(data: bytes, *, lenient: bool = False) -> list[float]:
    return decode(data, list[float], path=Path("a.json"), what="a list of numbers", lenient=lenient)


def test_an_array_has_one_item_a_line() -> None:
    assert b"".join(lines_of_array([])) == b"[]"
    assert b"".join(lines_of_array([1, {"a": 2}])) == b'[\n1,\n{"a":2}\n]'


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "is not JSON: it is empty"),
        (b"[1,\n 2", "is not JSON: it ends too early at line 2, column 3"),
        (b"[1,\n  x]", "is not JSON: invalid character at line 2, column 3"),
        (b"[NaN]", "is not JSON: invalid character at line 1, column 2"),
        (b"[" * 100000, "is not a list of numbers|nested too deeply"),
        (b"{}", "is not a list of numbers: it takes a list, got a table"),
        (b'[1, "a"]', r"is not a list of numbers: \[1\] takes a number, got a text"),
        (b"[1e999]", r"\[0\]: Number out of range"),
        (b"[1]\n[2]", "is not JSON: more text after its end at line 2, column 2"),
        (b"\xff\xfe[\x00", "is not JSON: it is UTF-16: save it as UTF-8"),
        (b"\xfe\xff\x00[", "is not JSON: it is UTF-16: save it as UTF-8"),
        (b"\x1f\x8b\x08\x00", r"is not JSON: it is compressed \(gzip\): unpack it"),
        (b"PK\x03\x04\x14", "is not JSON: it is a zip archive: unpack it"),
        (b"\n<html>", "is not JSON: it is HTML or XML: fetch or export it again"),
    ],
)
def test_what_is_wrong_is_said_with_the_place(data: bytes, reason: str) -> None:
    with pytest.raises(DocumentError, match=f"^a.json .*{reason}") as caught:
        decoded(data)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"{'a': 1}", "names need double quotes at line 1, column 2"),
        ('["ä"]'.encode("latin-1"), "it is not UTF-8: save it as UTF-8"),
    ],
)
def test_what_is_wrong_is_said_where_anything_may_stand(data: bytes, reason: str) -> None:
    with pytest.raises(DocumentError, match=f"^a.json is not JSON: {reason}$"):
        decode_untyped(data, Path("a.json"), "a list")


@pytest.mark.parametrize(
    "name", ["a\udcffb.jpg", "\ud800", "\\\\\udcff", "\udcff\U0001f600", "\\udcff"]
)
def test_halves_of_characters_as_python_writes_them_are_marked(name: str) -> None:
    data = json.dumps([name]).encode()
    (read,) = decode_untyped(data, Path("a.json"), "a list")
    assert read == re.sub("[\ud800-\udfff]", NOT_UTF8, name)
    read.encode()


def test_nan_as_python_writes_it_is_let_through_where_asked_for() -> None:
    numbers = decoded(b"[NaN, -Infinity, 1]", lenient=True)
    assert str(numbers) == "[nan, -inf, 1.0]"
    with pytest.raises(DocumentError, match="is not JSON"):
        decoded(b"[NaN,, 1]", lenient=True)
    with pytest.raises(DocumentError, match="takes a number, got a text"):
        decoded(b'[NaN, "a"]', lenient=True)


def test_a_byte_order_mark_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b"\xef\xbb\xbf[1]")
    assert read_bytes(tmp_path / "a.json") == b"[1]"


def test_a_file_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match="no such file"):
        read_bytes(tmp_path / "gone.json")
    with pytest.raises(DocumentError, match="is a folder"):
        read_bytes(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(DocumentError, match="cannot be read: Not a directory"):
        read_bytes(tmp_path / "file" / "a.json")
    if Path("/dev/zero").is_char_device():
        (tmp_path / "link.json").symlink_to("/dev/zero")
        for endless in (Path("/dev/zero"), tmp_path / "link.json"):
            with pytest.raises(DocumentError, match="is a device"):
                read_bytes(endless)


def test_a_file_is_written_with_the_users_usual_permissions(tmp_path: Path) -> None:
    (tmp_path / "usual").touch()
    write_whole(tmp_path / "a.json", [b"[", b"]"])
    assert (tmp_path / "a.json").read_bytes() == b"[]"
    assert (tmp_path / "a.json").stat().st_mode == (tmp_path / "usual").stat().st_mode
    assert sorted(os.listdir(tmp_path)) == ["a.json", "usual"]  # noqa: PTH208


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "a.json").symlink_to("real/b.json")
    write_whole(tmp_path / "a.json", [b"1"])
    assert (tmp_path / "a.json").is_symlink()
    assert (tmp_path / "real" / "b.json").read_bytes() == b"1"


def stopped_midway() -> Iterator[bytes]:
    yield b"half of it"
    raise KeyboardInterrupt


def test_an_interrupted_write_leaves_the_earlier_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b"earlier")
    with pytest.raises(KeyboardInterrupt):
        write_whole(path, stopped_midway())
    assert path.read_bytes() == b"earlier"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EDQUOT])
def test_a_failure_on_the_disk_leaves_the_earlier_file_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    path = tmp_path / "a.json"
    path.write_bytes(b"earlier")
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(DocumentError, match=f"a.json cannot be written: {os.strerror(number)}"):
        write_whole(path, [b"new"])
    assert path.read_bytes() == b"earlier"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(sys.platform == "win32", reason="needs limits of the system")
def test_a_file_larger_than_the_system_allows_leaves_the_earlier_one_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b"earlier")
    program = (
        "import resource, sys; from pathlib import Path\n"
        "from posepipe.io.jsonfiles import write_whole\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "write_whole(Path(sys.argv[1]), [b'x' * 100_000])\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=False
    )
    assert "DocumentError" in run.stderr.splitlines()[-1]
    assert "File too large" in run.stderr.splitlines()[-1]
    assert path.read_bytes() == b"earlier"
    assert list(tmp_path.iterdir()) == [path]


def test_an_output_that_cannot_be_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match=r"there is no folder .*gone: make it"):
        write_whole(tmp_path / "gone" / "a.json", [b"1"])
    with pytest.raises(DocumentError, match="is a folder"):
        write_whole(tmp_path, [b"1"])
    if sys.platform != "win32":
        with pytest.raises(DocumentError, match="is a device or pipe"):
            write_whole(Path("/dev/null"), [b"1"])
