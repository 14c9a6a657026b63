"""Downloads that were interrupted: they continue where they were, if it is the same file."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from downloading import CONTENT, HURRIED, SHA256, Ear, error, get, leavings
from fileserver import FileServer

from posepipe.zoo import downloads
from posepipe.zoo.downloads import Checks, fetch, part_of


def test_a_transfer_that_breaks_off_goes_on_where_it_was(server: FileServer, target: Path) -> None:
    server.faults = ["cut", "cut"]
    assert get(server, target) == SHA256
    half = len(CONTENT) // 2
    assert server.ranges == [None, f"bytes={half}-", f"bytes={half + half // 2}-"]
    assert target.read_bytes() == CONTENT


def test_a_later_call_goes_on_with_what_an_earlier_one_left(
    server: FileServer, target: Path
) -> None:
    server.faults = ["cut", "404"]
    assert "HTTP 404" in error(server, target)
    assert part_of(target).stat().st_size == len(CONTENT) // 2
    ear = Ear()
    fetch([f"{server.url}/w.pth"], target, patience=HURRIED, watcher=ear)
    assert ear.bytes[0] == (len(CONTENT) // 2, len(CONTENT))
    assert target.read_bytes() == CONTENT


def test_a_file_that_has_changed_is_begun_anew(server: FileServer, target: Path) -> None:
    server.faults = ["cut", "404"]
    error(server, target)
    server.files["/w.pth"] = other = CONTENT[::-1]
    assert get(server, target) == hashlib.sha256(other).hexdigest()
    assert server.ranges[-1] is not None
    assert target.read_bytes() == other


def test_a_server_without_ranges_sends_all_of_it_again(server: FileServer, target: Path) -> None:
    server.faults = ["cut", "whole"]
    assert get(server, target) == SHA256
    assert target.read_bytes() == CONTENT


def test_without_a_version_or_a_checksum_a_part_is_not_trusted(
    server: FileServer, target: Path
) -> None:
    server.weak = True
    server.faults = ["cut"]
    assert get(server, target) == SHA256
    assert server.ranges == [None, None]


def test_with_a_checksum_another_mirror_goes_on_with_the_part(
    server: FileServer, target: Path
) -> None:
    server.files["/mirror/w.pth"] = CONTENT
    server.faults = ["cut", "404"]
    assert get(server, target, f"{server.url}/mirror/w.pth", sha256_prefix=SHA256[:8]) == SHA256
    assert server.ranges[-1] == f"bytes={len(CONTENT) // 2}-"
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize("there", [CONTENT[::-1], CONTENT[:-7], CONTENT[: len(CONTENT) // 4]])
def test_a_part_of_another_file_is_found_out_and_dropped(
    there: bytes, server: FileServer, target: Path
) -> None:
    server.faults = ["cut", "404"]
    error(server, target)
    server.files["/mirror/w.pth"] = there
    digest = hashlib.sha256(there).hexdigest()
    urls = [f"{server.url}/mirror/w.pth"]
    assert fetch(urls, target, checks=Checks(sha256=digest), patience=HURRIED) == digest
    assert target.read_bytes() == there
    assert leavings(target) == set()


def test_a_part_that_lacks_nothing_but_its_name_is_not_fetched_again(
    server: FileServer, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(downloads._Part, "become", killed)
        with pytest.raises(KeyboardInterrupt):
            get(server, target, sha256=SHA256)
    assert get(server, target, sha256=SHA256) == SHA256
    assert len(server.requests) == 1


@pytest.mark.parametrize("note", [b"{", b"", b'{"url": "\xff"}', b'{"x": ' + b"[" * 100_000, b"3"])
def test_a_damaged_note_costs_the_part_and_nothing_else(
    note: bytes, server: FileServer, target: Path
) -> None:
    server.faults = ["cut", "404"]
    error(server, target)
    target.with_name("w.pth.part.json").write_bytes(note)
    assert get(server, target, sha256=SHA256) == SHA256
    assert server.ranges[-1] is None
