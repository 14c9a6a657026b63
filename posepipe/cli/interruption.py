"""What Ctrl-C and a request to end do: the first stops in good order, the second at once."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

INTERRUPTED = 130  # what a shell reports for a program that Ctrl-C ended


class _Interruption:
    """A signal handler: the first signal raises KeyboardInterrupt, a second one ends the process.

    An interrupted command still waits for the images at work in its threads; whoever presses
    Ctrl-C again does not want to. Nothing is lost by it: journals are written entry by entry.
    """

    def __init__(self) -> None:
        self.received = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self.received:
            os._exit(INTERRUPTED)
        self.received = True
        raise KeyboardInterrupt


@contextmanager
def orderly_interruption() -> Iterator[None]:
    """SIGTERM (of batch systems, of `timeout`) stops a command as Ctrl-C does; a second, at once.

    Once a signal was received the handlers stay: the interpreter is on its way out, and until it
    has gone a second signal must not end in a traceback.
    """
    if threading.current_thread() is not threading.main_thread():  # where Python takes no signals
        yield
        return
    handler = _Interruption()
    before = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        if not handler.received:
            for number, earlier in before.items():
                signal.signal(number, earlier)


@contextmanager
def noted_interruption() -> Iterator[Callable[[], bool]]:
    """The first signal is only noted, for what must not be interrupted midway; a second one acts.

    Gives a function that tells whether there was one.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    noted = False
    numbers = (signal.Signals.SIGINT, signal.Signals.SIGTERM)

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal noted
        if noted:
            earlier = before[signal.Signals(number)]
            if callable(earlier):
                earlier(number, frame)
            raise KeyboardInterrupt
        noted = True

    before = {number: signal.signal(number, note) for number in numbers}
    try:
        yield lambda: noted
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)
