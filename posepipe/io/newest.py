"""Of what comes in its own time: whoever asks gets what came last."""

from __future__ import annotations

import atexit
import threading
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")
CLOSE_SECONDS = 2.0


class Newest(Generic[T]):
    """Items that a thread takes as they come, and of which only the newest is kept.

    Iterating waits for the next item. What the items come from is released by the thread that
    reads them, and nowhere else: a read that hangs is never disturbed by it. Nor does the
    interpreter end beside a read: it waits for as long as `patience` says.

    Args:
        items: whatever takes its time; an exception from it is raised to whoever iterates.
        release: called in the thread, once no further item will be taken.
        patience: seconds to wait for an item; longer than any read lasts.

    Attributes:
        missed: how many items came and went while nobody asked.
    """

    def __init__(self, items: Iterator[T], *, release: Callable[[], None], patience: float) -> None:
        self.missed = 0
        self._items = items
        self._release = release
        self._patience = patience
        self._waiting: list[T] = []
        self._error: BaseException | None = None
        self._closing = False
        self._done = False
        self._change = threading.Condition()
        self._thread = threading.Thread(target=self._take, name="posepipe-newest", daemon=True)
        atexit.register(self._close, patience)
        self._thread.start()

    def __iter__(self) -> Iterator[T]:
        """The newest items.

        Raises:
            TimeoutError: none came for as long as `patience` says.
        """
        while True:
            with self._change:
                # In short waits, between which Ctrl-C is heard.
                for _ in range(max(1, round(self._patience / 0.1))):
                    if self._waiting or self._done:
                        break
                    self._change.wait(0.1)
                if not self._waiting:
                    if self._error is not None:
                        raise self._error
                    if self._done:
                        return
                    raise TimeoutError
                item = self._waiting.pop()
            yield item

    def close(self) -> bool:
        """Take no more items; whether the thread has ended.

        It waits two seconds for a read that is under way. One that takes longer ends when it ends,
        and what it reads from is released then.
        """
        return self._close(CLOSE_SECONDS)

    def _close(self, seconds: float) -> bool:
        with self._change:
            self._closing = True
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _take(self) -> None:
        try:
            for item in self._items:
                with self._change:
                    if self._closing:
                        break
                    self.missed += len(self._waiting)
                    self._waiting = [item]
                    self._change.notify()
        except BaseException as error:  # raised where the items are asked for
            self._error = error
        finally:
            self._release()
            atexit.unregister(self._close)
            with self._change:
                self._done = True
                self._change.notify()
