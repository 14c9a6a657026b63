"""The detection stage: images in, the boxes of their people out.

Each image is looked at by every detector, at every scale, and mirrored if asked; all boxes of
all classes that come of it are one pool, and from there on there is one rule (CPN, section 4.1,
and the ensembles of its table 2): NMS per class, the top 100 of all classes, the persons of those.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from posepipe.core.boxes import Detections, area, clip
from posepipe.core.skeleton import PERSON as PERSON_CATEGORY
from posepipe.core.suppression import Suppression, suppress
from posepipe.detection.candidates import (
    PERSON,
    Candidates,
    Compilable,
    Detector,
    DetectorInput,
    Origin,
    Recordable,
    Starting,
    pooled,
    started,
)
from posepipe.errors import OptionError
from posepipe.io.images import ImageFile
from posepipe.networks.compiling import compiling

_ROUNDING = 1e-6  # of scores as float32
_PASSES_RECORDED = 4  # together: a GPU takes images of one shape at a time


@dataclass(frozen=True, kw_only=True)
class DetectionSettings:
    """What the stage does with its detectors and their boxes.

    Attributes:
        suppression: NMS and how many boxes of all classes are kept.
        scales: the sizes at which each image is looked at; 1 is the recipe's.
        flip: look at its mirror image, too.
        min_score: people with a lower score are left out, after everything else; in [0, 1].
        batch_size: images that go through a network together.
        category: the name of the class that is found, where it is not people.

    Raises:
        OptionError: a value outside its range.
    """

    suppression: Suppression = field(default_factory=Suppression)
    scales: tuple[float, ...] = (1.0,)
    flip: bool = False
    min_score: float = 0.0
    batch_size: int = 4
    category: str = PERSON_CATEGORY

    def __post_init__(self) -> None:
        if not self.scales or not all(0.1 <= scale <= 10 for scale in self.scales):
            raise OptionError(f"scales must lie between 0.1 and 10, got {list(self.scales)}")
        if not 0 <= self.min_score <= 1:
            raise OptionError(f"the lowest box score must lie in [0, 1], got {self.min_score}")
        if self.batch_size < 1:
            raise OptionError(f"the batch size must be at least 1, got {self.batch_size}")

    @cached_property
    def picking(self) -> Suppression:
        """`suppression` as far as it matters.

        Scores only fall from pick to pick: what comes after the last person need not be picked.
        """
        least = max(self.suppression.min_score, self.min_score - _ROUNDING)
        return replace(self.suppression, min_score=least)


@dataclass(frozen=True, eq=False)
class ReadyImage:
    """An image read and made into network inputs.

    Attributes:
        image_id: which image.
        size_wh: its width and height in pixels.
        views: a detector's inputs at all scales, then its mirrored ones, then the next detector's.
    """

    image_id: int
    size_wh: tuple[int, int]
    views: tuple[Any, ...]

    @property
    def nbytes(self) -> int:
        """The memory that the views' pixels take."""
        return sum(view.pixels.nbytes for view in self.views if isinstance(view, DetectorInput))


@dataclass(frozen=True, eq=False)
class _Look:
    """One way to look at an image at all scales: through which network, mirrored or not."""

    detector: Detector[Any]
    mirrored: bool


class DetectionStage:
    """A `posepipe.runtime.stage.Stage` from `ImageFile` to `Detections`.

    Several detectors, scales and mirror images add their boxes to one pool before NMS. Several
    threads may use one stage; they start its networks one after the other.

    Attributes:
        settings: how boxes are chosen.
        detectors: the networks.
    """

    def __init__(
        self,
        detectors: Sequence[Detector[Any]],
        settings: DetectionSettings | None = None,
        *,
        record: bool = True,
    ) -> None:
        """Take over the networks.

        Args:
            detectors: at least one.
            settings: the defaults if None.
            record: false where the stage is soon done with: recordings take a GPU's memory.

        Raises:
            OptionError: no detector.
        """
        if not detectors:
            raise OptionError("detection needs at least one model")
        self.settings = settings or DetectionSettings()
        self.detectors = tuple(detectors)
        self._lock = threading.Lock()
        recorded = [
            record and isinstance(one, Recordable) and one.record(self.settings.batch_size)
            for one in detectors
        ]
        self._passes = _PASSES_RECORDED if all(recorded) else 1
        self._looks = [
            _Look(detector, mirrored)
            for detector in detectors
            for mirrored in ((False, True) if self.settings.flip else (False,))
        ]

    @property
    def batch_size(self) -> int:
        """How many images come together: what one pass takes, or several so that more are alike."""
        return self.settings.batch_size * self._passes

    @property
    def origins(self) -> tuple[Origin, ...]:
        """What each detector consists of, for the record."""
        return tuple(detector.origin for detector in self.detectors)

    def compile(self) -> None:
        """Compile the networks with torch.compile, which takes up to minutes: for long runs.

        One shape of images, that of 640x480, is compiled at once; others when they come.

        Raises:
            OptionError: networks that only their own library or another runtime than torch runs,
                or they cannot be compiled here.
        """
        blank = np.zeros((480, 640, 3), np.uint8)
        with self._lock, compiling():
            for detector in self.detectors:
                if not isinstance(detector, Compilable):
                    origin = detector.origin
                    raise OptionError(
                        f"the network of {origin.model} cannot be compiled ({origin.backend}): "
                        "leave out --compile"
                    )
                detector.compile(self.settings.batch_size)
                detector([detector.prepare(blank)])

    def prepare(self, item: ImageFile) -> ReadyImage:
        """Read an image and make the input of every view of it.

        Raises:
            ImageError: it cannot be read.
        """
        image = item.read()
        height, width = image.shape[:2]
        views = tuple(
            look.detector.prepare(image[:, ::-1] if look.mirrored else image, scale=scale)
            for look in self._looks
            for scale in self.settings.scales
        )
        return ReadyImage(item.id, (width, height), views)

    def weight(self, ready: ReadyImage) -> int:
        """An image fills one place of a batch."""
        return 1

    def __call__(self, batch: Sequence[ReadyImage]) -> list[Detections]:
        """The people of each image, best first; there may be none."""
        return self._start(batch, alone=True)()

    @property
    def ahead(self) -> int:
        """How many batches may be started before the results of an earlier one are asked for."""
        return min(one.ahead if isinstance(one, Starting) else 0 for one in self.detectors)

    def start(self, batch: Sequence[ReadyImage]) -> Callable[[], list[Detections]]:
        """Run the networks; the function returned gives what a call would return.

        It waits for the networks where a GPU or another runtime is at work on them, and does all
        that comes after them.
        """
        return self._start(batch, alone=False)

    def _start(self, batch: Sequence[ReadyImage], *, alone: bool) -> Callable[[], list[Detections]]:
        seen = self._looked_at(batch, alone=alone)
        return lambda: [
            choose_people(found, ready.image_id, ready.size_wh, self.settings)
            for found, ready in zip(seen(), batch, strict=True)
        ]

    def candidates(self, batch: Sequence[ReadyImage]) -> list[Candidates]:
        """All that the views of each image give, before NMS: what `choose_people` takes."""
        return self._looked_at(batch, alone=True)()

    def _looked_at(
        self, batch: Sequence[ReadyImage], *, alone: bool
    ) -> Callable[[], list[Candidates]]:
        alone = alone and len(self._looks) == 1
        scales = len(self.settings.scales)
        looks = []
        for number, look in enumerate(self._looks):
            mine = slice(number * scales, (number + 1) * scales)
            views = [view for ready in batch for view in ready.views[mine]]
            with self._lock:
                looks.append((look.mirrored, started(look.detector, views, alone=alone)))

        def candidates() -> list[Candidates]:
            seen: list[list[Candidates]] = [[] for _ in batch]
            for mirrored, arrived in looks:
                found = arrived()
                for place, (parts, ready) in enumerate(zip(seen, batch, strict=True)):
                    outputs = found[place * scales : (place + 1) * scales]
                    width = ready.size_wh[0]
                    parts += [one.mirrored(width) for one in outputs] if mirrored else outputs
            return [pooled(parts) for parts in seen]

        return candidates


def choose_people(
    candidates: Candidates,
    image_id: int,
    size_wh: tuple[int, int],
    settings: DetectionSettings | None = None,
) -> Detections:
    """The people among the candidates of one image, best first.

    NMS per class, the top k of all classes, the persons of those, those with enough score; then
    boxes are cut to the image, and what has no area left is dropped.

    Args:
        candidates: of all classes, before NMS.
        image_id: which image.
        size_wh: its width and height in pixels.
        settings: of NMS and the lowest score.
    """
    if not len(candidates):
        return Detections.none(image_id, size_wh)
    settings = settings or DetectionSettings()
    picks = suppress(candidates.boxes_xyxy, candidates.scores, candidates.classes, settings.picking)
    boxes = clip(candidates.boxes_xyxy[picks.indices], size_wh)
    stays = candidates.classes[picks.indices] == PERSON
    stays &= (picks.scores >= settings.min_score) & (area(boxes) > 0)
    return Detections(image_id, boxes[stays].astype(np.float32), picks.scores[stays], size_wh)
