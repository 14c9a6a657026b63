"""What a batch makes a CUDA GPU do, recorded once as a graph and replayed without Python."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TypeAlias

import torch
from torch import Tensor

Compute: TypeAlias = Callable[[Tensor], tuple[Tensor, ...]]
logger = logging.getLogger(__name__)
_SMALL_SHARE = 8
_ONE_RECORDS = threading.Lock()  # CUDA allows one recording at a time in a process


class TwoSizes:
    """A computation for batches of two sizes: whole ones, and an eighth of that.

    Other batches are put together from these, the last one filled up with zeros. On CUDA, what a
    batch of a size makes the GPU do is recorded when it comes for the first time, and replayed from
    there on. Several threads may call it, on the same stream of the GPU.

    Args:
        compute: from (B, …) to tensors, B first; it waits for no number.
        batch_size: the largest B.
        times: so many times as large both sizes are, B included.
        shapes: of all but B, which are computed so: the first so many that come.
        otherwise: computes batches of other shapes, in parts of the larger size, and those that
            `compute` fails for, or that cannot be recorded (a GPU's memory may be full); if that is
            so of the very first one, the error is raised. None: `compute` itself, which may fail.
        record: false records nothing.
        within: makes a context for what is done when a size comes for the first time.
    """

    def __init__(
        self,
        compute: Compute,
        batch_size: int,
        *,
        times: int = 1,
        shapes: int = 1,
        otherwise: Compute | None = None,
        record: bool = True,
        within: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self._compute, self._record, self._within = compute, record, within
        self._otherwise, self._may_fail = otherwise or compute, otherwise is None
        self._sizes = (times * batch_size, times * math.ceil(batch_size / _SMALL_SHARE))
        self._most_shapes = shapes
        self._ready: dict[tuple[int, ...], dict[int, Compute]] = {}  # by shape, then by size
        self._recorder: Recorder | None = None
        self._lock = threading.Lock()

    def __call__(self, images: Tensor) -> tuple[Tensor, ...]:
        """What is computed of any number of images, at least one.

        Raises:
            Exception: what `compute` raises: see `otherwise`.
        """
        with self._lock:
            return self._computed(images)

    def _computed(self, images: Tensor) -> tuple[Tensor, ...]:
        shape = tuple(images.shape[1:])
        whole, small = self._sizes
        if shape not in self._ready:
            if len(self._ready) == self._most_shapes:
                return _together([self._otherwise(part) for part in torch.split(images, whole)])
            self._ready[shape] = {}
        given = []
        while len(images):
            size = whole if len(images) > whole - 2 * small else small
            part, images = images[:size], images[size:]
            lacking = size - len(part)
            if lacking:
                part = torch.cat([part, part.new_zeros((lacking, *shape))])
            given.append(tuple(one[: size - lacking] for one in self._outputs(part)))
        return _together(given)

    def _outputs(self, images: Tensor) -> tuple[Tensor, ...]:
        ready, size = self._ready[tuple(images.shape[1:])], len(images)
        if size in ready:
            return ready[size](images)
        try:
            with self._within():
                compute = self._for_batches_like(images)
                outputs = compute(images)
        except Exception as error:
            if not self._may_fail and not any(self._ready.values()):
                raise
            logger.warning("a batch of %d runs as it is, not recorded: %s", size, error)
            self._recorder = None  # its memory cannot be used again
            compute = self._otherwise
            outputs = compute(images)
        ready[size] = compute
        return outputs

    def _for_batches_like(self, images: Tensor) -> Compute:
        if not (self._record and _is_on_cuda(images)):
            return self._compute
        with _ONE_RECORDS, torch.cuda.device(images.device):
            self._recorder = self._recorder or Recorder()
            return self._recorder(self._compute, images)


def _together(given: Sequence[tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
    """What came of the parts of a batch."""
    if len(given) == 1:
        return given[0]
    return tuple(torch.cat(parts) for parts in zip(*given, strict=True))


def _is_on_cuda(images: Tensor) -> bool:
    return images.is_cuda


class Recorder:
    """Records computations of the current CUDA GPU as graphs, to be replayed without Python.

    They share memory for what is computed in between: they are replayed one after the other, on one
    stream.
    """

    def __init__(self) -> None:
        self._stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]  # of this GPU
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, compute: Compute, images: Tensor) -> Compute:
        """What gives for other images what `compute` would, recorded for these.

        Args:
            compute: waits for no number, and gives the same shapes for the same shape.
            images: whose shape all images will have.
        """
        given = images.clone()
        before = torch.cuda.current_stream()
        self._stream.wait_stream(before)
        with torch.cuda.stream(self._stream):
            for _ in range(2):  # compiles, chooses algorithms, takes its working memory
                compute(given)
        before.wait_stream(self._stream)
        graph = torch.cuda.CUDAGraph()
        recording = torch.cuda.graph(
            graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"
        )
        try:
            with torch.cuda.stream(before), recording:  # the first brings it back in any case
                found = compute(given)
        except Exception:  # torch goes on to take its random numbers for recorded ones
            generator = torch.cuda.default_generators[images.device.index]
            generator.graphsafe_set_state(generator.clone_state())
            raise

        def replayed(part: Tensor) -> tuple[Tensor, ...]:
            given.copy_(part)
            graph.replay()
            return tuple(one.clone() for one in found)  # the next replay writes there again

        return replayed
