"""A stage run over a stream of items in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from posepipe.errors import PosepipeError
from posepipe.networks.resources import default_workers
from posepipe.runtime.stage import Stage
from posepipe.runtime.streams import Tally, batched, prefetch

In = TypeVar("In")
Out = TypeVar("Out")

BYTES_PER_WORKER = 128 * 2**20
"""What prepared items hold while they wait for a network, for each thread that prepares them."""
_MOST_ITEMS = 64  # of a batch: images without people do not fill it
_FEWEST_ITEMS = 4  # ... and large ones fill it no sooner


@dataclass(frozen=True)
class Outcome(Generic[In, Out]):
    """The outcome of one item: a result, or the reason why there is none.

    Attributes:
        item: what went in.
        result: what came out; None if it failed.
        error: why it failed; None if it did not.
    """

    item: In
    result: Out | None
    error: PosepipeError | None = None


@dataclass(frozen=True)
class _Waiting(Generic[In]):
    item: In
    ready: Any
    error: PosepipeError | None

    @property
    def nbytes(self) -> int:
        held: int = getattr(self.ready, "nbytes", 0)
        return held


def run(
    stage: Stage[In, Any, Out],
    items: Iterable[In],
    *,
    workers: int | None = None,
    most_bytes: int | None = None,
    room: Callable[[], bool] = lambda: True,
    may_begin: Callable[[], bool] = lambda: True,
) -> Iterator[Outcome[In, Out]]:
    """The outcome of every item, in order, as soon as its batch is done.

    An item whose preparation raises a `PosepipeError` (an image that cannot be read) has that as
    its outcome and disturbs nobody else; any other exception ends the stream.

    Args:
        stage: what to do.
        items: a lazy stream is fine; nothing is held but the items at work.
        workers: threads that prepare items ahead of the network; 0 for none. None: by the machine,
            see `posepipe.networks.resources.choose_workers`.
        most_bytes: while prepared items that wait hold more, only the one that is waited for is
            prepared; and of items that large a batch holds fewer, but at least four. None: 128 MiB
            for each worker, of two at least.
        room: while this is false, no further item is taken.
        may_begin: while this is false, only the item that is waited for is prepared.
    """
    if workers is None:
        workers = default_workers()
    most = most_bytes or default_bytes(workers)
    waiting = Tally(most)

    def prepare(item: In) -> _Waiting[In]:
        try:
            prepared = _Waiting(item, stage.prepare(item), None)
        except PosepipeError as error:
            return _Waiting(item, None, error)
        waiting.add(prepared.nbytes)
        return prepared

    def taken(prepared: _Waiting[In]) -> int:
        """How much of a batch it fills."""
        waiting.add(-prepared.nbytes)
        if prepared.error is not None:
            return 0
        by_bytes = 2 * stage.batch_size * prepared.nbytes // most
        return max(stage.weight(prepared.ready), min(by_bytes, stage.batch_size // _FEWEST_ITEMS))

    stream = prefetch(
        prepare,
        items,
        workers=workers,
        ahead=max(2 * workers, min(stage.batch_size, _MOST_ITEMS)),
        room=room,
        may_begin=lambda: waiting.has_room() and may_begin(),
    )
    for batch in batched(stream, full=stage.batch_size, most_items=_MOST_ITEMS, weight=taken):
        good = [prepared for prepared in batch if prepared.error is None]
        results = iter(stage([prepared.ready for prepared in good]) if good else [])
        for prepared in batch:
            if prepared.error is None:
                yield Outcome(prepared.item, next(results))
            else:
                yield Outcome(prepared.item, None, prepared.error)


def default_bytes(workers: int) -> int:
    """What prepared items may hold that wait, where nobody says."""
    return BYTES_PER_WORKER * max(workers, 2)
