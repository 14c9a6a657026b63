"""Who is let in: so many requests, and so many bytes of files and pixels, at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class Full(Exception):  # noqa: N818  # a state rather than an error
    """There is no room for a request, or for its bytes, now."""


class Admission:
    """What the requests at work hold. For one thread: the event loop's.

    Nobody waits for room: who finds none is turned away, and may come back.

    Args:
        places: so many requests at a time.
        most_bytes: so many bytes at a time, of all of them.

    Attributes:
        requests: how many there are now.
        held_bytes: how much they hold now.
    """

    def __init__(self, places: int, most_bytes: int) -> None:
        self._places, self._most_bytes = places, most_bytes
        self.requests = 0
        self.held_bytes = 0

    @contextmanager
    def request(self) -> Iterator[Held]:
        """A place for one request; its bytes are given back at the end.

        Raises:
            Full: there is none.
        """
        if self.requests >= self._places:
            raise Full
        self.requests += 1
        held = Held(self)
        try:
            yield held
        finally:
            self.requests -= 1
            self.held_bytes -= held.count

    def take(self, count: int) -> None:
        """Count bytes that a request is going to hold.

        Raises:
            Full: there is no room for them.
        """
        if self.held_bytes + count > self._most_bytes:
            raise Full
        self.held_bytes += count


class Held:
    """The bytes of one request.

    Attributes:
        count: how many.
    """

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self.count = 0

    def take(self, count: int) -> None:
        """Hold more.

        Raises:
            Full: there is no room for them.
        """
        self._admission.take(count)
        self.count += count
