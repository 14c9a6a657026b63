"""detectron2's networks as detectors, without detectron2.

Convolutions, RoIAlign and NMS are torch's and torchvision's, which detectron2 itself stands on; the
rules between them are detectron2's (docs/detection.md lists what differs from torchvision's own
R-CNNs). On a CPU the numbers are detectron2's own, but for the last digits of a float.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torchvision
from PIL import Image

from posepipe.core.boxes import clip
from posepipe.detection.candidates import (
    Candidates,
    CandidatesTable,
    DetectorInput,
    DetectorTable,
    Origin,
    by_shape,
)
from posepipe.detection.categories import category_ids_of
from posepipe.detection.native.network import Found, NativeNetwork, build_network
from posepipe.detection.native.tables import NetworkTable, PreprocessingTable
from posepipe.detection.native.trunk import as_batch, padded_shape
from posepipe.errors import WeightsError
from posepipe.networks.devices import precision_name
from posepipe.networks.precision import run_in_precision
from posepipe.networks.runtimes.base import Placement
from posepipe.zoo.recipe import Recipe
from posepipe.zoo.weights import StateDict, find_weights, fit_state, read_state

# What older files hold besides their weights; here it is worked out from the recipe.
NOT_WEIGHTS = (
    "pixel_mean",
    "pixel_std",
    "proposal_generator.anchor_generator.",
    "anchor_generator.",
)


class NativeDetector:
    """A `posepipe.detection.candidates.Detector` around a native detectron2 network.

    Attributes:
        network: in evaluation mode on its device.
        origin: what it consists of.
    """

    def __init__(
        self,
        network: NativeNetwork,
        *,
        origin: Origin,
        category_ids: Sequence[int],
        preprocessing: PreprocessingTable | None = None,
        min_score: float = 0.05,
        device: torch.device | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """Take over a network.

        Args:
            network: with its weights.
            origin: what it consists of.
            category_ids: the COCO category id of each class of the network.
            preprocessing: the model zoo's if None.
            min_score: boxes that do not score higher are not handed over.
            device: where it runs; the CPU if None.
            dtype: of convolutions and linear layers; box arithmetic stays in float32.
        """
        self.origin = origin
        self._preprocessing = preprocessing or PreprocessingTable()
        self._category_ids = np.array(category_ids, np.int64)
        self._min_score = min_score
        self._device = device or torch.device("cpu")
        run_in_precision(network.lower_precision_parts(), dtype)
        self.network = network.eval().requires_grad_(False).to(self._device)

    def prepare(self, image: npt.NDArray[np.uint8], *, scale: float = 1.0) -> DetectorInput:
        """The picture at the network's size: see `Detector.prepare`.

        Pillow's bilinear filter, which averages where a picture shrinks, as in detectron2.
        """
        height, width = image.shape[:2]
        size_wh = final_size_wh((width, height), self._preprocessing, scale)
        if size_wh != (width, height):
            filtered = Image.fromarray(image).resize(size_wh, Image.Resampling.BILINEAR)
            image = np.asarray(filtered)
        return DetectorInput(np.ascontiguousarray(image), (width, height))

    def __call__(self, batch: Sequence[DetectorInput]) -> list[Candidates]:
        """The candidates of each picture; pictures that pad to the same shape run together."""
        found: list[Candidates] = [Candidates.none()] * len(batch)
        multiple = self.network.multiple
        for group in by_shape([padded_shape(ready.pixels.shape, multiple) for ready in batch]):
            members = [batch[position] for position in group]
            for position, ready, boxes in zip(group, members, self._run(members), strict=True):
                found[position] = self._candidates(boxes, ready)
        return found

    def _run(self, batch: Sequence[DetectorInput]) -> list[Found]:
        with torch.inference_mode():
            images = as_batch([self._normalised(ready) for ready in batch], self.network.multiple)
            shapes_hw = [(ready.pixels.shape[0], ready.pixels.shape[1]) for ready in batch]
            found: list[Found] = self.network(images, shapes_hw, self._min_score)
        return found

    def _normalised(self, ready: DetectorInput) -> torch.Tensor:
        """(3, h, w) in the network's colour order."""
        bgr = self._preprocessing.colour_order == "bgr"
        pixels = ready.pixels[:, :, ::-1] if bgr else ready.pixels
        image = torch.from_numpy(pixels.transpose(2, 0, 1).copy()).to(self._device).float()
        mean, std = (
            image.new_tensor(channels)[:, None, None]
            for channels in (self._preprocessing.mean, self._preprocessing.std)
        )
        return (image - mean) / std

    def _candidates(self, found: Found, ready: DetectorInput) -> Candidates:
        """The network's boxes in the given picture's pixels; those without area are dropped."""
        boxes = ready.in_given_pixels(found.boxes_xyxy.cpu().numpy())
        if self.network.clips:
            boxes = clip(boxes, ready.size_wh)
        solid = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
        return Candidates(
            boxes[solid],
            found.scores.cpu().numpy()[solid],
            self._category_ids[found.classes.cpu().numpy()][solid],
        )


def load(
    recipe: Recipe,
    *,
    placement: Placement,
    weights: str | Path | None = None,
) -> NativeDetector:
    """The detector of a recipe with ``backend = "detectron2_native"``: see `Backend.load`.

    ``[detector]``, ``[network]``, ``[preprocessing]`` and ``[candidates]`` are read.
    """
    table = recipe.table("network", NetworkTable)
    _category_ids(recipe)  # refused before anything is fetched
    network = build_network(table)
    path, digest = find_weights(recipe, weights)
    fit_weights(network, table, read_state(path), path)
    origin = Origin(
        recipe.name,
        f"torchvision {torchvision.__version__}",
        digest,
        precision_name(placement.dtype),
    )
    return detector(network, recipe, origin=origin, device=placement.device, dtype=placement.dtype)


def build(recipe: Recipe) -> NativeNetwork:
    """The recipe's network with random weights: see `Backend.build`."""
    return build_network(recipe.table("network", NetworkTable))


def detector(
    network: NativeNetwork,
    recipe: Recipe,
    *,
    origin: Origin,
    device: torch.device,
    dtype: torch.dtype,
) -> NativeDetector:
    """A detector around a network of `build`: see `Backend.detector`."""
    return NativeDetector(
        network,
        origin=origin,
        category_ids=_category_ids(recipe),
        preprocessing=recipe.table("preprocessing", PreprocessingTable),
        min_score=recipe.table("candidates", CandidatesTable).min_score,
        device=device,
        dtype=dtype,
    )


def _category_ids(recipe: Recipe) -> tuple[int, ...]:
    classes = recipe.table("network", NetworkTable).classes
    return category_ids_of(
        recipe.table("detector", DetectorTable).category_ids, classes, recipe.name
    )


def fit_weights(
    network: NativeNetwork, table: NetworkTable, state: StateDict, source: Path
) -> None:
    """Put weights with detectron2's names into a network, in place.

    Raises:
        WeightsError: a key is missing, unknown or of another shape, or the head that the table says
            is not run is missing.
    """
    unused = unused_keys(table)
    if unused and not any(key.startswith(unused) for key in state):
        raise WeightsError(
            f"{source} is of another network: it has no {unused[0] + '…'!r}, the head of a "
            f"{table.unused_head.title()} R-CNN"
        )
    fit_state(network, state, source, ignored=(*NOT_WEIGHTS, *unused))


def unused_keys(table: NetworkTable) -> tuple[str, ...]:
    """Key prefixes of the head that is not run."""
    return (f"roi_heads.{table.unused_head}_head.",) if table.unused_head else ()


def final_size_wh(
    size_wh: tuple[int, int], preprocessing: PreprocessingTable, scale: float = 1.0
) -> tuple[int, int]:
    """Width and height at which the network looks at a picture, by detectron2's rule.

    The shorter side becomes `short_side`, or less where the longer one would exceed `long_side`;
    both times `scale`. Sizes are rounded to the nearest pixel and at least 1.

    >>> final_size_wh((640, 480), PreprocessingTable())
    (1067, 800)
    >>> final_size_wh((5000, 3), PreprocessingTable())
    (1333, 1)
    """
    short, long = preprocessing.short_side * scale, preprocessing.long_side * scale
    factor = short / min(size_wh)
    exact = [short if side == min(size_wh) else factor * side for side in size_wh]
    if max(exact) > long:
        factor = long / max(exact)
        exact = [side * factor for side in exact]
    width, height = (max(1, int(side + 0.5)) for side in exact)
    return width, height
