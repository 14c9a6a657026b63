"""The protocol of a stage: one item is one image; one in, one out, order kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar, runtime_checkable

In = TypeVar("In", contravariant=True)
Ready = TypeVar("Ready")
Out = TypeVar("Out", covariant=True)


class Stage(Protocol[In, Ready, Out]):
    """One step of the pipeline, from one noun of an image to the next.

    A prepared item may have an attribute `nbytes`, as arrays have: the memory that it holds, which
    is taken into account as items are prepared ahead.
    """

    @property
    def batch_size(self) -> int:
        """How much work a batch should hold, in the units of `weight`."""
        ...

    def prepare(self, item: In) -> Ready:
        """CPU work for one item (read, resize, crop); runs in threads, ahead of the network."""
        ...

    def weight(self, ready: Ready) -> int:
        """How much of a batch a prepared item fills: 1 for an image, N for N crops, 0 for none."""
        ...

    def __call__(self, batch: Sequence[Ready]) -> Sequence[Out]:
        """The results of a batch of prepared items: same length, same order."""
        ...


@runtime_checkable
class AheadStage(Protocol[In, Out]):
    """A stage that can start batches before the results of earlier ones are asked for.

    So its networks have something to do while a runner takes care of what comes before and after.
    """

    @property
    def ahead(self) -> int:
        """How many batches may be started before the results of an earlier one are asked for."""
        ...

    def start(self, batch: Sequence[In]) -> Callable[[], Sequence[Out]]:
        """Start a batch; the function returned waits for what a call would return."""
        ...


def batches_ahead(stage: Stage[In, Any, Any]) -> int:
    """How many batches of a stage may be started ahead; 0 if it is no `AheadStage`."""
    return stage.ahead if isinstance(stage, AheadStage) else 0


def may_exceed(stage: Stage[In, Any, Out]) -> bool:
    """Whether the last item of a batch may bring more work than a batch should hold.

    A stage says by an attribute ``may_exceed = False`` that it pads what exceeds whole batches.
    """
    return getattr(stage, "may_exceed", True)


def started(
    stage: Stage[In, Ready, Out], batch: Sequence[Ready], *, ahead: int
) -> Callable[[], Sequence[Out]]:
    """Start a batch ahead of earlier results or, if `ahead` is 0, do it alone and at once."""
    if ahead and isinstance(stage, AheadStage):
        return stage.start(batch)
    results = stage(batch)
    return lambda: results
