"""Streams: order, bounds, and threads that end when nobody listens any more."""

from __future__ import annotations

import itertools
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posepipe.runtime.streams import Tally, batched, prefetch

THREADS = "posepipe-prefetch"


def working_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith(THREADS)]


@pytest.mark.parametrize("workers", [0, 1, 3])
@pytest.mark.parametrize("items", [[], [5], list(range(40))])
def test_results_come_in_the_order_of_the_items(items, workers):
    def work(n):
        time.sleep((n % 3) * 0.001)  # later items are often done first
        return n * n

    assert list(prefetch(work, items, workers=workers, ahead=4)) == [n * n for n in items]


def test_several_items_are_worked_on_at_a_time():
    both_there = threading.Barrier(2, timeout=20)
    # Each waits for the other: one thread alone would never get past the barrier.
    assert (
        list(prefetch(lambda _: both_there.wait() >= 0, range(2), workers=2, ahead=2)) == [True] * 2
    )


@pytest.mark.parametrize("ahead", [1, 2, 5])
@pytest.mark.parametrize("workers", [1, 4])
def test_never_more_results_than_one_more_than_asked_for_exist(workers, ahead):
    lock, begun, used, most = threading.Lock(), 0, 0, 0

    def work(n):
        nonlocal begun, most
        with lock:
            begun += 1
            most = max(most, begun - used)
        return n

    for _ in prefetch(work, range(60), workers=workers, ahead=ahead):
        time.sleep(0.0005)  # a slow consumer: the workers would run far ahead if they could
        with lock:
            used += 1
    assert begun == 60
    assert 1 < most <= ahead + 1


def test_items_are_taken_only_when_there_is_room_so_endless_ones_are_fine():
    taken = 0

    def endless():
        nonlocal taken
        while True:
            taken += 1
            yield taken

    stream = prefetch(str, endless(), workers=2, ahead=3)
    assert taken == 0
    assert [next(stream) for _ in range(5)] == ["1", "2", "3", "4", "5"]
    assert taken <= 5 + 3
    stream.close()


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_an_error_comes_at_its_items_turn(workers):
    def work(n):
        if n == 3:
            raise KeyError("three")
        return n

    stream = prefetch(work, range(9), workers=workers, ahead=6)
    assert [next(stream) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(KeyError, match="three"):
        next(stream)
    assert working_threads() == []


def ending_in_an_error():
    yield from (1, 2, 3)
    raise OSError("the list ends here")


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_of_the_items_themselves_comes_after_all_they_gave(workers):
    stream = prefetch(str, ending_in_an_error(), workers=workers, ahead=4)
    assert [next(stream), next(stream), next(stream)] == ["1", "2", "3"]
    with pytest.raises(OSError, match="ends here"):
        next(stream)
    assert working_threads() == []


def test_an_error_of_the_items_comes_after_the_batch_that_they_began():
    stream = batched(ending_in_an_error(), full=2, most_items=9, weight=lambda item: 1)
    assert [next(stream), next(stream)] == [[1, 2], [3]]
    with pytest.raises(OSError, match="ends here"):
        next(stream)


def test_closing_the_stream_stops_the_threads_and_drops_what_has_not_begun():
    done = []

    def work(n):
        time.sleep(0.01)
        done.append(n)
        return n

    stream = prefetch(work, range(1000), workers=2, ahead=50)
    assert next(stream) == 0
    assert working_threads() != []
    stream.close()
    assert working_threads() == []
    finished = len(done)
    assert finished < 60
    time.sleep(0.05)
    assert len(done) == finished


def test_leaving_the_loop_closes_the_stream():
    for result in prefetch(abs, range(100), workers=2, ahead=4):
        if result == 3:
            break
    assert working_threads() == []


# --- batches

weights = st.lists(st.integers(0, 5), max_size=40)


@given(weights, st.integers(1, 9), st.integers(1, 9))
def test_batches_hold_all_items_in_order_and_are_handed_on_as_soon_as_they_are_full(
    items, full, most_items
):
    batches = list(batched(items, full=full, most_items=most_items, weight=int))
    assert list(itertools.chain.from_iterable(batches)) == items
    assert all(batches)
    for batch in batches:
        assert sum(batch[:-1]) < full
        assert len(batch) <= most_items
    for batch in batches[:-1]:
        assert sum(batch) >= full or len(batch) == most_items


def test_no_items_make_no_batch():
    assert list(batched([], full=4, most_items=9, weight=int)) == []


def test_weightless_items_do_not_gather_for_ever():
    batches = batched(itertools.repeat(0), full=4, most_items=3, weight=int)
    assert next(batches) == [0, 0, 0]


def test_a_batch_is_handed_on_before_the_next_item_is_asked_for():
    asked = []

    def items():
        for n in range(9):
            asked.append(n)
            yield 2

    next(batched(items(), full=4, most_items=9, weight=int))
    assert asked == [0, 1]


@pytest.mark.parametrize("workers", [1, 3])
def test_while_nothing_may_begin_only_what_is_waited_for_does(workers):
    begun = []
    stream = prefetch(begun.append, range(9), workers=workers, ahead=5, may_begin=lambda: False)
    for number in range(9):
        next(stream)
        assert begun == list(range(number + 1))
    assert list(stream) == []


def test_a_stream_whose_items_wait_for_room_can_be_closed():
    stream = prefetch(str, range(99), workers=2, ahead=5, may_begin=lambda: False)
    assert next(stream) == "0"
    stream.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("posepipe-prefetch")]


def test_a_tally_of_several_threads_is_right():
    tally = Tally(1000)
    adding = [threading.Thread(target=lambda: [tally.add(1) for _ in range(250)]) for _ in "1234"]
    for thread in adding:
        thread.start()
    for thread in adding:
        thread.join(30)
    assert not tally.has_room()
    tally.add(-1)
    assert tally.has_room()
