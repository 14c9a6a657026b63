"""Stage 2: images with detections in, poses out."""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from posepipe.core.boxes import Detections
from posepipe.core.poses import Poses
from posepipe.errors import OptionError, WeightsError
from posepipe.io.images import ImageFile
from posepipe.networks.compiling import Compiled, compiled, compiling
from posepipe.networks.devices import SideStream, fetched, moved
from posepipe.networks.recording import TwoSizes
from posepipe.networks.resources import default_batch_sizes
from posepipe.networks.threads import one_thread
from posepipe.pose.codecs.base import Numbers
from posepipe.pose.codecs.choose import codec_of
from posepipe.pose.crops import Crops, cut_crops
from posepipe.pose.heatmaps import DecodingTable
from posepipe.pose.model import PoseModel
from posepipe.pose.warping import Joined, Windows, cut_windows, joined

Engine = Literal["cpu", "device"]
_CropKind = tuple[tuple[int, int], tuple[int, int, int], bool, str]


@dataclass(frozen=True, eq=False)
class ReadyPeople:
    """One image's people, cut out as every model wants them.

    Attributes:
        detections: where the people are.
        crops: by what makes crops differ from model to model; windows where the device cuts.
    """

    detections: Detections
    crops: dict[_CropKind, Crops | Windows]

    @property
    def nbytes(self) -> int:
        """The memory that the pixels take."""
        return sum(cut.pixels.nbytes for cut in self.crops.values())


class PoseStage:
    """Poses of the people that a detector found, by one CPN or the average of several.

    Several threads may use one stage; they start its networks one after the other.

    Args:
        models: their heatmaps are averaged (the paper's CPN+, tables 9 and 10), after each is
            scaled to the first one's amplitude and size. They may differ in everything but
            the keypoints, the codec, the crop's shape, its margins and kind of window.
        batch_size: crops per pass of the network, see `starts`; formed across images. None: see
            `posepipe.networks.resources.choose_batch_sizes`.
        engine: what cuts people out: "cpu", with OpenCV in the preparing threads, or "device", for
            all people of a batch at once, but for windows of whole pixels. None: "device" on CUDA.

    Raises:
        OptionError: no model, or models that do not go together.
    """

    def __init__(
        self,
        models: Sequence[PoseModel],
        *,
        batch_size: int | None = None,
        engine: Engine | None = None,
    ) -> None:
        if not models:
            raise OptionError("a pose stage needs at least one model")
        if batch_size is None:
            flip = models[0].decoding.flip
            batch_size = default_batch_sizes(models[0].device, flip=flip).crops
        if batch_size < 1:
            raise OptionError(f"batch size must be at least 1, got {batch_size}")
        for other in models[1:]:
            _check_compatible(models[0], other)
        self._lock = threading.Lock()
        self._elsewhere = all(model.is_elsewhere for model in models)
        self.models = tuple(models)
        self.skeleton = models[0].skeleton
        self.batch_size = batch_size
        self.decoding = models[0].decoding
        on_device = engine == "device" or (engine is None and models[0].device.type == "cuda")
        exact = models[0].preprocessing.window == "exact"  # of all of them
        on_cuda = models[0].device.type == "cuda" and not self._elsewhere
        self._cut: Callable[..., Crops | Windows] = (
            partial(cut_windows, pinned=on_cuda) if on_device and exact else cut_crops
        )
        self._beside = SideStream(models[0].device)
        self._tables = {_crop_kind(model): model.preprocessing for model in reversed(models)}
        self._one_kind = len(self._tables) == 1
        self._in_sizes = self._two_sizes() if on_cuda and self._one_kind else None

    def compile(self) -> None:
        """Compile the networks with torch.compile, which takes up to minutes: for long runs.

        Raises:
            OptionError: another runtime than torch runs them, or they cannot be compiled here.
        """
        self.models = tuple(
            replace(
                model,
                network=compiled(
                    model.network,
                    self.batch_size,
                    model=model.name,
                    times=2 if self.decoding.flip else 1,
                    record=not self._one_kind,  # what has one kind of crops is recorded whole
                ),
                runtime=f"{model.runtime}, compiled",
            )
            for model in self.models
        )
        self._in_sizes = self._two_sizes() if self._one_kind else None
        with self._lock, compiling():
            for count in {1, self.batch_size}:
                self._measured_part(
                    {
                        _crop_kind(model): torch.zeros(
                            (count, *model.preprocessing.input_size_wh[::-1], 3),
                            dtype=torch.uint8,
                            device=model.device,
                        )
                        for model in self.models
                    },
                    alone=True,
                )()

    def _two_sizes(self) -> TwoSizes:
        """What gives the numbers of (B, h, w, 3) crops of the models' one kind."""
        return TwoSizes(self._numbers, self.batch_size)

    @torch.inference_mode()
    def _numbers(self, pixels: Tensor) -> tuple[Tensor]:
        return (self._response(dict.fromkeys(self._tables, pixels), alone=True)(),)

    def prepare(self, item: tuple[ImageFile, Detections]) -> ReadyPeople:
        """Read the image and cut its people out; an image without people is not even read.

        Raises:
            ImageError: the image cannot be read.
        """
        image_file, detections = item
        image = image_file.read() if len(detections) else np.zeros((1, 1, 3), dtype=np.uint8)
        return ReadyPeople(
            detections,
            {kind: self._cut(image, detections, table) for kind, table in self._tables.items()},
        )

    def weight(self, ready: ReadyPeople) -> int:
        """The number of crops."""
        return len(ready.detections)

    def __call__(self, batch: Sequence[ReadyPeople]) -> list[Poses]:
        """The poses of each image, in order; scores are the detector's, unchanged.

        Raises:
            WeightsError: the network gives numbers that are not finite.
        """
        return self._start(batch, alone=True)()

    @property
    def ahead(self) -> int:
        """How many batches may be started before the results of an earlier one are asked for."""
        return min(model.ahead for model in self.models)

    @property
    def may_exceed(self) -> bool:
        """Whether a batch may be larger than `batch_size`: not where sizes are recorded."""
        return self._in_sizes is None

    def start(self, batch: Sequence[ReadyPeople]) -> Callable[[], list[Poses]]:
        """Run the networks; the function returned gives what a call would return.

        It waits for the networks where a GPU or another runtime is at work on them, and does all
        that comes after them.
        """
        return self._start(batch, alone=False)

    def _start(self, batch: Sequence[ReadyPeople], *, alone: bool) -> Callable[[], list[Poses]]:
        counts = [len(ready.detections) for ready in batch]
        if not any(counts):
            return lambda: [Poses.none(one.detections.image_id, self.skeleton) for one in batch]
        with self._lock:
            crops = self._beside.begin(
                lambda: {kind: self._joined(batch, kind) for kind in self._tables}
            )
            measured = self._measured(crops, sum(counts), alone=alone)
        to_image = crops[_crop_kind(self.models[0])].to_image
        return lambda: self._poses(batch, counts, to_image, measured())

    def _poses(
        self,
        batch: Sequence[ReadyPeople],
        counts: Sequence[int],
        to_image: npt.NDArray[np.float64],
        numbers: Numbers,
    ) -> list[Poses]:
        """The poses of each image, by what the codec measured of all its people."""
        size_wh = self.models[0].preprocessing.input_size_wh
        in_crops = codec_of(self.decoding).keypoints(numbers, size_wh)
        points = in_crops.points_xy.numpy().astype(np.float64)  # (sum N, K, 2)
        confidences = in_crops.confidences.numpy().astype(np.float64)[..., None]
        points = np.einsum("nij,nkj->nki", to_image[:, :, :2], points)
        keypoints = np.concatenate([points + to_image[:, None, :, 2], confidences], axis=-1)
        if not np.isfinite(keypoints).all():
            names = ", ".join(model.name for model in self.models)
            raise WeightsError(
                f"{names}: the network gives numbers that are not finite: its weights are damaged, "
                "or too large for the precision: try --precision fp32"
            )
        ends = list(itertools.accumulate(counts))
        return [
            Poses(
                image_id=ready.detections.image_id,
                keypoints=keypoints[end - count : end],
                scores=ready.detections.scores.astype(np.float64),
                boxes_xyxy=ready.detections.boxes_xyxy.astype(np.float64),
                box_scores=ready.detections.scores.astype(np.float64),
                skeleton=self.skeleton,
            )
            for ready, count, end in zip(batch, counts, ends, strict=True)
        ]

    def _measured(
        self, crops: Mapping[_CropKind, Crops | Joined], count: int, *, alone: bool
    ) -> Callable[[], Numbers]:
        """What waits for what the codec measures of all people, see `starts`."""
        passes = list(itertools.pairwise(self.starts(count)))
        ahead = self.ahead if self._elsewhere else 0
        at_work: deque[Callable[[], Tensor]] = deque()
        done: list[Tensor] = []
        for start, end in passes:
            pixels = {kind: self._cut_out(people, start, end) for kind, people in crops.items()}
            at_work.append(self._measured_part(pixels, alone=alone and len(passes) == 1))
            if len(at_work) > ahead:
                done.append(at_work.popleft()())
        if not at_work:  # a GPU copies while it is given more to do
            copied = fetched(*done)
            return lambda: np.concatenate(copied())
        return lambda: np.concatenate(fetched(*done, *(end() for end in at_work))())

    def starts(self, count: int) -> list[int]:
        """Where each pass of so many people begins, and the end: full ones and the rest.

        On a CPU the last full one takes the rest along: torch is slow with few crops. (OpenVINO
        makes pairs of all that it is given.)
        """
        on_cpu, size = self.models[0].device.type == "cpu", self.batch_size
        if on_cpu and not any(isinstance(model.network, Compiled) for model in self.models):
            return [*range(0, max(1, count - size + 1), size), count]
        return [*range(0, count, size), count]

    def _joined(self, batch: Sequence[ReadyPeople], kind: _CropKind) -> Crops | Joined:
        """All people of a batch, as one kind of crops."""
        cut = [ready.crops[kind] for ready in batch]
        windows = [one for one in cut if isinstance(one, Windows)]
        if windows:
            return joined(windows, self._tables[kind], self.models[0].device)
        crops = [one for one in cut if isinstance(one, Crops)]
        return Crops(
            np.concatenate([one.pixels for one in crops]),
            np.concatenate([one.to_image for one in crops]),
        )

    def _cut_out(self, people: Crops | Joined, start: int, end: int) -> Tensor:
        """(end - start, h, w, 3) crops of some people, on the models' device."""

        def cut() -> Tensor:
            if isinstance(people, Joined):
                return people.cut(start, end)
            return moved(people.pixels[start:end], self.models[0].device)

        return self._beside.awaited(self._beside.begin(cut))

    def _measured_part(
        self, pixels: Mapping[_CropKind, Tensor], *, alone: bool
    ) -> Callable[[], Tensor]:
        """What waits for what the codec measures of the mean of all networks' responses.

        On a GPU all of that is recorded, see `TwoSizes`.
        """
        if self._in_sizes is None:
            return self._response(pixels, alone=alone)
        [of_one_kind] = pixels.values()
        with torch.inference_mode():
            [numbers] = self._in_sizes(of_one_kind)
        return lambda: numbers

    def _response(self, pixels: Mapping[_CropKind, Tensor], *, alone: bool) -> Callable[[], Tensor]:
        codec = codec_of(self.decoding)
        begun = [
            model.start(pixels[_crop_kind(model)], flip=self.decoding.flip, alone=alone)
            for model in self.models
        ]

        @torch.inference_mode()
        def measured() -> Tensor:
            responses = [response() for response in begun]
            with one_thread(self._elsewhere):
                mean = codec.average(responses, [model.codec for model in self.models])
                return codec.measure(mean)

        return measured


def _crop_kind(model: PoseModel) -> _CropKind:
    """What a model's crops depend on; models that agree in it share them."""
    table = model.preprocessing
    return table.input_size_wh, table.fill, table.antialias, table.window


# Where a response's cells and bins lie.
_MEASURES = ("stride", "cells", "bins_per_pixel")


def _must_agree(model: PoseModel) -> dict[str, object]:
    """What only CPN's codec converts from one model's scale to another's."""
    if isinstance(model.decoding, DecodingTable):
        return {}
    table = msgspec.to_builtins(model.decoding)
    return {
        "input_size_wh": model.preprocessing.input_size_wh,
        **{f"decoding.{name}": table[name] for name in _MEASURES if name in table},
    }


def _check_compatible(first: PoseModel, other: PoseModel) -> None:
    def traits(model: PoseModel) -> dict[str, object]:
        table = model.preprocessing
        width, height = table.input_size_wh
        return {
            "the crop's shape (width / height)": width / height,
            "margins_xy": table.margins_xy,
            "window": table.window,
            "skeleton": model.skeleton,
            "codec": model.decoding.codec,
            **_must_agree(model),
        }

    theirs_of = traits(other)
    for name, mine in traits(first).items():
        theirs = theirs_of.get(name)
        if mine != theirs:
            raise OptionError(
                f"models {first.name!r} and {other.name!r} cannot be averaged: they differ in "
                f"{name}: {getattr(mine, 'name', mine)} and {getattr(theirs, 'name', theirs)}"
            )
