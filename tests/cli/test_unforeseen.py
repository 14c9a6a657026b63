"""What no command foresees: one line, and a remedy or how to report it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from commands import (
    error_of,
    lines,
    posepipe,
)


def out_of_memory(kind: type[Exception], text: str) -> Callable[..., None]:
    def fails(*_: object, **__: object) -> None:
        raise kind(text)

    return fails


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (MemoryError, ""),
        (RuntimeError, "CUDA out of memory. Tried to allocate 20 GiB"),
        (RuntimeError, "DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    ],
)
def test_too_little_memory_is_said_with_a_remedy(
    kind: type[Exception], text: str, person: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("posepipe.pose.stage.PoseStage.__call__", out_of_memory(kind, text))
    line = error_of(posepipe("pose", person, "-o", tmp_path / "kps.json"))
    assert line.startswith("out of memory: use a smaller --batch-size")
    assert not (tmp_path / "kps.json").exists()


@pytest.mark.parametrize("kind", [RuntimeError, TypeError, KeyError])
def test_a_bug_is_one_line_that_says_how_to_report_it(
    kind: type[Exception], person: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bug = out_of_memory(kind, "shapes do\nnot fit")
    monkeypatch.setattr("posepipe.pose.stage.PoseStage.__call__", bug)
    arguments = ("pose", person, "-o", tmp_path / "kps.json")
    line = error_of(posepipe(*arguments))
    assert f"unforeseen error, which is a bug: {kind.__name__}: " in line
    assert "(test_unforeseen.py, line " in line
    assert "please report it" in line
    verbose = posepipe(*arguments, "-v", "--resume")
    assert verbose.exit_code == 1
    assert any("Traceback (most recent call last)" in line for line in lines(verbose))
