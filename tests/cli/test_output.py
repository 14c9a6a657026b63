"""What is said, and where: results on stdout, all else on stderr and only where it is wanted."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from commands import lines, photo, posepipe, truncated

from posepipe.cli import progress
from posepipe.io.documents import Skipped

pty = pytest.importorskip("pty")  # not on Windows
termios = pytest.importorskip("termios")


@pytest.mark.parametrize("place", ["before", "behind"])
def test_a_summary_is_said_when_asked_for(place: str, person: Path, tmp_path: Path) -> None:
    output = tmp_path / "kps.json"
    command = ["pose", person, "-o", output]
    arguments = ["-v", *command] if place == "before" else [*command, "-v"]
    result = posepipe(*arguments)
    assert (result.exit_code, result.stdout) == (0, "")
    assert lines(result)[-1] == f"1 image, 1 person: {output}"


def test_nothing_is_said_where_nobody_looks(person: Path, tmp_path: Path) -> None:
    result = posepipe("pose", person, "-o", tmp_path / "kps.json")
    assert (result.exit_code, result.output) == (0, "")


def test_a_terminal_shows_a_progress_bar_and_a_summary(
    person: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs, ours = pty.openpty()
    termios.tcsetwinsize(ours, (24, 100))
    with os.fdopen(ours, "w", encoding="utf-8") as terminal:
        monkeypatch.setattr(progress.sys, "stderr", terminal)
        with progress.progress_bar(2, "pose", tmp_path / "kps.json") as bar:
            bar(3)
            bar(1)
        progress.say("2 images", verbose=False)
        terminal.flush()
        shown = b""
        while b"2 images" not in shown:  # the last that is written
            shown += os.read(theirs, 65536)
    os.close(theirs)
    shown = shown.decode()
    assert "pose: 100%" in shown
    assert "people/s" in shown
    assert "images" in shown


def test_a_log_gets_a_line_now_and_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = iter([0.0, 59.0, 61.0, 70.0, 130.0, 200.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    with progress.progress_bar(5, "pose", tmp_path / "kps.json") as bar:
        for people in (1, 2, 0, 3, 1):
            bar(people)
    assert capsys.readouterr().err.splitlines() == [
        "posepipe: pose: 2 of 5 images (40 %), 0.033 images/s, 0.049 people/s, 01:31 left",
        "posepipe: pose: 4 of 5 images (80 %), 0.031 images/s, 0.046 people/s, 00:32 left",
    ]


def test_only_the_first_of_many_lines_are_said(capsys: pytest.CaptureFixture[str]) -> None:
    progress.report_left_out([Skipped(f"{n}.jpg", f"{n}.jpg is empty") for n in range(50)])
    said = capsys.readouterr().err.splitlines()
    assert len(said) == progress.MOST_LINES + 2
    assert said[0] == "posepipe: skipped: 0.jpg is empty"
    assert said[-2:] == ["posepipe: … and 30 more", "posepipe: 50 inputs skipped"]


def test_an_error_of_one_command_leaves_the_next_one_alone(person: Path, tmp_path: Path) -> None:
    truncated(tmp_path / "pictures" / "a.jpg")
    output = tmp_path / "kps.json"
    assert posepipe("pose", person, "-o", output, "--strict").exit_code == 1
    photo(tmp_path / "pictures" / "a.jpg")
    result = posepipe("pose", person, "-o", output)
    assert (result.exit_code, result.stderr) == (0, "")
