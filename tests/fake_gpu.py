"""A GPU that computes shapes alone, on any machine: what runs there, and what waits for it.

torch's own fake tensors say that they lie on a GPU and have no numbers. So an operation of tensors
on different devices fails as it would on a GPU, and so does one whose result's shape or whose
value the host would have to wait for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves

_COPYING = (
    torch.ops.aten.to,
    torch.ops.aten._to_copy,
    torch.ops.aten.copy_,
    torch.ops.aten._foreach_copy_,
)
_SURE_FROM = "2.14"  # of torch; 2.6 asks for a GPU's driver
GPU = torch.device("cuda", 7)  # of that number, so that nothing is kept for a real one


@dataclass
class Traffic:
    """What the host did with the GPU.

    Attributes:
        waits: how often it waited for events.
        blocking: copies that stop it until the GPU has done all else, by their shapes: all but
            those from or to pinned memory that are told not to.
        races: tensors of one stream that another one used without waiting for them, or without a
            word to what gives their memory to others (`Tensor.record_stream`), by their shapes.
    """

    waits: int = 0
    blocking: list[tuple[int, ...]] = field(default_factory=list)
    races: list[tuple[int, ...]] = field(default_factory=list)


@contextmanager
def fake_gpu() -> Iterator[Traffic]:
    """Within it, `GPU` exists; its numbers are zeros once they arrive at the host.

    Whatever functions keep between calls on the host must be there before: here it would be fake.
    """
    traffic = Traffic()

    def wait() -> None:
        traffic.waits += 1

    copies, streams = _Copies(traffic), _Streams(traffic, wait)
    with (
        mock.patch("torch.cuda.current_stream", streams.in_use),
        mock.patch("torch.cuda.Stream", streams.another),
        mock.patch("torch.cuda.stream", streams.within),
        mock.patch.object(torch.Tensor, "record_stream", lambda *words: streams.record(*words)),
        mock.patch.object(torch.Tensor, "pin_memory", lambda tensor: copies.pin(tensor)),
        mock.patch("torch.Tensor.numpy", _numpy),
        FakeTensorMode(allow_non_fake_inputs=True),
        copies,
        streams,
    ):
        _check_torch()
        yield traffic


def _check_torch() -> None:
    try:
        torch.zeros(2, device=GPU)[1:]
    except RuntimeError:
        if torch.__version__ >= _SURE_FROM:
            raise
        pytest.skip(f"torch {torch.__version__} computes no shapes for a GPU that is not there")


def put_on_gpu(network: nn.Module) -> None:
    """Replace a network's weights by fake ones on `GPU`, within `fake_gpu`."""
    for module in network.modules():
        for kind in (module._parameters, module._buffers):
            for name, tensor in kind.items():
                if tensor is not None:
                    fake = torch.empty_like(tensor, device=GPU)
                    kind[name] = nn.Parameter(fake, requires_grad=False)


class _Copies(TorchDispatchMode):
    def __init__(self, traffic: Traffic) -> None:
        super().__init__()
        self._traffic = traffic
        self._pinned: list[torch.Tensor] = []

    def pin(self, tensor: torch.Tensor) -> torch.Tensor:
        """A copy of a tensor in pinned memory."""
        self._pinned.append(tensor.clone())
        return self._pinned[-1]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = func(*args, **(kwargs or {}))
        if func is torch.ops.aten.empty.memory_format and (kwargs or {}).get("pin_memory"):
            self._pinned.append(given)
        if func.overloadpacket in _COPYING:
            named = dict(zip((one.name for one in func._schema.arguments), args, strict=False))
            quick = {**named, **(kwargs or {})}.get("non_blocking", False)
            if func.overloadpacket is torch.ops.aten._foreach_copy_:
                for place, source in zip(*args[:2], strict=True):
                    self._copied(source, place, quick)
            else:
                into = func.overloadpacket is torch.ops.aten.copy_
                self._copied(args[1] if into else args[0], given, quick)
        return given

    def _copied(self, source: torch.Tensor, place: torch.Tensor, quick: bool) -> None:
        crosses = {source.device.type, place.device.type} == {"cpu", "cuda"}
        memory = _memory(source if source.device.type == "cpu" else place)
        pinned = any(memory == _memory(one) for one in self._pinned)
        if crosses and not (quick and pinned):
            self._traffic.blocking.append(tuple(place.shape))


@dataclass(eq=False)
class _Stream:
    """A stream: the host can wait for what it has done, and other streams can."""

    streams: _Streams

    def record_event(self) -> SimpleNamespace:
        return SimpleNamespace(synchronize=self.streams.wait)

    def wait_stream(self, other: _Stream) -> None:
        self.streams.awaited |= {(self, one) for one in self.streams.made.get(other, {})}


class _Streams(TorchDispatchMode):
    """Who makes and who uses a GPU's tensors."""

    def __init__(self, traffic: Traffic, wait: Callable[[], None]) -> None:
        super().__init__()
        self._traffic, self.wait = traffic, wait
        self.current = self._first = _Stream(self)
        self.made: dict[_Stream, dict[int, torch.Tensor]] = {}  # beside the first stream's work
        self.awaited: set[tuple[_Stream, int]] = set()
        self._recorded: set[tuple[_Stream, int]] = set()

    def in_use(self, device: object = None) -> _Stream:
        """What `torch.cuda.current_stream` gives."""
        return self.current

    def another(self, device: object = None) -> _Stream:
        """What `torch.cuda.Stream` makes."""
        return _Stream(self)

    @contextmanager
    def within(self, stream: _Stream) -> Iterator[None]:
        """While a stream is the current one."""
        before, self.current = self.current, stream
        try:
            yield
        finally:
            self.current = before

    def record(self, tensor: torch.Tensor, stream: _Stream) -> None:
        """What `Tensor.record_stream` does."""
        self._recorded.add((stream, _memory(tensor)))

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = func(*args, **(kwargs or {}))
        others = [made for stream, made in self.made.items() if stream is not self.current]
        for tensor in _on_gpu((args, kwargs)) if others else ():
            memory = _memory(tensor)
            mine = (self.current, memory)
            known = mine in self.awaited and mine in self._recorded
            if any(memory in made for made in others) and not known:
                self._traffic.races.append(tuple(tensor.shape))
        if self.current is not self._first:
            made = self.made.setdefault(self.current, {})
            made |= {_memory(tensor): tensor for tensor in _on_gpu(given)}
        return given


def _on_gpu(values: Any) -> list[torch.Tensor]:
    tensors = [one for one in tree_leaves(values) if isinstance(one, torch.Tensor)]
    return [one for one in tensors if one.device.type == "cuda"]


def _memory(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage()._cdata


_real_numpy = torch.Tensor.numpy


def _numpy(tensor: torch.Tensor, **options: Any) -> np.ndarray:
    if not isinstance(tensor, FakeTensor):
        with _disable_current_modes():
            return _real_numpy(tensor, **options)
    assert tensor.device.type == "cpu"
    return np.zeros(tensor.shape, str(tensor.dtype).removeprefix("torch."))
