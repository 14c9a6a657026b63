"""Networks compiled by torch.compile, for few shapes; on CUDA recorded as graphs, too."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn

from posepipe.errors import OptionError
from posepipe.networks.runtimes.base import RuntimeNetwork, first_line
from posepipe.networks.runtimes.export import tensors_of

Compile = Literal["auto", "on", "off"]
Compute: TypeAlias = Callable[[Tensor], tuple[Tensor, ...]]
_SMALL_SHARE = 8
_PAYS_FROM = 100_000
"""Images. On an H100, compiling took 25 s and saved 0.07 ms for every crop of cpn-resnet50-256x192:
it has paid after some 360,000 crops, mirrored ones included."""
_MOST_COMPILED = 256  # times that torch compiles a function before it gives up; it would after 8


def pays(device: torch.device, images: int) -> bool:
    """Whether a run over so many images is long enough for what compiling costs; never on a CPU."""
    return device.type == "cuda" and images >= _PAYS_FROM


class Compiled(nn.Module):
    """A network that is compiled for batches of two sizes: whole ones, and an eighth of that.

    Each is compiled when it comes for the first time, which takes from seconds to a minute. Other
    batches are put together from these two, the last one filled up with zeros. On CUDA, what a
    batch of that size makes the GPU do is recorded then, and replayed from there on.

    Args:
        network: on its device, from (B, 3, H, W) to a tensor or to several, nested or not, B first.
        batch_size: the largest B.
        shapes: the first so many heights and widths that come are compiled; images of others take
            the network as it is, and so do batches of which one before could be compiled, but they
            cannot (a GPU's memory may be full).
    """

    def __init__(self, network: nn.Module, batch_size: int, *, shapes: int = 1) -> None:
        super().__init__()
        self.network = network
        self._sizes = (batch_size, math.ceil(batch_size / _SMALL_SHARE))
        self._most_shapes = shapes
        self._compiled: Any = torch.compile(network, dynamic=False)
        self._ready: dict[tuple[int, ...], dict[int, Compute]] = {}  # by shape, then by size
        self._pool: Any = None

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """The network's tensors, one after the other, for any number of images, at least one.

        Raises:
            OptionError: the network cannot be compiled here: it is the first time.
        """
        shape = tuple(images.shape[1:])
        if shape not in self._ready:
            if len(self._ready) == self._most_shapes:
                return self._as_it_is(images)
            self._ready[shape] = {}
        given = []
        while len(images):
            whole, small = self._sizes
            size = whole if len(images) > whole - 2 * small else small
            part, images = images[:size], images[size:]
            lacking = size - len(part)
            if lacking:
                part = torch.cat([part, part.new_zeros((lacking, *shape))])
            part = part.contiguous(memory_format=torch.channels_last)
            given.append([one[: size - lacking] for one in self._outputs(part)])
        return tuple(torch.cat(parts) for parts in zip(*given, strict=True))

    def _outputs(self, images: Tensor) -> tuple[Tensor, ...]:
        ready, size = self._ready[tuple(images.shape[1:])], len(images)
        if size in ready:
            return ready[size](images)
        try:
            with compiling():
                compute = self._for_batches_like(images)
                outputs = compute(images)
        except OptionError:
            if not any(self._ready.values()):
                raise
            compute = self._as_it_is
            outputs = compute(images)
        ready[size] = compute
        return outputs

    def _as_it_is(self, images: Tensor) -> tuple[Tensor, ...]:
        return tuple(tensors_of(self.network(images)))

    def _for_batches_like(self, images: Tensor) -> Compute:
        if images.device.type != "cuda":
            return self._compute
        with torch.cuda.device(images.device):
            self._pool = self._pool or torch.cuda.graph_pool_handle()  # they run one by one
            return recorded(self._compute, images, self._pool)

    def _compute(self, images: Tensor) -> tuple[Tensor, ...]:
        with torch._dynamo.config.patch(cache_size_limit=_MOST_COMPILED):
            return tuple(tensors_of(self._compiled(images)))


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
    with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
        found = compute(given)

    def replayed(part: Tensor) -> tuple[Tensor, ...]:
        given.copy_(part)
        graph.replay()
        return tuple(one.clone() for one in found)  # the next replay writes there again

    return replayed


def compiled(network: nn.Module, batch_size: int, *, model: str, shapes: int = 1) -> Compiled:
    """A network compiled for batches of up to a size: see `Compiled`.

    Args:
        network: on its device.
        batch_size: the largest batch.
        model: whose network it is, for the error.
        shapes: of images, see `Compiled`.

    Raises:
        OptionError: another runtime than torch runs it.
    """
    if isinstance(network, RuntimeNetwork):
        raise OptionError(
            f"{network.version} runs {model} and has compiled it: --compile is for --runtime torch"
        )
    return Compiled(network, batch_size, shapes=shapes)


@contextmanager
def compiling() -> Iterator[None]:
    """While networks are run for the first time.

    Raises:
        OptionError: they cannot be compiled here.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's own, to programmers
            yield
    except OptionError:
        raise
    except Exception as error:  # of many kinds: no compiler, an operation that is not known
        raise OptionError(
            f"the networks cannot be compiled ({first_line(error)}): torch.compile needs a C++ "
            "compiler such as g++, on a GPU also triton: install it, or leave out --compile"
        ) from None
