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

# Images without people fill no batch; this many are handed on together all the same.
_MOST_ITEMS = 64
# Nothing is prepared ahead while what waits weighs this much: images full of people.
_BATCHES_AHEAD, _LEAST_WEIGHT_AHEAD = 2, 64


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


def run(
    stage: Stage[In, Any, Out],
    items: Iterable[In],
    *,
    workers: int | None = None,
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
        room: while this is false, no further item is taken.
        may_begin: while this is false, none is prepared but the one that is waited for.
    """
    if workers is None:
        workers = default_workers()
    waiting = Tally(max(_BATCHES_AHEAD * stage.batch_size, _LEAST_WEIGHT_AHEAD))

    def prepare(item: In) -> _Waiting[In]:
        try:
            prepared = _Waiting(item, stage.prepare(item), None)
        except PosepipeError as error:
            return _Waiting(item, None, error)
        waiting.add(weight(prepared))
        return prepared

    def weight(prepared: _Waiting[In]) -> int:
        return 0 if prepared.error else stage.weight(prepared.ready)

    def taken(prepared: _Waiting[In]) -> int:
        waiting.add(-weight(prepared))
        return weight(prepared)

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
