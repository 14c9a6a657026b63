"""How many threads compute: no more than this process has cores, which containers may limit."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import cv2
import torch

from posepipe.networks.resources import usable_cores

_number_in_use = threading.RLock()  # torch has one number of threads for the whole process


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


def threads_in_use() -> int:
    """How many threads torch computes with; not the one that another thread is within just now."""
    with _number_in_use:
        return torch.get_num_threads()


@contextmanager
def one_thread(wanted: bool = True) -> Iterator[None]:
    """Within it, torch computes in the thread that calls it, and in no other.

    For the small work beside networks that another library runs: torch's threads wait for more
    work by spinning, on the cores that the library's need. With two cores, the pose stage in
    OpenVINO takes 5 % less time so. One thread of the process can be within it at a time.

    Args:
        wanted: false changes nothing.
    """
    if not wanted:
        yield
        return
    with _number_in_use:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(threads)
