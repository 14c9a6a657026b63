"""What a batch makes a CUDA GPU do, recorded once as a graph and replayed without Python."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeAlias

import torch
from torch import Tensor

Compute: TypeAlias = Callable[[Tensor], tuple[Tensor, ...]]
_SMALL_SHARE = 8


class TwoSizes:
    """A computation for batches of two sizes: whole ones, and an eighth of that.

    Other batches are put together from these, the last one filled up with zeros. On CUDA, what a
    batch of a size makes the GPU do is recorded when it comes for the first time, and replayed from
    there on.

    Args:
        compute: from (B, …) to tensors, B first; it waits for no number.
        batch_size: the largest B.
        shapes: of all but B, which are computed so: the first so many that come.
        otherwise: computes batches of other shapes, as they are, and those that `compute` fails
            for, or that cannot be recorded (a GPU's memory may be full); if that is so of the very
            first one, the error is raised. None: `compute` itself, which may fail.
        record: false records nothing.
        within: makes a context for what is done when a size comes for the first time.
    """

    def __init__(
        self,
        compute: Compute,
        batch_size: int,
        *,
        shapes: int = 1,
        otherwise: Compute | None = None,
        record: bool = True,
        within: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self._compute, self._record, self._within = compute, record, within
        self._otherwise, self._may_fail = otherwise or compute, otherwise is None
        self._sizes = (batch_size, math.ceil(batch_size / _SMALL_SHARE))
        self._most_shapes = shapes
        self._ready: dict[tuple[int, ...], dict[int, Compute]] = {}  # by shape, then by size
        self._pool: Any = None

    def __call__(self, images: Tensor) -> tuple[Tensor, ...]:
        """What is computed of any number of images, at least one.

        Raises:
            Exception: what `compute` raises: see `otherwise`.
        """
        shape = tuple(images.shape[1:])
        if shape not in self._ready:
            if len(self._ready) == self._most_shapes:
                return self._otherwise(images)
            self._ready[shape] = {}
        given = []
        while len(images):
            whole, small = self._sizes
            size = whole if len(images) > whole - 2 * small else small
            part, images = images[:size], images[size:]
            lacking = size - len(part)
            if lacking:
                part = torch.cat([part, part.new_zeros((lacking, *shape))])
            given.append([one[: size - lacking] for one in self._outputs(part)])
        if len(given) == 1:
            return tuple(given[0])
        return tuple(torch.cat(parts) for parts in zip(*given, strict=True))

    def _outputs(self, images: Tensor) -> tuple[Tensor, ...]:
        ready, size = self._ready[tuple(images.shape[1:])], len(images)
        if size in ready:
            return ready[size](images)
        try:
            with self._within():
                compute = self._for_batches_like(images)
                outputs = compute(images)
        except Exception:
            if not self._may_fail and not any(self._ready.values()):
                raise
            compute = self._otherwise
            outputs = compute(images)
        ready[size] = compute
        return outputs

    def _for_batches_like(self, images: Tensor) -> Compute:
        if not (self._record and _is_on_cuda(images)):
            return self._compute
        with torch.cuda.device(images.device):
            self._pool = self._pool or torch.cuda.graph_pool_handle()  # they run one by one
            return recorded(self._compute, images, self._pool)


def _is_on_cuda(images: Tensor) -> bool:
    return images.is_cuda


def recorded(compute: Compute, images: Tensor, pool: Any = None) -> Compute:
    """A computation of a CUDA GPU as a graph: recorded once, then replayed without Python.

    Args:
        compute: waits for no number, and gives the same shapes for the same shape.
        images: whose shape all images will have.
        pool: of memory for what is computed in between, which graphs share that are replayed one
            after the other on one stream; None: one of its own.
    """
    given = images.clone()
    beside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    beside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(beside):
        for _ in range(2):  # compiles, chooses algorithms, takes its working memory
            compute(given)
    torch.cuda.current_stream().wait_stream(beside)
    graph = torch.cuda.CUDAGraph()
    before = torch.cuda.current_stream()  # and afterwards, even if recording fails
    how = {"pool": pool, "capture_error_mode": "thread_local"}
    with torch.cuda.stream(before), torch.cuda.graph(graph, **how):
        found = compute(given)

    def replayed(part: Tensor) -> tuple[Tensor, ...]:
        given.copy_(part)
        graph.replay()
        return tuple(one.clone() for one in found)  # the next replay writes there again

    return replayed
