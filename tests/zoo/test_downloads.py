"""Files over the network, from a server on this machine that does everything wrong."""

from __future__ import annotations

import errno
import hashlib
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from downloading import CONTENT, HURRIED, MD5, SHA256, Ear, error, get, leavings
from fileserver import FileServer

from posepipe.errors import DownloadError
from posepipe.zoo import connections, downloads
from posepipe.zoo.downloads import Checks, fetch, part_of

# --- all goes well


def test_an_empty_file_is_a_file(server: FileServer, target: Path) -> None:
    server.files["/w.pth"] = b""
    assert get(server, target) == hashlib.sha256(b"").hexdigest()
    assert target.read_bytes() == b""


def test_a_file_arrives_whole_with_its_checksum_and_nothing_else(
    server: FileServer, target: Path
) -> None:
    assert get(server, target, sha256=SHA256, md5_prefix=MD5[:6]) == SHA256
    assert target.read_bytes() == CONTENT
    assert leavings(target) == set()
    assert server.ranges == [None]


def test_progress_is_told_from_nothing_to_all(server: FileServer, target: Path) -> None:
    ear = Ear()
    fetch([f"{server.url}/w.pth"], target, watcher=ear)
    assert ear.bytes[0] == (0, len(CONTENT))
    assert ear.bytes[-1] == (len(CONTENT), len(CONTENT))
    assert [done for done, _ in ear.bytes] == sorted(done for done, _ in ear.bytes)
    assert ear.lines == []


def test_what_is_there_is_checked_and_not_fetched(server: FileServer, target: Path) -> None:
    get(server, target)
    assert get(server, target, sha256=SHA256) == SHA256
    with pytest.raises(DownloadError, match=r"w\.pth is damaged or another file: its SHA-256 is"):
        get(server, target, sha256="0" * 64)
    assert len(server.requests) == 1
    assert target.exists()


def test_a_length_that_is_not_told_is_found_out(server: FileServer, target: Path) -> None:
    server.faults = ["no length"]
    ear = Ear()
    fetch([f"{server.url}/w.pth"], target, checks=Checks(sha256=SHA256), watcher=ear)
    assert target.read_bytes() == CONTENT
    assert ear.bytes[-1] == (len(CONTENT), None)


def test_a_file_of_a_folder_is_fetched_by_its_url(tmp_path: Path, target: Path) -> None:
    (tmp_path / "w.pth").write_bytes(CONTENT)
    assert fetch([(tmp_path / "w.pth").as_uri()], target) == SHA256
    assert target.read_bytes() == CONTENT


# --- resumed


# --- what goes wrong there


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("404", "HTTP 404, Not Found"),
        ("403", "HTTP 403, Forbidden"),
        ("silent", "no answer within 0.3 s"),
    ],
)
def test_a_place_that_will_not_give_it_is_asked_once_and_named(
    fault: str, reason: str, server: FileServer, target: Path
) -> None:
    server.faults = [fault] * 9
    message = error(server, target)
    assert f"w.pth cannot be fetched ({server.url}/w.pth: {reason})" in message
    assert message.endswith(f"or bring the file by hand and put it at {target}")
    assert len(server.requests) == 1


@pytest.mark.parametrize("fault", ["503", "429", "cut"])
def test_what_may_pass_is_tried_again(fault: str, server: FileServer, target: Path) -> None:
    server.faults = [fault]
    assert get(server, target) == SHA256
    assert len(server.requests) == 2


def test_an_error_that_stays_ends_it(server: FileServer, target: Path) -> None:
    server.faults = ["503"] * 9
    assert "HTTP 503" in error(server, target)
    assert len(server.requests) == HURRIED.attempts


def test_a_stalled_transfer_is_left_and_gone_on_with(server: FileServer, target: Path) -> None:
    server.faults = ["stall"]
    ear = Ear()
    urls = [f"{server.url}/w.pth"]
    assert fetch(urls, target, patience=HURRIED, watcher=ear) == SHA256
    assert server.ranges == [None, f"bytes={len(CONTENT) // 2}-"]
    assert ear.lines == [f"{urls[0]}: stalled: nothing for 0.3 s: trying again"]


def test_a_trickle_is_a_stall(
    server: FileServer, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "_SLOWEST", 1e9)
    server.faults = ["slow"]
    assert get(server, target) == SHA256
    assert len(server.requests) == 2


def test_a_wrong_checksum_sends_it_to_the_next_mirror(server: FileServer, target: Path) -> None:
    server.files["/mirror/w.pth"] = CONTENT
    server.files["/w.pth"] = CONTENT[::-1]
    ear = Ear()
    urls = [f"{server.url}/w.pth", f"{server.url}/mirror/w.pth"]
    assert fetch(urls, target, checks=Checks(sha256=SHA256), watcher=ear) == SHA256
    (line,) = ear.lines
    assert line.endswith(f"not {SHA256[:12]}…: trying the next place")


@pytest.mark.parametrize(
    ("checks", "named"),
    [
        ({"sha256": "0" * 64, "sha256_from": "the list says so"}, "(the list says so)"),
        ({"sha256_prefix": "00000000"}, f"its SHA-256 is {SHA256[:12]}…, not 00000000"),
        ({"md5_prefix": "000000"}, f"its MD5 is {MD5[:12]}…, not 000000"),
    ],
)
def test_a_file_with_a_wrong_checksum_is_dropped(
    checks: dict[str, str], named: str, server: FileServer, target: Path
) -> None:
    assert named in error(server, target, **checks)
    assert leavings(target) == set()


def test_mirrors_are_tried_in_order_and_all_named_if_none_has_it(
    server: FileServer, target: Path
) -> None:
    server.files.clear()
    message = error(server, target, f"{server.url}/b/w.pth", "ftp://example.org/w.pth")
    assert [path for path, _ in server.requests] == ["/w.pth", "/b/w.pth"]
    assert f"{server.url}/b/w.pth: HTTP 404" in message
    assert "ftp://example.org/w.pth: is not one of https, http, file" in message


def test_a_network_that_is_away_is_one_quick_line(target: Path) -> None:
    began = time.monotonic()
    with pytest.raises(DownloadError) as caught:
        fetch(["http://127.0.0.1:9/w.pth"], target)
    assert "127.0.0.1:9/w.pth: no connection: Connection refused: is the network away?" in str(
        caught.value
    )
    assert time.monotonic() - began < 0.9  # it did not pause


def test_redirects_are_followed_but_not_out_of_the_web(
    server: FileServer, target: Path, tmp_path: Path
) -> None:
    server.files["/elsewhere"] = CONTENT
    server.faults = [f"{server.url}/elsewhere"]
    assert get(server, target) == SHA256
    target.unlink()
    (tmp_path / "secret").write_bytes(CONTENT)
    server.faults = [(tmp_path / "secret").as_uri()]
    assert "is not allowed" in error(server, target)  # urllib's own rule


@pytest.mark.parametrize(
    ("before", "after", "allowed"),
    [
        ("https", "https", True),
        ("http", "https", True),
        ("http", "http", True),
        ("https", "http", False),
        ("https", "file", False),
        ("http", "ftp", False),
    ],
)
def test_a_redirect_never_gives_up_encryption(before: str, after: str, allowed: bool) -> None:
    request = connections.urllib.request.Request(f"{before}://example.org/w.pth")
    redirects = connections._SafeRedirects()

    def ask() -> object:
        return redirects.redirect_request(request, None, 302, "", {}, f"{after}://example.org/v")

    if allowed:
        assert ask() is not None
    else:
        with pytest.raises(connections.Failed, match=f"leads from {before} to {after}:"):
            ask()


# --- what goes wrong here


def test_a_disk_without_room_is_found_out_before_anything_is_written(
    server: FileServer, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(target.parents[2])._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    assert "no room in" in error(server, target)
    assert leavings(target) == set()


def test_a_disk_that_fills_up_keeps_what_has_arrived(
    server: FileServer, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(downloads.os, "fsync", full)
        message = error(server, target)
    assert "cannot be written: No space left on device; what has arrived is kept in" in message
    assert get(server, target, sha256=SHA256) == SHA256
    assert len(server.requests) == 1  # all had arrived


def test_a_folder_that_cannot_be_made_is_named(server: FileServer, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    message = error(server, tmp_path / "file" / "model" / "w.pth")
    assert message.startswith(f"{tmp_path / 'file'}")
    assert "cannot be written: Not a directory" in message
    assert server.requests == []


def test_a_read_only_folder_is_named(
    server: FileServer, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_only(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(target))

    monkeypatch.setattr(downloads.FileLock, "acquire", read_only)
    assert f"{target} cannot be written: Read-only file system" in error(server, target)


# --- several at once

SCRIPT = """
import sys
from pathlib import Path
from posepipe.zoo.downloads import fetch
print("ready", flush=True)
sys.stdin.readline()
print(fetch([sys.argv[1]], Path(sys.argv[2])))
"""


def test_two_processes_fetch_a_file_once(server: FileServer, target: Path) -> None:
    server.faults = ["slow"]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", SCRIPT, f"{server.url}/w.pth", str(target)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for process in processes:  # both are about to begin
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    for process in processes:
        output, errors = process.communicate(timeout=20)
        assert (output, errors, process.returncode) == (f"{SHA256}\n", "", 0)
    assert len(server.requests) == 1
    assert target.read_bytes() == CONTENT


def test_who_waits_for_another_one_is_told(server: FileServer, target: Path) -> None:
    server.faults = ["slow"]
    first = threading.Thread(target=get, args=(server, target))
    first.start()
    while first.is_alive() and not part_of(target).exists():
        time.sleep(0.005)
    ear = Ear()
    assert fetch([f"{server.url}/w.pth"], target, watcher=ear) == SHA256
    first.join()
    assert ear.lines == ["another process is fetching w.pth: waiting for it"]
    assert len(server.requests) == 1


# --- hostile servers


def test_an_endless_file_is_given_up_where_its_recipe_ends(
    server: FileServer, target: Path
) -> None:
    server.faults = ["endless"]
    assert "longer there than the 1 MB that its recipe allows" in error(
        server, target, max_bytes=1_000_000
    )
    assert leavings(target) <= {"w.pth.lock"}


def test_a_file_that_is_said_to_be_too_long_is_not_begun(server: FileServer, target: Path) -> None:
    assert "longer there than the 0 MB" in error(server, target, max_bytes=len(CONTENT) - 1)
    assert leavings(target) <= {"w.pth.lock"}
    assert get(server, target, max_bytes=len(CONTENT)) == SHA256


def test_a_length_of_thousands_of_digits_is_no_length(server: FileServer, target: Path) -> None:
    server.faults = ["absurd length"]
    assert get(server, target) == SHA256


@pytest.mark.parametrize(
    "url",
    [
        "https://models.example/modèle.pth",
        "https://models.example/a b.pth",
        "https://models.example/a\x1bb.pth",
        "https://[::1/w.pth",
        "https://models.example:port/w.pth",
        "https://models.example:99999999/w.pth",
        f"https://{'x' * 300}.example/w.pth",
        "https://./w.pth",
        "https:///w.pth",
        "w.pth",
    ],
)
def test_a_url_that_is_none_is_one_line(url: str, target: Path) -> None:
    with pytest.raises(DownloadError) as caught:
        fetch([url], target, patience=HURRIED)
    assert len(str(caught.value).splitlines()) == 1
