"""Streams: items prepared ahead by threads, and gathered into batches. Order is kept.

OpenCV, Pillow and torch release the interpreter's lock, so threads really run beside the network,
and nothing has to be pickled.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from typing import TypeVar

In = TypeVar("In")
Out = TypeVar("Out")
T = TypeVar("T")

_SECONDS_TO_LOOK_AGAIN = 0.005  # whether there is memory for another item


class Tally:
    """How much of something waits, and whether there is room for more; threads may share it.

    Args:
        most: with this much, there is no room.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._held = 0
        self._lock = threading.Lock()

    def add(self, change: int) -> None:
        """So much more waits, or less."""
        with self._lock:
            self._held += change

    def has_room(self) -> bool:
        """Whether less waits than may."""
        return self._held < self._most


def prefetch(
    function: Callable[[In], Out],
    items: Iterable[In],
    *,
    workers: int,
    ahead: int,
    room: Callable[[], bool] = lambda: True,
    may_begin: Callable[[], bool] = lambda: True,
) -> Iterator[Out]:
    """``function(item)`` for every item in order, computed by threads ahead of its use.

    Items are taken one by one, in the consumer's thread, so a lazy or endless stream is fine and at
    most ``ahead + 1`` results exist at a time. Closing the iterator (or leaving its loop) cancels
    what has not begun and waits for what has.

    Args:
        function: what to do with an item; an exception from it is raised here, at its item's turn.
        items: any iterable; if it ends with an exception, that is raised after all that it gave.
        workers: threads; 0 computes in the consumer's own thread.
        ahead: how many results may wait for the consumer.
        room: while this is false, the consumer gets what there is before another item is taken.
        may_begin: while this is false, only the item that the consumer waits for is begun.

    >>> list(prefetch(str.upper, ["a", "b"], workers=2, ahead=4))
    ['A', 'B']
    """
    if workers == 0:
        yield from map(function, items)
        return
    pending: deque[Future[Out]] = deque()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="posepipe-prefetch")
    wanted, closed = 0, threading.Event()  # the results asked for so far

    def in_time(number: int, item: In | Exception) -> Out:
        if isinstance(item, Exception):
            raise item
        while number >= wanted and not may_begin():
            if closed.wait(_SECONDS_TO_LOOK_AGAIN):
                raise CancelledError
        return function(item)

    try:
        for number, item in enumerate(and_its_failure(items)):
            pending.append(pool.submit(in_time, number, item))
            while len(pending) > ahead or (pending and not room()):
                wanted += 1
                yield pending.popleft().result()
        while pending:
            wanted += 1
            yield pending.popleft().result()
    finally:
        closed.set()
        pool.shutdown(wait=True, cancel_futures=True)


def batched(
    items: Iterable[T],
    *,
    full: int,
    most_items: int,
    weight: Callable[[T], int],
    may_exceed: bool = True,
) -> Iterator[list[T]]:
    """Consecutive items in lists, each holding at least `full` of weight; the last may hold less.

    Args:
        items: any iterable; if it ends with an exception, that is raised after the last list.
        full: the weight at which a batch is handed on.
        most_items: the number of items at which it is handed on all the same: images without
            people weigh nothing and would pile up for ever.
        weight: how much of a batch an item fills.
        may_exceed: false hands a batch on before an item that would make it hold more.

    >>> list(batched([1, 1, 3, 1], full=2, most_items=9, weight=lambda item: item))
    [[1, 1], [3], [1]]
    >>> [*batched([1, 3, 1], full=2, most_items=9, weight=lambda item: item, may_exceed=False)]
    [[1], [3], [1]]
    """
    batch: list[T] = []
    filled, failure = 0, None
    for item in and_its_failure(items):
        if isinstance(item, Exception):
            failure = item
            break
        weighs = weight(item)
        if batch and not may_exceed and filled + weighs > full:
            yield batch
            batch, filled = [], 0
        batch.append(item)
        filled += weighs
        if filled >= full or len(batch) >= most_items:
            yield batch
            batch, filled = [], 0
    if batch:
        yield batch
    if failure is not None:
        raise failure


def and_its_failure(items: Iterable[T]) -> Iterator[T | Exception]:
    """Items, and at the end the exception that they end with, if they do."""
    try:
        yield from items
    except Exception as error:
        yield error
