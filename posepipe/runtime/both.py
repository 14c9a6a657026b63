"""Both stages in one go: each image is read once, its pixels go from the first to the second."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from posepipe.core.boxes import Detections
from posepipe.core.poses import Poses
from posepipe.errors import PosepipeError
from posepipe.io.images import ImageFile
from posepipe.io.records import as_written
from posepipe.networks.resources import default_workers
from posepipe.runtime.local import Outcome, default_bytes, run
from posepipe.runtime.stage import Stage, batches_ahead, may_exceed, started
from posepipe.runtime.streams import Tally


def run_through_both(
    detection: Stage[ImageFile, Any, Detections],
    pose: Stage[tuple[ImageFile, Detections], Any, Poses],
    images: Iterable[ImageFile],
    *,
    workers: int | None = None,
    most_bytes: int | None = None,
) -> Iterator[Outcome[ImageFile, Poses]]:
    """The poses in every image, in order, as soon as their batch is done.

    The numbers are those of one stage after the other with a boxes.json between them: boxes are
    rounded to what would be written there.

    Args:
        detection: the first stage.
        pose: the second one; its scores come out unchanged.
        images: a lazy stream is fine.
        workers: threads that read images, and as many that cut crops; 0 for none. None: see
            `posepipe.runtime.local.run`.
        most_bytes: of pixels that are read and not yet cut up, and of what is cut out and waits;
            see `posepipe.runtime.local.run`.
    """
    if workers is None:
        workers = default_workers()
    most = most_bytes or default_bytes(workers)
    pixels = Tally(most)
    found = run(
        _First(detection, pixels),
        images,
        workers=workers,
        most_bytes=most,
        room=pixels.has_room,
        may_begin=pixels.has_room,
    )
    between = (outcome.result or _Between(outcome.item, outcome.error) for outcome in found)
    second = _Second(pose, pixels)
    for outcome in run(second, between, workers=workers, most_bytes=most, room=pixels.has_room):
        yield Outcome(outcome.item.image, outcome.result, outcome.error)


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
    nbytes: int


class _First(Stage[ImageFile, _Ready, _Between]):
    """The detection stage, which keeps the pixels for the next one."""

    def __init__(self, stage: Stage[ImageFile, Any, Detections], pixels: Tally) -> None:
        self._stage, self._pixels = stage, pixels

    @property
    def batch_size(self) -> int:
        return self._stage.batch_size

    def prepare(self, item: ImageFile) -> _Ready:
        pixels = item.read()
        ready = self._stage.prepare(replace(item, pixels=pixels))
        self._pixels.add(pixels.nbytes)
        held = pixels.nbytes + getattr(ready, "nbytes", 0)
        return _Ready(_Between(item, pixels=pixels), ready, held)

    def weight(self, ready: _Ready) -> int:
        return self._stage.weight(ready.ready)

    def __call__(self, batch: Sequence[_Ready]) -> list[_Between]:
        return self._found(batch, self._stage([ready.ready for ready in batch]))

    @property
    def ahead(self) -> int:
        return batches_ahead(self._stage)

    def start(self, batch: Sequence[_Ready]) -> Callable[[], list[_Between]]:
        results = started(self._stage, [ready.ready for ready in batch], ahead=self.ahead)
        return lambda: self._found(batch, results())

    @staticmethod
    def _found(batch: Sequence[_Ready], found: Sequence[Detections]) -> list[_Between]:
        for ready, detections in zip(batch, found, strict=True):
            ready.between.detections = as_written(detections)
        return [ready.between for ready in batch]


class _Second(Stage[_Between, Any, Poses]):
    """The pose stage, on pixels that are there already."""

    def __init__(
        self, stage: Stage[tuple[ImageFile, Detections], Any, Poses], pixels: Tally
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
            self._pixels.add(-pixels.nbytes)

    def weight(self, ready: Any) -> int:
        return self._stage.weight(ready)

    def __call__(self, batch: Sequence[Any]) -> Sequence[Poses]:
        return self._stage(batch)

    @property
    def may_exceed(self) -> bool:
        return may_exceed(self._stage)

    @property
    def ahead(self) -> int:
        return batches_ahead(self._stage)

    def start(self, batch: Sequence[Any]) -> Callable[[], Sequence[Poses]]:
        return started(self._stage, batch, ahead=self.ahead)
