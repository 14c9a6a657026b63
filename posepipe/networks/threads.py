"""How many threads compute: no more than this process has cores, which containers may limit."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import torch


def use_threads(count: int | None = None) -> int:
    """Let torch and OpenCV compute with this many threads in this process; returns how many.

    Args:
        count: what is wanted; more than `usable_cores` are not used, since they would only get
            into each other's way. None keeps torch's own choice (which follows OMP_NUM_THREADS)
            within that limit.
    """
    threads = max(1, min(count or torch.get_num_threads(), usable_cores()))
    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)
    return threads


@contextmanager
def one_thread(wanted: bool = True) -> Iterator[None]:
    """Within it, torch computes in the thread that calls it, and in no other.

    For the small work beside networks that another library runs: torch's threads wait for more
    work by spinning, on the cores that the library's need. With two cores, the pose stage in
    OpenVINO takes 5 % less time so.

    Args:
        wanted: false changes nothing.
    """
    threads = torch.get_num_threads()
    if wanted:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        if wanted:
            torch.set_num_threads(threads)


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


def _quotas(root: Path) -> Iterator[float]:
    """The cores' worth of time that each control group above this process allows."""
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    groups = root / "sys/fs/cgroup"
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:  # version 2: "max 100000", "150000 100000"
            for folder in _with_parents(groups, path):
                yield from _quota(*_numbers(folder / "cpu.max"))
        elif "cpu" in controllers.split(","):
            for folder in _with_parents(groups / "cpu", path):
                microseconds = _numbers(folder / "cpu.cfs_quota_us")
                yield from _quota(*microseconds, *_numbers(folder / "cpu.cfs_period_us"))


def _with_parents(folder: Path, path: str) -> Iterator[Path]:
    inner = Path(path.lstrip("/"))
    yield from (folder / part for part in (inner, *inner.parents))


def _numbers(file: Path) -> list[float]:
    try:
        return [float(word) for word in file.read_text(encoding="utf-8").split()]
    except (OSError, ValueError):  # absent, or "max"
        return []


def _quota(*numbers: float) -> Iterator[float]:
    if len(numbers) == 2 and min(numbers) > 0:  # -1: no limit
        yield numbers[0] / numbers[1]
