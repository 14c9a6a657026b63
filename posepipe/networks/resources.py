"""What a run takes of the machine where nobody says: threads that read, and sizes of batches.

`docs/speed.md` states the rules. Importing this imports no torch.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

_GIB = 2**30
_UNKNOWN_MEMORY = 8 * _GIB  # where the system does not say what is free
_FEWEST_WORKERS, _MOST_BESIDE_CPU, _MOST_BESIDE_GPU = 2, 8, 12


@dataclass(frozen=True)
class BatchSizes:
    """How much goes through the networks together.

    Attributes:
        images: per pass of the detector.
        crops: per pass of the pose network.
    """

    images: int
    crops: int


def default_workers(device: str = "auto") -> int:
    """How many threads read and prepare images in this process, unless said otherwise.

    Args:
        device: where the networks run, as `posepipe.networks.devices.resolve_device` takes it.

    Raises:
        OptionError: no such device.
    """
    from posepipe.networks.devices import resolve_device

    on_cpu = resolve_device(device).type == "cpu"
    return choose_workers(usable_cores(), free_memory(), networks_on_cpu=on_cpu)


def choose_workers(cores: int, free_bytes: int, *, networks_on_cpu: bool) -> int:
    """How many threads read and prepare images, but no more than a GiB each allows.

    On a CPU they share the cores with the networks, and half of the cores are theirs, 2 to 8;
    beside a GPU all but one, which feeds it, 2 to 12.

    Args:
        cores: that this process may use.
        free_bytes: of memory; an image of 120 million pixels takes 1.2 GB as it is decoded.
        networks_on_cpu: whether the networks compute on these cores, too.

    >>> [choose_workers(cores, 64 * 2**30, networks_on_cpu=True) for cores in (1, 2, 4, 16, 64)]
    [2, 2, 2, 8, 8]
    >>> [choose_workers(cores, 64 * 2**30, networks_on_cpu=False) for cores in (1, 2, 4, 16, 64)]
    [2, 2, 3, 12, 12]
    """
    wanted, most = (
        (cores // 2, _MOST_BESIDE_CPU) if networks_on_cpu else (cores - 1, _MOST_BESIDE_GPU)
    )
    within = min(max(wanted, _FEWEST_WORKERS), most)
    return max(1, min(within, free_bytes // _GIB))


def default_batch_sizes(device: torch.device, *, flip: bool = False) -> BatchSizes:
    """How much goes through the networks together on a device; see `choose_batch_sizes`."""
    if device.type != "cuda":
        return choose_batch_sizes(device.type, flip=flip)
    import torch

    return choose_batch_sizes("cuda", torch.cuda.get_device_properties(device).total_memory)


def choose_batch_sizes(kind: str, total_bytes: int = 0, *, flip: bool = False) -> BatchSizes:
    """How much goes through the networks together.

    On a CPU torch is fastest with about 8 crops or a few more, mirror images included. What is free
    on a GPU at the moment does not matter, because other batches change the last digits of results.

    Args:
        kind: "cpu", "cuda" or "mps".
        total_bytes: of a CUDA GPU's memory.
        flip: whether every crop's mirror image goes with it.

    >>> choose_batch_sizes("cpu"), choose_batch_sizes("cpu", flip=True)
    (BatchSizes(images=4, crops=8), BatchSizes(images=4, crops=4))
    >>> choose_batch_sizes("cuda", 80 * 2**30)
    BatchSizes(images=16, crops=128)
    """
    if kind == "cpu":
        return BatchSizes(images=4, crops=4 if flip else 8)
    if kind == "cuda" and total_bytes > 20 * _GIB:  # the cards of 24 GB and more
        return BatchSizes(images=16, crops=128)
    if kind == "cuda" and total_bytes > 7 * _GIB:  # 8 GB
        return BatchSizes(images=8, crops=64)
    return BatchSizes(images=4, crops=64 if kind == "mps" else 32)


def usable_cores(root: Path = Path("/")) -> int:
    """How many cores this process may use, at least 1.

    The least of what the machine has, the process's affinity (taskset, Slurm), and the quota of
    its control group (Docker's ``--cpus``, Kubernetes' limits), which torch does not look at.

    Args:
        root: where ``proc`` and ``sys`` are.
    """
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:  # macOS, Windows
        cores = os.cpu_count() or 1
    return max(1, min([cores, *(math.ceil(quota) for quota in _quotas(root))]))


def free_memory(root: Path = Path("/")) -> int:
    """Bytes of memory that can be had now, a container's limit included; 8 GiB if unknown.

    Args:
        root: where ``proc`` and ``sys`` are.
    """
    system = _named_numbers(root / "proc/meminfo").get("MemAvailable:")  # kB; none but on Linux
    free = [_UNKNOWN_MEMORY if system is None else system * 1024]
    for version, folder in _groups(root, "memory"):
        names = ("max", "current") if version == 2 else ("limit_in_bytes", "usage_in_bytes")
        limit, used = (_numbers(folder / f"memory.{name}") for name in names)
        if len(limit) == len(used) == 1:
            # What is kept of files counts as used, but gives way.
            files = _named_numbers(folder / "memory.stat").get("inactive_file", 0)
            free.append(max(int(limit[0] - used[0]) + files, 0))
    return min(free)


def _quotas(root: Path) -> Iterator[float]:
    """The cores' worth of time that each control group above this process allows."""
    for version, folder in _groups(root, "cpu"):
        if version == 2:  # "max 100000", "150000 100000"
            microseconds = _numbers(folder / "cpu.max")
        else:
            names = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
            microseconds = [number for name in names for number in _numbers(folder / name)]
        if len(microseconds) == 2 and min(microseconds) > 0:  # -1: no limit
            yield microseconds[0] / microseconds[1]


def _groups(root: Path, controller: str) -> Iterator[tuple[int, Path]]:
    """The control groups above this process: their version, 1 or 2, and their folder."""
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    groups = root / "sys/fs/cgroup"
    for line in lines:
        _, controllers, name = line.split(":", 2)
        inner = Path(name.lstrip("/"))
        for path in (inner, *inner.parents):
            if not controllers:
                yield 2, groups / path
            elif controller in controllers.split(","):
                yield 1, groups / controller / path


def _numbers(file: Path) -> list[float]:
    try:
        return [float(word) for word in file.read_text(encoding="utf-8").split()]
    except (OSError, ValueError):  # absent, or "max"
        return []


def _named_numbers(file: Path) -> dict[str, int]:
    """Of lines like "MemAvailable: 12345 kB" or "inactive_file 12345"."""
    try:
        lines = (line.split() for line in file.read_text(encoding="utf-8").splitlines())
        return {words[0]: int(words[1]) for words in lines if len(words) > 1}
    except (OSError, ValueError):
        return {}
