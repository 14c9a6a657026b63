"""One process, or several on one machine or many, as a launcher started them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, nn

from posepipe.errors import MissingDependencyError, OptionError
from posepipe.networks.devices import resolve_device

# Longer than any validation, during which the others wait for the first process.
_PATIENCE = timedelta(hours=3)


@dataclass(frozen=True)
class Processes:
    """The processes of a run, as seen by one of them.

    Attributes:
        rank: which one this is; 0 is the one that measures and writes.
        world: how many there are.
        device: this one's.
    """

    rank: int
    world: int
    device: torch.device

    @property
    def is_first(self) -> bool:
        """Whether this process measures and writes."""
        return self.rank == 0

    def sum(self, values: Tensor) -> Tensor:
        """The sum over all processes, which all of them must ask for."""
        if self.world > 1:
            torch.distributed.all_reduce(values)
        return values

    def broadcast(self, value: Any) -> Any:
        """The first process's value; of plain types."""
        if self.world == 1:
            return value
        box = [value]
        torch.distributed.broadcast_object_list(box, src=0, device=self.device)
        return box[0]

    def with_synchronised_norms(self, module: nn.Module, *, frozen_norm: bool) -> nn.Module:
        """The module with batch normalisations that measure over all processes' samples.

        There are none for CPUs: there, each process measures over its own share of a batch.
        """
        if self.world == 1 or self.device.type != "cuda" or frozen_norm:
            return module
        converted: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(module)  # type: ignore[no-untyped-call]  # torch's stubs
        return converted

    def wrapped(self, module: nn.Module, *, some_left_out: bool) -> nn.Module:
        """The module, its gradients averaged over all processes after each backward pass.

        Args:
            module: a batch in, its losses out.
            some_left_out: whether some parameters take no part in the losses; looking for them
                takes time.
        """
        if self.world == 1:
            return module
        where = [self.device] if self.device.type == "cuda" else None
        return nn.parallel.DistributedDataParallel(
            module, device_ids=where, find_unused_parameters=some_left_out
        )


def join_processes(device: str = "auto") -> Processes:
    """This process among those that `accelerate launch` or `torchrun` started; alone without them.

    Args:
        device: for a process on its own, see `posepipe.networks.devices.resolve_device`; of several
            ones each takes its own GPU, or with "cpu" (or where there is no GPU) the CPU.

    Raises:
        OptionError: no such device, a single device for several processes, or processes that
            cannot be joined.
        MissingDependencyError: several processes, and accelerate is not installed.
    """
    started = int(os.environ.get("WORLD_SIZE", "1"))
    if started == 1:
        return Processes(0, 1, resolve_device(device))
    try:
        from accelerate import PartialState
    except ModuleNotFoundError:
        raise MissingDependencyError(
            "several processes need accelerate: pip install 'posepipe[train]'"
        ) from None
    if device not in ("auto", "cpu", "cuda"):
        raise OptionError(
            f"device {device!r} is a single one, but there are several processes: use auto or cpu"
        )
    on_cpu = device == "cpu" or not torch.cuda.is_available()
    state = PartialState(cpu=on_cpu, timeout=_PATIENCE)
    if state.num_processes != started:
        raise OptionError(
            f"{started} processes were started, but accelerate joins {state.num_processes}: start "
            "them with torchrun, or train with one"
        )
    return Processes(state.process_index, state.num_processes, torch.device(state.device))
