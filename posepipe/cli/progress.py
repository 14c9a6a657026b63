"""What a running command says: a progress bar, a summary, what was left out. All on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Sequence, Sized
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from posepipe.cli.interruption import INTERRUPTED
from posepipe.cli.terminal import echo, logs_json
from posepipe.errors import ImageError
from posepipe.io.findings import mostly_lost

if TYPE_CHECKING:
    from posepipe.io.documents import Skipped
    from posepipe.io.findings import Finding

MOST_LINES = 20
SECONDS_BETWEEN_LINES = 60.0


class Bar:
    """A progress bar in images/s and people/s, or in another unit alone.

    Where stderr is not a terminal a long run writes a line every minute instead.

    Args:
        total: how many images; None where nobody knows.
        what: a word in front.
        unit: what is counted.
    """

    def __init__(self, total: int | None, what: str, unit: str = "images") -> None:
        from tqdm import tqdm

        self.people = 0
        self._unit = unit
        self._begun = time.monotonic()
        self._next_line = self._begun + SECONDS_BETWEEN_LINES
        self._what, self._total, self._done = what, total, 0
        self._bar = tqdm(
            total=total,
            desc=what,
            unit=f" {unit}",
            disable=logs_json() or None,
            file=sys.stderr,
            # tqdm's own format turns to seconds per image where there is less than one a second.
            bar_format="{desc}: {n_fmt} [{elapsed}, {rate_noinv_fmt}{postfix}]"
            if total is None
            else "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} "
            "[{elapsed}<{remaining}, {rate_noinv_fmt}{postfix}]",
        )

    def __call__(self, people: int) -> None:
        """One more is done; of images, with this many people in it."""
        self.people += people
        self._done += 1
        now = time.monotonic()
        seconds = max(now - self._begun, 1e-9)
        if self._bar.disable:
            if now >= self._next_line and (self._total is None or self._done < self._total):
                self._next_line = now + SECONDS_BETWEEN_LINES
                echo(
                    f"posepipe: {self._what}: {self._state(seconds)}",
                    err=True,
                    done=self._done,
                    total=self._total,
                    people=self.people,
                    seconds=round(seconds, 3),
                )
            return
        if self._unit == "images":
            self._bar.set_postfix_str(f"{self.people / seconds:.1f} people/s", refresh=False)
        self._bar.update()

    def _state(self, seconds: float) -> str:
        speed = f"{self._done / seconds:.2g} {self._unit}/s"
        if self._unit == "images":
            speed += f", {self.people / seconds:.2g} people/s"
        if self._total is None:
            return f"{self._done} {self._unit}, {speed}"
        left = self._bar.format_interval(seconds / self._done * (self._total - self._done))
        return (
            f"{self._done} of {self._total} {self._unit} ({100 * self._done // self._total} %), "
            f"{speed}, {left} left"
        )

    def close(self) -> None:
        """Leave the bar as it is and go to the next line."""
        self._bar.close()


@contextmanager
def progress_bar(total: int | None, what: str, output: Path, unit: str = "images") -> Iterator[Bar]:
    """A bar for a run that writes `output`; an interruption says how to go on.

    Raises:
        SystemExit: 130 after an interruption.
    """
    bar = Bar(total, what, unit)
    try:
        yield bar
    except KeyboardInterrupt:
        bar.close()
        echo(f"posepipe: interrupted{_how_to_go_on(output)}", err=True)
        sys.exit(INTERRUPTED)
    finally:
        bar.close()


def say(message: str, *, verbose: bool, **facts: Any) -> None:
    """A line for who is watching: on a terminal, or when asked for with -v or --log-json."""
    if verbose or sys.stderr.isatty() or logs_json():
        echo(message, err=True, **facts)


def report_left_out(
    skipped: Sequence[Skipped], problems: Sequence[str] = (), *, others: int = 0
) -> None:
    """What was left out and why: the first few, one line each, and a count of each kind.

    Args:
        skipped: images, or inputs that led nowhere.
        problems: boxes that are not valid.
        others: how many boxes of categories other than person there were.
    """
    _list_and_count([f"skipped: {skip.why}" for skip in skipped], count_of(len(skipped), "input"))
    _list_and_count([f"left out: {problem}" for problem in problems], _boxes(len(problems)))
    if others:
        echo(f"posepipe: {_boxes(others)} of categories other than person left out", err=True)


def _list_and_count(lines: Sequence[str], count: str) -> None:
    for line in lines[:MOST_LINES]:
        echo(f"posepipe: {line}", err=True)
    if len(lines) > MOST_LINES:
        echo(f"posepipe: … and {len(lines) - MOST_LINES} more", err=True)
    if lines:
        echo(f"posepipe: {count} {lines[0].partition(':')[0]}", err=True)


def _boxes(number: int) -> str:
    return count_of(number, "box", "boxes")


def report_findings(findings: Iterable[Finding]) -> None:
    """What was odd about the files that were read, one line each."""
    for finding in findings:
        echo(f"posepipe: {finding.line}", err=True)


def check_some_done(done: int, skipped: Sequence[Skipped], consequence: str) -> None:
    """Raise if most images had to be skipped: then a script should not go on.

    Raises:
        ImageError: more images were skipped than were worked on.
    """
    if skipped and not done:
        raise ImageError(f"no image could be read: {consequence}")
    if mostly_lost(len(skipped), done + len(skipped)):
        count = f"{len(skipped)} of {done + len(skipped)} images were skipped"
        raise ImageError(f"{count}: the results of the others are written all the same")


def report_people(found: Sequence[Sized], output: Path, *, verbose: bool) -> None:
    """How many people were found in how many images; if nobody at all, everyone is told.

    Args:
        found: the detections or poses of each image.
        output: where they were written.
        verbose: whether -v was given.
    """
    report_counts(len(found), sum(map(len, found)), output, verbose=verbose)


def report_counts(images: int, people: int, output: Path, *, verbose: bool) -> None:
    """As `report_people`, of numbers."""
    named = count_of(images, "image")
    if images and not people:
        echo(f"posepipe: no people found in {named}", err=True)
    say(
        f"{named}, {count_of(people, 'person', 'people')}: {output}",
        verbose=verbose,
        images=images,
        people=people,
        output=output,
    )


def count_of(number: int, one: str, many: str = "") -> str:
    """A number with its noun.

    >>> count_of(1, "image"), count_of(2, "image"), count_of(0, "box", "boxes")
    ('1 image', '2 images', '0 boxes')
    """
    return f"{number} {one if number == 1 else many or one + 's'}"


def _how_to_go_on(output: Path) -> str:
    from posepipe.io.journal import SUFFIX

    journal = output.parent / (output.name + SUFFIX)
    if not journal.is_file():  # nothing was finished yet, or a command without a journal
        return ""
    return (
        f"; what is finished is kept in {journal}: the same command with --resume goes on from it"
    )
