"""A stage run over a stream of items in this process."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, NoReturn, TypeVar

from posepipe.errors import PosepipeError
from posepipe.networks.resources import default_workers
from posepipe.runtime.stage import Stage, batches_ahead, may_exceed, started
from posepipe.runtime.streams import Tally, and_its_failure, batched, prefetch

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

    A stage that can start batches ahead (`posepipe.runtime.stage.AheadStage`) does so if there are
    workers: then the outcomes of a batch are asked for when those after it are started. An
    exception comes after the outcomes of all that was started before.

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
    batches = batched(
        stream,
        full=stage.batch_size,
        most_items=max(_MOST_ITEMS, stage.batch_size),
        weight=taken,
        may_exceed=may_exceed(stage),
    )
    ahead = batches_ahead(stage) if workers else 0
    at_work: deque[_AtWork[In, Out]] = deque()
    for batch in and_its_failure(batches):
        nbytes = 0 if isinstance(batch, Exception) else sum(one.nbytes for one in batch)
        while at_work and sum(one.nbytes for one in at_work) + nbytes > most:
            yield from at_work.popleft().outcomes()
        at_work.append(_AtWork.of(batch, stage, ahead=ahead))
        del batch  # the stage holds what it needs of it
        while len(at_work) > ahead:
            yield from at_work.popleft().outcomes()
    while at_work:
        yield from at_work.popleft().outcomes()


@dataclass(frozen=True)
class _AtWork(Generic[In, Out]):
    """A batch at work.

    Attributes:
        items: with their errors.
        results: waits for those of the items without one, or raises what went wrong.
        nbytes: what the prepared items held.
    """

    items: Sequence[tuple[In, PosepipeError | None]]
    results: Callable[[], Sequence[Out]]
    nbytes: int

    @classmethod
    def of(
        cls, batch: list[_Waiting[In]] | Exception, stage: Stage[In, Any, Out], *, ahead: int
    ) -> _AtWork[In, Out]:
        """Start a batch; what goes wrong is raised when it is its turn, or what came instead."""
        if isinstance(batch, Exception):
            return cls((), partial(_raise, batch), 0)
        good = [prepared.ready for prepared in batch if prepared.error is None]
        results: Callable[[], Sequence[Out]] = list
        try:
            if good:
                results = started(stage, good, ahead=ahead)
        except Exception as error:
            results = partial(_raise, error)
        items = [(prepared.item, prepared.error) for prepared in batch]
        return cls(items, results, sum(prepared.nbytes for prepared in batch))

    def outcomes(self) -> Iterator[Outcome[In, Out]]:
        """Every item's outcome, when all are there."""
        results = iter(self.results())
        for item, error in self.items:
            yield Outcome(item, next(results) if error is None else None, error)


def _raise(error: Exception) -> NoReturn:
    raise error


def default_bytes(workers: int) -> int:
    """What prepared items may hold that wait, where nobody says."""
    return BYTES_PER_WORKER * max(workers, 2)
