"""The protocol of a stage: one item is one image; one in, one out, order kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

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
