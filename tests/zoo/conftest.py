"""A server with a file, and where downloads put it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from downloading import CONTENT
from fileserver import FileServer, file_server


@pytest.fixture
def server() -> Iterator[FileServer]:
    with file_server() as files:
        files.files["/w.pth"] = CONTENT
        yield files


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "model" / "w.pth"
