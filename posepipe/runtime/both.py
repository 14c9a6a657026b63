"""Both stages in one go: each image is read once, its pixels go from the first to the second."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from posepipe.core.boxes import Detections
from posepipe.core.poses import Poses
from posepipe.errors import PosepipeError
from posepipe.io.images import ImageFile
from posepipe.io.records import as_written
from posepipe.runtime.local import Outcome, run
from posepipe.runtime.stage import Stage

MOST_PIXEL_BYTES = 256 * 2**20
"""Images that wait between the stages hold no more than this, and a batch of the detector."""


def run_through_both(
    detection: Stage[ImageFile, Any, Detections],
    pose: Stage[tuple[ImageFile, Detections], Any, Poses],
    images: Iterable[ImageFile],
    *,
    workers: int = 2,
    most_bytes: int = MOST_PIXEL_BYTES,
) -> Iterator[Outcome[ImageFile, Poses]]:
    """The poses in every image, in order, as soon as their batch is done.

    The numbers are those of one stage after the other with a boxes.json between them: boxes are
    rounded to what would be written there.

    Args:
        detection: the first stage.
        pose: the second one; its scores come out unchanged.
        images: a lazy stream is fine.
        workers: threads that read images, and as many that cut crops; 0 for none.
        most_bytes: while images that are read and not yet cut up hold more, no further one is
            read, beyond the batch that the detector waits for.
    """
    pixels = _Pixels(most_bytes)
    found = run(_First(detection, pixels), images, workers=workers, room=pixels.have_room)
    between = (outcome.result or _Between(outcome.item, outcome.error) for outcome in found)
    for outcome in run(_Second(pose, pixels), between, workers=workers, room=pixels.have_room):
        yield Outcome(outcome.item.image, outcome.result, outcome.error)


class _Pixels:
    """How many bytes of pixels wait between the stages."""

    def __init__(self, most_bytes: int) -> None:
        self._most = most_bytes
        self._held = 0
        self._lock = threading.Lock()

    def count(self, change: int) -> None:
        with self._lock:
            self._held += change

    def have_room(self) -> bool:
        return self._held < self._most


@dataclass(eq=False)
class _Between:
    """One image on its way; its pixels leave it as soon as crops are cut."""

    image: ImageFile
    error: PosepipeError | None = None
    pixels: npt.NDArray[np.uint8] | None = None
    detections: Detections | None = None


@dataclass(frozen=True, eq=False)
class _Ready:
    between: _Between
    ready: Any


class _First(Stage[ImageFile, _Ready, _Between]):
    """The detection stage, which keeps the pixels for the next one."""

    def __init__(self, stage: Stage[ImageFile, Any, Detections], pixels: _Pixels) -> None:
        self._stage, self._pixels = stage, pixels

    @property
    def batch_size(self) -> int:
        return self._stage.batch_size

    def prepare(self, item: ImageFile) -> _Ready:
        pixels = item.read()
        ready = self._stage.prepare(replace(item, pixels=pixels))
        self._pixels.count(pixels.nbytes)
        return _Ready(_Between(item, pixels=pixels), ready)

    def weight(self, ready: _Ready) -> int:
        return self._stage.weight(ready.ready)

    def __call__(self, batch: Sequence[_Ready]) -> list[_Between]:
        found = self._stage([ready.ready for ready in batch])
        for ready, detections in zip(batch, found, strict=True):
            ready.between.detections = as_written(detections)
        return [ready.between for ready in batch]


class _Second(Stage[_Between, Any, Poses]):
    """The pose stage, on pixels that are there already."""

    def __init__(
        self, stage: Stage[tuple[ImageFile, Detections], Any, Poses], pixels: _Pixels
    ) -> None:
        self._stage, self._pixels = stage, pixels

    @property
    def batch_size(self) -> int:
        return self._stage.batch_size

    def prepare(self, item: _Between) -> Any:
        if item.error is not None:
            raise item.error
        pixels, item.pixels = item.pixels, None
        assert pixels is not None and item.detections is not None  # noqa: S101, PT018
        try:
            return self._stage.prepare((replace(item.image, pixels=pixels), item.detections))
        finally:
            self._pixels.count(-pixels.nbytes)

    def weight(self, ready: Any) -> int:
        return self._stage.weight(ready)

    def __call__(self, batch: Sequence[Any]) -> Sequence[Poses]:
        return self._stage(batch)
