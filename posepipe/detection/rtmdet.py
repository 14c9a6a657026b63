"""RTMDet as a detector: images to its network's size, candidates from what the network gives.

The network is in `posepipe.detection.rtmdet_network`. Every box that scores enough is handed over,
as by all detectors here; NMS comes later.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
import numpy.typing as npt
import torch
from msgspec import Meta
from torch import Tensor, nn

from posepipe.detection.candidates import (
    MOST_COMPILED_SHAPES,
    MOST_RECORDED_SHAPES,
    Candidates,
    CandidatesTable,
    DetectorInput,
    Origin,
    alike,
    pad,
    padded_together,
)
from posepipe.detection.rtmdet_network import (
    OUTPUTS,
    STRIDES,
    RTMDet,
    RTMDetTable,
    cell_corners,
)
from posepipe.networks.compiling import Compiled, compiled
from posepipe.networks.devices import (
    SideStream,
    copied_into,
    fetched,
    moved,
    precision_name,
    put,
    without_tf32,
)
from posepipe.networks.folding import fold_batch_norms
from posepipe.networks.normalising import Normalisation
from posepipe.networks.precision import run_in_precision
from posepipe.networks.recording import TwoSizes
from posepipe.networks.runtimes.base import (
    Placement,
    RuntimeNetwork,
    starts_ahead,
)
from posepipe.networks.runtimes.cached import in_runtime
from posepipe.networks.runtimes.export import Exportable, tensors_of
from posepipe.networks.runtimes.registry import open_network, runtime_version
from posepipe.networks.threads import one_thread
from posepipe.zoo.bounds import Deviation, Number
from posepipe.zoo.recipe import Recipe, Table
from posepipe.zoo.weights import exported_file, find_weights, fit_state, read_state

_LARGEST_STRIDE = STRIDES[-1]
_LEAST_LOGIT = -87.0  # of a score that float32 can tell from 0

Side = Annotated[int, Meta(ge=32, le=8192)]
FloatArray = npt.NDArray[np.float32]
Rgb = tuple[Number, Number, Number]
RgbDeviation = tuple[Deviation, Deviation, Deviation]


class RTMDetPreprocessing(Table, frozen=True):
    """The recipe's table ``[preprocessing]`` of a detector of the backend "rtmdet".

    Attributes:
        long_side: what the image's longer side becomes in the network, in pixels.
        mean: RGB, subtracted from pixels in [0, 1].
        std: RGB, divides them then.
        fill: grey level in 0…255 with which images are padded at the right and at the bottom.
    """

    long_side: Side = 512
    mean: Rgb = (0.485, 0.456, 0.406)
    std: RgbDeviation = (0.229, 0.224, 0.225)
    fill: Annotated[int, Meta(ge=0, le=255)] = 114

    @property
    def normalisation(self) -> Normalisation:
        """What makes the network's input of uint8 RGB pixels."""
        mean, std = (
            (255 * red, 255 * green, 255 * blue) for red, green, blue in (self.mean, self.std)
        )
        return Normalisation(mean, std)


class RTMDetDetector:
    """A `posepipe.detection.candidates.Detector` around an `RTMDet`.

    Attributes:
        network: in evaluation mode on its device.
        origin: what it consists of.
        preprocessing: the recipe's.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        origin: Origin,
        preprocessing: RTMDetPreprocessing | None = None,
        min_score: float = 0.05,
        device: torch.device | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """Take over a network with its weights.

        Args:
            network: an `RTMDet` with its weights, or what gives the same tensors (`OUTPUTS`).
            origin: what it consists of.
            preprocessing: the published models' if None.
            min_score: boxes that do not score higher are not handed over.
            device: where it runs; the CPU if None.
            dtype: of an `RTMDet`'s convolutions; box arithmetic stays in float32.
        """
        self.origin = origin
        self.preprocessing = preprocessing or RTMDetPreprocessing()
        self._min_score = min_score
        # What scores more has a larger logit than this, however the logarithm is rounded.
        least = math.log(min_score / (1 - min_score)) - 1e-3 if min_score else _LEAST_LOGIT
        self._least_logit = max(least, _LEAST_LOGIT)
        elsewhere = isinstance(network, RuntimeNetwork)  # which takes its pixels from the host
        self._device = torch.device("cpu") if device is None or elsewhere else device
        if isinstance(network, RTMDet):
            fold_batch_norms(network.eval())
            run_in_precision(network.lower_precision_parts(), dtype)
        self.network = network.eval().requires_grad_(False)
        put(self.network, self._device)
        self._in_sizes: TwoSizes | None = None
        self._beside = SideStream(self._device)

    def record(self, batch_size: int) -> bool:
        """See `posepipe.detection.candidates.Recordable`."""
        by_itself = isinstance(self.network, Compiled)
        if self._device.type == "cuda" and self._in_sizes is None and not by_itself:
            self._in_sizes = TwoSizes(self._numbers, batch_size, shapes=MOST_RECORDED_SHAPES)
        return self._in_sizes is not None

    def _numbers(self, pixels: Tensor) -> tuple[Tensor]:
        with without_tf32():
            maps = self.network(self.preprocessing.normalisation(pixels))
            return (_joined(list(tensors_of(maps))),)

    def compile(self, batch_size: int) -> None:
        """See `posepipe.detection.candidates.Compilable`."""
        self.network = compiled(
            self.network, batch_size, model=self.origin.model, shapes=MOST_COMPILED_SHAPES
        )
        self._in_sizes = None  # what is compiled records itself
        self.origin = replace(self.origin, backend=f"{self.origin.backend}, compiled")

    def prepare(self, image: npt.NDArray[np.uint8], *, scale: float = 1.0) -> DetectorInput:
        """The image at the network's size, not yet padded: see `Detector.prepare`."""
        height, width = image.shape[:2]
        factor = scale * self.preprocessing.long_side / max(height, width)
        size_wh = (max(1, round(width * factor)), max(1, round(height * factor)))
        if size_wh != (width, height):
            how = cv2.INTER_AREA if factor < 0.5 else cv2.INTER_LINEAR
            image = cv2.resize(image, size_wh, interpolation=how).astype(np.uint8, copy=False)
        if self._device.type != "cuda":
            return DetectorInput(np.require(image, np.uint8, ["C", "W"]), (width, height))
        pinned = torch.empty((*padded_shape(image), 3), dtype=torch.uint8, pin_memory=True)
        pixels = pinned.numpy()
        pad(image, pixels, self.preprocessing.fill)
        return DetectorInput(pixels[: size_wh[1], : size_wh[0]], (width, height), pinned)

    def __call__(self, batch: Sequence[DetectorInput]) -> list[Candidates]:
        """The candidates of each image; images that pad to the same shape run together."""
        return self.start(batch, alone=True)()

    @property
    def ahead(self) -> int:
        """See `posepipe.detection.candidates.Starting`."""
        return starts_ahead(self.network, self._device)

    def start(
        self, batch: Sequence[DetectorInput], *, alone: bool = False
    ) -> Callable[[], list[Candidates]]:
        """See `posepipe.detection.candidates.Starting`; the host waits for a GPU once per batch."""
        groups = alike(batch, padded_shape)
        elsewhere = isinstance(self.network, RuntimeNetwork)
        with torch.inference_mode():
            with one_thread(elsewhere):
                # A network leaves no cache warm: what is before it is done for all at once.
                there = self._beside.begin(
                    lambda: [self.padded(of_group) for _, of_group in groups]
                )
            pixels = [self._beside.awaited(one) for one in there]
            if isinstance(self.network, RuntimeNetwork):
                given = self.network.start(pixels, alone=alone)
            else:  # a GPU copies while it is given more to do
                compute = self._in_sizes or self._numbers
                copied = fetched(*(joined for one in pixels for joined in compute(one)))

        def numbers() -> Iterator[FloatArray]:
            if not elsewhere:
                yield from copied()
                return
            for maps in given():  # the next ones are still being computed
                with one_thread():
                    joined = _joined(maps).numpy()
                yield joined

        def finish() -> list[Candidates]:
            found: dict[int, Candidates] = {}
            for (group, of_group), of_images in zip(groups, numbers(), strict=True):
                found |= zip(group, self._chosen(of_group, of_images), strict=True)
            return [found[position] for position in range(len(batch))]

        return finish

    def padded(self, batch: Sequence[DetectorInput]) -> Tensor:
        """(B, H, W, 3) uint8 RGB pixels, on the device, of images that pad to the same shape."""
        pinned = [ready.pinned for ready in batch if ready.pinned is not None]
        if not pinned:
            shape_hw = padded_shape(batch[0].pixels)
            return moved(padded_together(batch, shape_hw, self.preprocessing.fill), self._device)
        pixels = torch.empty(
            (len(pinned), *pinned[0].shape), dtype=torch.uint8, device=self._device
        )
        copied_into(pixels.unbind(), pinned)
        return pixels

    def _chosen(
        self, batch: Sequence[DetectorInput], numbers: npt.NDArray[np.float32]
    ) -> Iterator[Candidates]:
        """The candidates of images of one shape, by what `_joined` gives of all of them."""
        # A few boxes of many cells: numpy chooses them with a third of torch's cost of a call.
        corners = cell_corners(padded_shape(batch[0].pixels)).numpy().T
        for ready, of_image in zip(batch, numbers, strict=True):
            logits, sides = of_image[:-4], of_image[-4:]
            large = logits > self._least_logit
            cells = np.flatnonzero(large.any(axis=0))  # few
            of_cells, classes = large[:, cells].T.nonzero()
            cells = cells[of_cells]
            here, sides = corners[:, cells], sides[:, cells]
            low, high = here - sides[:2], here + sides[2:]
            scores = 1 / (1 + np.exp(-logits[classes, cells]))
            stays = (high > low).all(axis=0) & (scores > self._min_score)
            boxes = np.concatenate([low, high])[:, stays].T
            yield Candidates(ready.in_given_pixels(boxes), scores[stays], classes[stays] + 1)


def _joined(maps: Sequence[Tensor]) -> Tensor:
    """(B, classes + 4, P) score logits and distances at all cells, of the network's outputs."""
    levels = zip(maps[: len(STRIDES)], maps[len(STRIDES) :], strict=True)
    return torch.cat([torch.cat(pair, dim=1).flatten(2) for pair in levels], dim=2)


def padded_shape(pixels: npt.NDArray[np.uint8]) -> tuple[int, int]:
    """Height and width of (h, w, 3) pixels, rounded up to whole strides of the coarsest level."""
    height, width = (-(-side // _LARGEST_STRIDE) * _LARGEST_STRIDE for side in pixels.shape[:2])
    return height, width


def load(
    recipe: Recipe,
    *,
    placement: Placement,
    weights: str | Path | None = None,
) -> RTMDetDetector:
    """The detector of a recipe with ``backend = "rtmdet"``: see `Backend.load`.

    ``[network]``, ``[preprocessing]`` and ``[candidates]`` are read; the first not where the
    network comes exported.
    """
    path, digest = find_weights(recipe, weights)
    normalisation = recipe.table("preprocessing", RTMDetPreprocessing).normalisation

    def with_weights() -> RTMDet:
        network = build(recipe)
        fit_state(network, read_state(path), path)
        return network

    if exported_file(recipe, weights) is not None:
        opened = open_network(
            path, placement, place=str(path), wanted=OUTPUTS, normalisation=normalisation
        )
        opened.check_takes(None)
        network: nn.Module = opened
    else:
        made_of = {"weights": digest, "network": recipe.table("network", RTMDetTable)}
        network, placement = in_runtime(
            recipe.name,
            made_of,
            placement,
            lambda: exportable(with_weights()),
            normalisation=normalisation,
        )
    version = runtime_version(network)
    origin = Origin(recipe.name, version, digest, precision_name(placement.dtype))
    return detector(network, recipe, origin=origin, device=placement.device, dtype=placement.dtype)


def exportable(network: RTMDet) -> Exportable:
    """A network as exporters want it."""
    return Exportable(network, OUTPUTS, size_wh=(96, 64), any_size=True)


def build(recipe: Recipe) -> RTMDet:
    """The recipe's network with random weights: see `Backend.build`."""
    return RTMDet(recipe.table("network", RTMDetTable))


def detector(
    network: nn.Module,
    recipe: Recipe,
    *,
    origin: Origin,
    device: torch.device,
    dtype: torch.dtype,
) -> RTMDetDetector:
    """A detector around a network of `build`: see `Backend.detector`."""
    return RTMDetDetector(
        network,
        origin=origin,
        preprocessing=recipe.table("preprocessing", RTMDetPreprocessing),
        min_score=recipe.table("candidates", CandidatesTable).min_score,
        device=device,
        dtype=dtype,
    )
