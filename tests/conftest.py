"""What holds for every test: no network, and nothing of the user's own cache."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _no_cache_and_no_network(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path_factory.getbasetemp()
    monkeypatch.setenv("POSEPIPE_CACHE", str(Path(folder) / "no-cache"))
    monkeypatch.setenv("POSEPIPE_PINS", str(Path(folder) / "no-pins.txt"))
    monkeypatch.setenv("POSEPIPE_OFFLINE", "1")
    monkeypatch.delenv("POSEPIPE_MIRROR", raising=False)
    monkeypatch.setenv("no_proxy", "*")
