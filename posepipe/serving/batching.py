"""Batches across requests: images that come at about the same time share a pass."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Generic, TypeVar

In = TypeVar("In")
Out = TypeVar("Out")


@dataclass(eq=False)
class _Job(Generic[In, Out]):
    item: In
    future: Future[Out] = field(default_factory=Future)
    arrived: float = field(default_factory=time.monotonic)


class Batcher(Generic[In, Out]):
    """A thread that gathers items into batches and works on one batch at a time.

    A batch begins when it is full, or when its first item has waited for `max_delay`. While one is
    worked on the next one gathers, so that under load batches are full and nobody waits for the
    clock.

    Args:
        work: the results of some items, in their order. Where it raises for several, each is tried
            alone, so that one image spoils no other's.
        together: items of a batch at most.
        max_delay: seconds that an item waits for others at most.
        done: called after every batch with its items and its seconds.
    """

    def __init__(
        self,
        work: Callable[[Sequence[In]], Sequence[Out]],
        *,
        together: int,
        max_delay: float,
        done: Callable[[int, float], None] = lambda items, seconds: None,
    ) -> None:
        self._work, self._together, self._max_delay, self._done = work, together, max_delay, done
        self._waiting: deque[_Job[In, Out]] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="posepipe-batches", daemon=True)
        self._thread.start()

    def submit(self, item: In) -> Future[Out]:
        """The future result of an item; cancelled before its batch begins, it costs nothing.

        Raises:
            RuntimeError: the batcher is closed.
        """
        job: _Job[In, Out] = _Job(item)
        with self._changed:
            if self._closing:
                raise RuntimeError("the batcher is closed")
            self._waiting.append(job)
            self._changed.notify()
        return job.future

    @property
    def is_alive(self) -> bool:
        """Whether the thread runs, as it should until it is closed."""
        return self._thread.is_alive()

    def close(self) -> None:
        """Finish what waits, and end the thread."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while batch := self._next_batch():
            begun = time.monotonic()
            jobs = [job for job in batch if job.future.set_running_or_notify_cancel()]
            if jobs:
                self._finish(jobs)
                self._done(len(jobs), time.monotonic() - begun)

    def _next_batch(self) -> list[_Job[In, Out]]:
        """The next items, as soon as there are enough or the first has waited; none at the end."""
        with self._changed:
            while not self._waiting and not self._closing:
                self._changed.wait()
            if not self._waiting:
                return []
            deadline = self._waiting[0].arrived + self._max_delay
            while len(self._waiting) < self._together and not self._closing:
                left = deadline - time.monotonic()
                if left <= 0:
                    break
                self._changed.wait(left)
            count = min(len(self._waiting), self._together)
            return [self._waiting.popleft() for _ in range(count)]

    def _finish(self, jobs: Sequence[_Job[In, Out]]) -> None:
        try:
            results = self._work([job.item for job in jobs])
        except Exception as error:
            if len(jobs) == 1:
                jobs[0].future.set_exception(error)
                return
            for job in jobs:
                self._finish([job])
            return
        for job, result in zip(jobs, results, strict=True):
            job.future.set_result(result)
