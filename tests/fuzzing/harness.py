"""What must hold of every reader, whatever it is given."""

from __future__ import annotations

import faulthandler
import os
import signal
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from fuzzing.mutations import mutants

from posepipe.errors import PosepipeError

# Inputs for each reader; a nightly run sets 10,000.
INPUTS = int(os.environ.get("POSEPIPE_FUZZ", "40"))
MOST_SECONDS = 2.0  # of processor time; a whole machine at work must not fail a test


@dataclass
class Tally:
    """What came of the inputs.

    Attributes:
        outcomes: how many were read, and how many refused.
        slowest: seconds of processor time.
    """

    outcomes: Counter[str] = field(default_factory=Counter)
    slowest: float = 0.0


def check_reader(
    read: Callable[[Path], Any],
    samples: list[bytes],
    file: Path,
    *,
    inputs: int = INPUTS,
    seed: int = 0,
) -> Tally:
    """Give a reader wrong versions of files: it reads them, or refuses them in one line, at once.

    Args:
        read: what is tested; is given `file`.
        samples: right files.
        file: where each wrong one is written; a failing one is left there.
        inputs: how many.
        seed: of the changes.

    Raises:
        AssertionError: any other exception, a message of several lines, or a hang.
    """
    tally = Tally()
    for number, content in enumerate(mutants(samples, inputs, seed=seed)):
        file.write_bytes(content)
        before = time.process_time()
        outcome = outcome_of(read, file, f"input {number} (seed {seed}), left in {file}")
        tally.outcomes[outcome] += 1
        tally.slowest = max(tally.slowest, time.process_time() - before)
    return tally


def outcome_of(read: Callable[[Path], Any], file: Path, which: str) -> str:
    """What a reader does with a file, "read" or "refused"; see `check_reader`."""
    try:
        with _no_hang(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # as the commands do
            read(file)
    except PosepipeError as error:
        line = str(error)
        assert line.splitlines() == [line], f"{which}: {line!r}"
        assert len(line) < 3000, f"{which}: {line[:300]!r}… ({len(line)} characters)"
        return "refused"
    except Exception as error:
        raise AssertionError(f"{which}: {type(error).__name__}: {str(error)[:300]}") from error
    return "read"


@contextmanager
def _no_hang() -> Iterator[None]:
    """Ends what takes more than `MOST_SECONDS` of processor time (not on Windows)."""
    if not hasattr(signal, "setitimer"):
        yield
        return

    def end(number: int, frame: FrameType | None) -> None:
        faulthandler.dump_traceback()
        raise TimeoutError(f"took more than {MOST_SECONDS} s")

    before = signal.signal(signal.SIGPROF, end)
    signal.setitimer(signal.ITIMER_PROF, MOST_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
