"""A stage run over a stream of items in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from posepipe.errors import PosepipeError
from posepipe.runtime.stage import Stage
from posepipe.runtime.streams import batched, prefetch

In = TypeVar("In")
Out = TypeVar("Out")

# Images without people fill no batch; this many are handed on together all the same.
_MOST_ITEMS = 64


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
    workers: int = 2,
    room: Callable[[], bool] = lambda: True,
) -> Iterator[Outcome[In, Out]]:
    """The outcome of every item, in order, as soon as its batch is done.

    An item whose preparation raises a `PosepipeError` (an image that cannot be read) has that as
    its outcome and disturbs nobody else; any other exception ends the stream.

    Args:
        stage: what to do.
        items: a lazy stream is fine; nothing is held but the items at work.
        workers: threads that prepare items ahead of the network; 0 for none.
        room: while this is false, no item is prepared ahead.
    """

    def prepare(item: In) -> _Waiting[In]:
        try:
            return _Waiting(item, stage.prepare(item), None)
        except PosepipeError as error:
            return _Waiting(item, None, error)

    def weight(prepared: _Waiting[In]) -> int:
        return 0 if prepared.error else stage.weight(prepared.ready)

    ahead = max(2 * workers, min(stage.batch_size, 16))
    stream = prefetch(prepare, items, workers=workers, ahead=ahead, room=room)
    for batch in batched(stream, full=stage.batch_size, most_items=_MOST_ITEMS, weight=weight):
        good = [prepared for prepared in batch if prepared.error is None]
        results = iter(stage([prepared.ready for prepared in good]) if good else [])
        for prepared in batch:
            if prepared.error is None:
                yield Outcome(prepared.item, next(results))
            else:
                yield Outcome(prepared.item, None, prepared.error)
