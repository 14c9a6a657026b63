from __future__ import annotations

import threading
import time
from collections.abc import Sequence

import pytest

from posepipe.serving.batching import Batcher

SECONDS = 20


def test_results_are_those_of_their_items() -> None:
    batcher = Batcher(lambda items: [2 * item for item in items], together=3, max_delay=0.001)
    futures = [batcher.submit(number) for number in range(50)]
    assert [future.result(SECONDS) for future in futures] == [2 * number for number in range(50)]
    batcher.close()
    assert not batcher.is_alive
    with pytest.raises(RuntimeError, match="closed"):
        batcher.submit(1)


def test_what_comes_while_a_batch_is_at_work_makes_the_next_one() -> None:
    begun, go, seen = threading.Event(), threading.Event(), []

    def work(items: Sequence[int]) -> Sequence[int]:
        seen.append(list(items))
        begun.set()
        assert go.wait(SECONDS)
        return items

    batcher = Batcher(work, together=4, max_delay=0)
    first = batcher.submit(0)
    assert begun.wait(SECONDS)
    futures = [batcher.submit(number) for number in range(1, 8)]
    go.set()
    batcher.close()  # finishes them
    assert [future.result(0) for future in [first, *futures]] == list(range(8))
    assert seen == [[0], [1, 2, 3, 4], [5, 6, 7]]


def test_a_batch_waits_for_others_but_not_longer_than_it_may() -> None:
    counted: list[int] = []
    batcher = Batcher(
        list, together=100, max_delay=0.3, done=lambda items, seconds: counted.append(items)
    )
    begun = time.monotonic()
    futures = [batcher.submit(number) for number in range(5)]
    assert [future.result(SECONDS) for future in futures] == list(range(5))
    assert 0.25 < time.monotonic() - begun < SECONDS
    batcher.close()
    assert counted == [5]


def test_a_full_batch_does_not_wait() -> None:
    batcher = Batcher(list, together=2, max_delay=SECONDS)
    begun = time.monotonic()
    futures = [batcher.submit(number) for number in range(2)]
    assert [future.result(SECONDS / 2) for future in futures] == [0, 1]
    assert time.monotonic() - begun < SECONDS / 2
    batcher.close()


def test_an_error_is_its_own_items_alone() -> None:
    def work(items: Sequence[int]) -> Sequence[int]:
        if 3 in items:
            raise ValueError("three")
        return items

    batcher = Batcher(work, together=5, max_delay=0.05)
    futures = [batcher.submit(number) for number in range(5)]
    for number, future in enumerate(futures):
        if number == 3:
            with pytest.raises(ValueError, match="three"):
                future.result(SECONDS)
        else:
            assert future.result(SECONDS) == number
    batcher.close()


def test_what_is_cancelled_is_not_worked_on() -> None:
    begun, go, seen = threading.Event(), threading.Event(), []

    def work(items: Sequence[int]) -> Sequence[int]:
        seen.extend(items)
        begun.set()
        assert go.wait(SECONDS)
        return items

    batcher = Batcher(work, together=1, max_delay=0)
    batcher.submit(0)
    assert begun.wait(SECONDS)
    unwanted, wanted = batcher.submit(1), batcher.submit(2)
    assert unwanted.cancel()
    go.set()
    assert wanted.result(SECONDS) == 2
    batcher.close()
    assert seen == [0, 2]
