"""Names that hold escape sequences: they are shown, and do nothing."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from commands import blank, lines, posepipe

from posepipe import cli
from posepipe.cli.terminal import echo, visible

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no such names there")

TITLE = "photo\x1b]2;a title\x07.jpg"  # sets the title of a window
NAMES = [
    TITLE,
    "clear\x1b[2J.jpg",
    "of C1\x9b2J.jpg",
    "two\nlines.jpg",
    "back\rover.jpg",
    "gpj\u202e.exe.jpg",
    "bell\x07.jpg",
    "\x7f.jpg",
]


@pytest.mark.parametrize("name", NAMES)
def test_an_image_with_escapes_in_its_name_is_listed_without_them(
    name: str, detector: Path, tmp_path: Path
) -> None:
    blank(tmp_path / "in" / "good.png")
    (tmp_path / "in" / name).write_bytes(b"no image")
    output = tmp_path / "boxes.json"
    result = posepipe("detect", tmp_path / "in", "--model", detector, "-o", output)
    assert result.exit_code == 0
    assert lines(result)[0].startswith("posepipe: skipped: ")
    assert lines(result)[1] == "posepipe: 1 input skipped"
    assert all(line == visible(line) for line in result.stderr.split("\n"))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "command",
    [
        ("detect", "{}", "-o", "out.json"),
        ("pose", "{}", "-o", "out.json"),
        ("draw", "{}", "-o", "drawn"),
        ("eval", "{}", "--annotations", "people.json"),
        ("train", "./{}", "-o", "run"),
        ("models", "show", "./{}"),
    ],
)
def test_an_error_is_one_line_whatever_it_names(
    command: tuple[str, ...], name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = posepipe(*(part.format(name) for part in command))
    assert result.exit_code in (1, 2)
    if result.exit_code == 1:
        assert result.stderr == visible(result.stderr[:-1]) + "\n"


def test_what_goes_into_a_pipe_is_as_it_is(capfd: pytest.CaptureFixture[str]) -> None:
    echo(TITLE)
    echo(TITLE, err=True)
    out, err = capfd.readouterr()
    assert out == TITLE + "\n"
    assert err == "photo\\x1b]2;a title\\x07.jpg\n"


def test_a_terminal_gets_lines_without_escapes(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    echo(f"{TITLE}\nß")
    assert capfd.readouterr().out == "photo\\x1b]2;a title\\x07.jpg\nß\n"


def test_every_command_prints_by_way_of_the_terminals_module() -> None:
    for file in Path(os.fspath(cli.__path__[0])).glob("*.py"):
        if file.name != "terminal.py":
            text = file.read_text(encoding="utf-8")
            assert "click.echo" not in text, file
            assert "print(" not in text, file
