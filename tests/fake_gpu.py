"""A GPU that computes shapes alone, on any machine: what runs there, and what waits for it.

torch's own fake tensors say that they lie on a GPU and have no numbers. So an operation of tensors
on different devices fails as it would on a GPU, and so does one whose result's shape or whose
value the host would have to wait for.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

_COPYING = (torch.ops.aten.to, torch.ops.aten._to_copy, torch.ops.aten.copy_)
GPU = torch.device("cuda", 7)  # of that number, so that nothing is kept for a real one


@dataclass
class Traffic:
    """What the host did with the GPU.

    Attributes:
        waits: how often it waited for events.
        blocking: copies that stop it until the GPU has done all else, by their shapes: all but
            those from or to pinned memory that are told not to.
    """

    waits: int = 0
    blocking: list[tuple[int, ...]] = field(default_factory=list)


@contextmanager
def fake_gpu() -> Iterator[Traffic]:
    """Within it, `GPU` exists; its numbers are zeros once they arrive at the host.

    Whatever functions keep between calls on the host must be there before: here it would be fake.
    """
    traffic = Traffic()

    def wait() -> None:
        traffic.waits += 1

    copies = _Copies(traffic)
    stream = SimpleNamespace(
        record_event=lambda: SimpleNamespace(synchronize=wait), wait_stream=lambda other: None
    )
    with (
        mock.patch("torch.cuda.current_stream", return_value=stream),
        mock.patch("torch.cuda.Stream", return_value=stream),
        mock.patch("torch.cuda.stream", return_value=nullcontext()),
        mock.patch.object(torch.Tensor, "record_stream", return_value=None),
        mock.patch.object(torch.Tensor, "pin_memory", lambda tensor: copies.pin(tensor)),
        mock.patch("torch.Tensor.numpy", _numpy),
        FakeTensorMode(allow_non_fake_inputs=True),
        copies,
    ):
        yield traffic


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
            source = args[1] if func.overloadpacket is torch.ops.aten.copy_ else args[0]
            crosses = {source.device.type, given.device.type} == {"cpu", "cuda"}
            named = dict(zip((one.name for one in func._schema.arguments), args, strict=False))
            quick = {**named, **(kwargs or {})}.get("non_blocking", False)
            on_host = source if source.device.type == "cpu" else args[0]
            memory = on_host.untyped_storage()._cdata
            pinned = any(memory == one.untyped_storage()._cdata for one in self._pinned)
            if crosses and not (quick and pinned):
                self._traffic.blocking.append(tuple(given.shape))
        return given


_real_numpy = torch.Tensor.numpy


def _numpy(tensor: torch.Tensor, **options: Any) -> np.ndarray:
    if not isinstance(tensor, FakeTensor):
        with _disable_current_modes():
            return _real_numpy(tensor, **options)
    assert tensor.device.type == "cpu"
    return np.zeros(tensor.shape, str(tensor.dtype).removeprefix("torch."))
