"""Rows of `benchmark.py` about reading images: ours over Pillow alone, and who holds the lock."""

from __future__ import annotations

import statistics
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import cycle, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar
from unittest.mock import patch

import numpy as np
from PIL import Image

from posepipe.io import images
from posepipe.io.images import ImageFile

T = TypeVar("T")
Work = Callable[[], int]
Speed = Callable[[Work], float]


def reading_lines(
    files: Sequence[ImageFile],
    *,
    speed: Speed,
    rounds: int,
    threads: Sequence[int] = (1, 2, 4),
    png: bool = True,
) -> Iterator[str]:
    """Images read per second by several threads, and how long an image needs Python's lock.

    Args:
        files: what to read, over and over; each reading takes at least 96 of them.
        speed: measures work that says how much of it there was.
        rounds: of which the median is printed, after one to warm up.
        threads: how many read at the same time, one after the other.
        png: read the same images as PNGs, too.
    """
    with TemporaryDirectory() as folder:
        kinds = {"JPEG": files}
        if png:
            kinds["PNG"] = [_as_png(file, Path(folder)) for file in files]
        yield f"{'reading, images/s':24} {'Pillow alone':>14} {'posepipe':>10} {'ratio':>7}"
        for kind, some in kinds.items():
            many = list(islice(cycle(some), max(96, len(some))))
            for count in threads:
                pairs = [_both_ways(many, count, speed) for _ in range(rounds + 1)][1:]
                yield _row(f"{kind}, threads: {count}", pairs, ".0f")
            locks = [_lock_both_ways(many) for _ in range(rounds + 1)][1:]
            yield _row(f"{kind}, ms with the lock", locks, ".2f")


def _row(what: str, pairs: Sequence[tuple[float, float]], form: str) -> str:
    pillow, ours = (statistics.median(side) for side in zip(*pairs, strict=True))
    ratio = statistics.median(ours / pillow for pillow, ours in pairs)
    return f"{what:24} {pillow:14{form}} {ours:10{form}} {ratio:7.2f}"


@contextmanager
def _pillow_alone() -> Iterator[None]:
    with (
        patch.object(images, "jpeg_pixels", lambda image: None),
        patch.object(images, "plain_pixels", lambda source, most: None),
    ):
        yield


def _both_ways(files: Sequence[ImageFile], threads: int, speed: Speed) -> tuple[float, float]:
    """The speeds of Pillow alone and of posepipe."""

    def read() -> int:
        with ThreadPoolExecutor(threads) as pool:
            return sum(1 for _ in pool.map(ImageFile.read, files))

    with _pillow_alone():
        alone = speed(read)
    return alone, speed(read)


def _lock_both_ways(files: Sequence[ImageFile]) -> tuple[float, float]:
    with _pillow_alone():
        alone = lock_milliseconds(ImageFile.read, files)
    return alone, lock_milliseconds(ImageFile.read, files)


def lock_milliseconds(work: Callable[[T], object], items: Sequence[T]) -> float:
    """How long work on an item keeps other threads of Python from running, in ms.

    A thread that does nothing but count in Python needs the lock all the time: what it loses
    beside a thread that works, compared with one that computes without the lock, is what the
    working one holds it for. The lock changes hands quickly here: else the losses would drown in
    the working thread's waiting.
    """

    def all_of_it() -> None:
        for item in items:
            work(item)

    counted, stop, patience = 0, threading.Event(), sys.getswitchinterval()
    noise = np.random.default_rng(0).bytes(2**20)

    def count() -> None:
        nonlocal counted
        while not stop.is_set():
            for _ in range(1000):
                counted += 1

    def counts_per_second(work: Callable[[], object]) -> tuple[float, float]:
        begun, at_start = time.perf_counter(), counted
        work()
        seconds = time.perf_counter() - begun
        return (counted - at_start) / seconds, seconds

    thread = threading.Thread(target=count)
    sys.setswitchinterval(1e-5)
    thread.start()
    try:
        alone, _ = counts_per_second(lambda: [zlib.compress(noise, 1) for _ in range(12)])
        beside, seconds = counts_per_second(all_of_it)
        again, _ = counts_per_second(lambda: [zlib.compress(noise, 1) for _ in range(12)])
    finally:
        sys.setswitchinterval(patience)
        stop.set()
        thread.join()
    held = (1 - 2 * beside / (alone + again)) * seconds / len(items) * 1000
    return max(held, 0.0)  # of little work, noise


def _as_png(file: ImageFile, folder: Path) -> ImageFile:
    path = folder / f"{file.id}.png"
    if not path.exists():
        Image.fromarray(file.read()).save(path)
    return ImageFile(file.id, path, path.name)
