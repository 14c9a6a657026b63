"""What is printed: text in which file names and other people's words cannot control a terminal.

With --log-json what goes to stderr is one JSON object a line: ``time`` (UTC), ``level`` (info,
warning or error), ``message``, and what else there is to say of it.
"""

from __future__ import annotations

import io
import re
import sys
from typing import Literal

import click

Level = Literal["info", "warning", "error"]
LOG_JSON = "posepipe.log_json"  # in what all contexts of a command share
_WARNINGS = ("warning: ", "skipped: ", "left out: ")

# Control characters, C1's among them (0x9b alone begins an escape sequence), and what reverses the
# direction of writing, so that a name looks like another one.
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def visible(text: str) -> str:
    r"""A text in one line, its control characters written as escapes.

    >>> visible("photo\x1b]2;hello\x07.jpg")
    'photo\\x1b]2;hello\\x07.jpg'
    """
    return _CONTROLS.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def logs_json() -> bool:
    """Whether the command that runs was asked for JSON on stderr."""
    ctx = click.get_current_context(silent=True)
    return ctx is not None and LOG_JSON in ctx.meta


def echo(text: object, *, err: bool = False, level: Level | None = None, **facts: object) -> None:
    """Print: one line to stderr, lines to stdout; what goes from stdout into a pipe is as it is.

    Args:
        text: what to print.
        err: to stderr.
        level: of a line to stderr, for --log-json; None goes by how the line begins.
        facts: for --log-json: the line's numbers and names.
    """
    if err:
        text = visible(str(text))
        if logs_json():
            text = _record(text, level, facts)
    elif sys.stdout.isatty():
        text = "\n".join(map(visible, str(text).split("\n")))
    click.echo(text, err=err)


def _record(line: str, level: Level | None, facts: dict[str, object]) -> str:
    """A line as a JSON object.

    >>> _record("posepipe: warning: b.jpg is odd", None, {})[-46:]
    '"level": "warning", "message": "b.jpg is odd"}'
    """
    import json
    from datetime import UTC, datetime

    message = line.removeprefix("posepipe: ")
    if level is None:
        level = "warning" if message.startswith(_WARNINGS) else "info"
    message = message.removeprefix("warning: ")
    time = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return json.dumps({"time": time, "level": level, "message": message, **facts}, default=str)


def echo_lines(text: str) -> None:
    """Print several lines to stderr."""
    for line in text.splitlines():
        echo(line, err=True)


def print_anything() -> None:
    """Make stdout and stderr take every character: those they cannot encode become escapes.

    Consoles and pipes of encodings other than UTF-8 cannot show many file names; without
    this, the first of them would end the program with a traceback.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
