"""What is printed: text in which file names and other people's words cannot control a terminal."""

from __future__ import annotations

import io
import re
import sys

import click

# Control characters, C1's among them (0x9b alone begins an escape sequence), and what reverses the
# direction of writing, so that a name looks like another one.
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def visible(text: str) -> str:
    r"""A text in one line, its control characters written as escapes.

    >>> visible("photo\x1b]2;hello\x07.jpg")
    'photo\\x1b]2;hello\\x07.jpg'
    """
    return _CONTROLS.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def echo(text: object, *, err: bool = False) -> None:
    """Print: one line to stderr, lines to stdout; what goes from stdout into a pipe is as it is."""
    if err:
        text = visible(str(text))
    elif sys.stdout.isatty():
        text = "\n".join(map(visible, str(text).split("\n")))
    click.echo(text, err=err)


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
