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

from posepipe.core.boxes import clip
from posepipe.detection.candidates import (
    Candidates,
    CandidatesTable,
    DetectorInput,
    DetectorTable,
    Origin,
    alike,
)
from posepipe.detection.categories import category_ids_of
from posepipe.detection.native.network import Found, NativeNetwork, build_network
from posepipe.errors import WeightsError
from posepipe.networks.devices import precision_name
from posepipe.networks.folding import fold_batch_norms
from posepipe.networks.native.images import as_batch, normalised, padded_shape, resized
from posepipe.networks.native.tables import NOT_WEIGHTS, NetworkTable, PreprocessingTable
from posepipe.networks.precision import run_in_precision
from posepipe.networks.runtimes.base import Placement
from posepipe.zoo.recipe import Recipe
from posepipe.zoo.weights import StateDict, find_weights, fit_state, read_state


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
        fold_batch_norms(network.eval())
        run_in_precision(network.lower_precision_parts(), dtype)
        self.network = network.requires_grad_(False).to(self._device)

    def prepare(self, image: npt.NDArray[np.uint8], *, scale: float = 1.0) -> DetectorInput:
        """The image at the network's size: see `Detector.prepare`."""
        height, width = image.shape[:2]
        return DetectorInput(resized(image, self._preprocessing, scale), (width, height))

    def __call__(self, batch: Sequence[DetectorInput]) -> list[Candidates]:
        """The candidates of each image; images that pad to the same shape run together."""
        found: list[Candidates] = [Candidates.none()] * len(batch)
        multiple = self.network.multiple
        for group, members in alike(batch, lambda pixels: padded_shape(pixels.shape, multiple)):
            for position, ready, boxes in zip(group, members, self._run(members), strict=True):
                found[position] = self._candidates(boxes, ready)
        return found

    def _run(self, batch: Sequence[DetectorInput]) -> list[Found]:
        with torch.inference_mode():
            inputs = [normalised(r.pixels, self._preprocessing, self._device) for r in batch]
            images = as_batch(inputs, self.network.multiple)
            shapes_hw = [(ready.pixels.shape[0], ready.pixels.shape[1]) for ready in batch]
            found: list[Found] = self.network(images, shapes_hw, self._min_score)
        return found

    def _candidates(self, found: Found, ready: DetectorInput) -> Candidates:
        """The network's boxes in the given image's pixels; those without area are dropped."""
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
