"""A file to download from a server of this machine, in a hurry, and what a download leaves."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from fileserver import FileServer

from posepipe.errors import DownloadError
from posepipe.zoo.connections import Patience
from posepipe.zoo.downloads import Checks, fetch

CONTENT = bytes(range(256)) * 400
SHA256 = hashlib.sha256(CONTENT).hexdigest()
MD5 = hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()
HURRIED = Patience(timeout_s=0.3, attempts=2, pause_s=0.01)


class Ear:
    """A watcher that remembers."""

    def __init__(self) -> None:
        self.bytes: list[tuple[int, int | None]] = []
        self.lines: list[str] = []

    def transferred(self, done: int, total: int | None) -> None:
        self.bytes.append((done, total))

    def notice(self, line: str) -> None:
        self.lines.append(line)


def get(server: FileServer, target: Path, *more: str, **checks: str) -> str:
    urls = [f"{server.url}/w.pth", *more]
    return fetch(urls, target, checks=Checks(**checks), patience=HURRIED)


def error(server: FileServer, target: Path, *more: str, **checks: str) -> str:
    """The one line of a fetch that fails and leaves no file behind."""
    with pytest.raises(DownloadError) as caught:
        get(server, target, *more, **checks)
    assert not target.exists()
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def leavings(target: Path) -> set[str]:
    """What is beside a file."""
    return {path.name for path in target.parent.iterdir()} - {"w.pth", "w.pth.lock"}
