"""What came last: nothing waits for who is slow, and nobody waits for what hangs."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

import pytest

from posepipe.io import newest
from posepipe.io.newest import Newest

SOON = 5.0  # seconds that nothing here takes, but for a defect


def test_the_newest_is_given_and_the_others_are_counted():
    ended = threading.Event()
    items = Newest(iter(range(10)), release=ended.set, patience=SOON)
    assert ended.wait(SOON)
    assert list(items) == [9]
    assert items.missed == 9


def test_everything_comes_to_who_is_quick():
    asked = threading.Semaphore(0)

    def slow():
        for number in range(5):
            asked.acquire(timeout=SOON)
            yield number

    items = Newest(slow(), release=lambda: None, patience=SOON)
    given = iter(items)
    got = []
    for _ in range(5):
        asked.release()
        got.append(next(given))
    assert got == [0, 1, 2, 3, 4]
    assert items.missed == 0
    assert next(given, None) is None


def test_what_goes_wrong_is_raised_where_items_are_asked_for():
    def broken():
        yield 1
        raise RuntimeError("no more")

    items = Newest(broken(), release=lambda: None, patience=SOON)
    with pytest.raises(RuntimeError, match="no more"):
        list(items)


class Hanging:
    """One item, and then a read that lasts until `wake`; who has released it, and when."""

    def __init__(self):
        self.wake = threading.Event()
        self.released_by = None
        self.is_reading = False

    def __iter__(self):
        yield 1
        self.is_reading = True
        self.wake.wait(30)
        self.is_reading = False

    def release(self):
        assert not self.is_reading
        self.released_by = threading.current_thread().name


def test_nobody_waits_for_ever_for_an_item():
    source = Hanging()
    items = Newest(iter(source), release=source.release, patience=0.2)
    given = iter(items)
    assert next(given) == 1
    with pytest.raises(TimeoutError):
        next(given)
    source.wake.set()
    assert items.close()


def test_what_is_read_from_is_not_released_beside_a_read(monkeypatch):
    monkeypatch.setattr(newest, "CLOSE_SECONDS", 0.1)
    source = Hanging()
    items = Newest(iter(source), release=source.release, patience=SOON)
    assert next(iter(items)) == 1
    began = time.monotonic()
    assert not items.close()
    assert time.monotonic() - began < SOON
    assert source.released_by is None
    source.wake.set()
    monkeypatch.setattr(newest, "CLOSE_SECONDS", SOON)
    assert items.close()
    assert source.released_by == "posepipe-newest"


def test_the_interpreter_does_not_end_beside_a_read():
    program = """
import time
from posepipe.io.newest import Newest

def slow():
    yield 1
    time.sleep(0.5)
    yield 2

print(next(iter(Newest(slow(), release=lambda: print("released"), patience=20))))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=60)
    assert (done.returncode, done.stdout.split()) == (0, [b"1", b"released"])
