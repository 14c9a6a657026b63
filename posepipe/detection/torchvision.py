"""Faster and Mask R-CNN of torchvision, and our own networks built from its parts, as detectors.

All boxes of all classes before NMS are what torchvision gives with its public settings at an NMS
threshold of 1.0 and no limit per image; running NMS afterwards gives its own result. Its steps are
taken by `posepipe.detection.whole_batch`, in channels_last (14 % less time for our compact network
on a CPU, no difference for a ResNet-50).

One thing differs from torchvision's own preprocessing: images are resized as bytes (OpenCV, in
the preparing threads, same size rule, same bilinear weights, not antialiased), not as floats in
the network's call. So a pixel is rounded to a whole grey level: the two differ by at most 1 of 255.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
import torchvision
from msgspec import Meta
from torch import nn
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.ops import FrozenBatchNorm2d

from posepipe.detection.candidates import (
    MOST_COMPILED_SHAPES,
    Candidates,
    CandidatesTable,
    DetectorInput,
    DetectorTable,
    Origin,
    alike,
    padded_together,
)
from posepipe.detection.cascade import box_stages
from posepipe.detection.networks import NetworkTable, build_network
from posepipe.detection.whole_batch import boxes_of_all
from posepipe.networks.compiling import compiled
from posepipe.networks.devices import fetched, moved, precision_name, put
from posepipe.networks.folding import fold_batch_norms
from posepipe.networks.normalising import normalised
from posepipe.networks.precision import run_in_precision
from posepipe.networks.runtimes.base import Placement, starts_ahead
from posepipe.zoo.bounds import Deviation, Number
from posepipe.zoo.recipe import Recipe, Table
from posepipe.zoo.weights import find_weights, fit_state, read_state

Side = Annotated[int, Meta(ge=32, le=8192)]
Rgb = tuple[Number, Number, Number]
RgbDeviation = tuple[Deviation, Deviation, Deviation]

# Key prefixes that weights of networks with other heads have.
UNUSED_HEADS = ("roi_heads.mask_", "roi_heads.keypoint_")
_BLANK_SIDE = 128  # whole strides of all pyramids
_PADDED_TO = 32  # torchvision's default: the coarsest stride of its pyramids


class Preprocessing(Table, frozen=True):
    """The table ``[preprocessing]``: what the network expects; the defaults are torchvision's.

    Attributes:
        short_side: the image's shorter side in the network, in pixels, …
        long_side: … unless the longer one would exceed this.
        mean: RGB, subtracted from pixels in [0, 1].
        std: RGB, divides them then.
    """

    short_side: Side = 800
    long_side: Side = 1333
    mean: Rgb = (0.485, 0.456, 0.406)
    std: RgbDeviation = (0.229, 0.224, 0.225)


class TorchvisionDetector:
    """A `posepipe.detection.candidates.Detector` around a torchvision R-CNN.

    Attributes:
        network: the R-CNN, in evaluation mode on its device.
        origin: what it consists of.
    """

    def __init__(
        self,
        network: GeneralizedRCNN,
        *,
        origin: Origin,
        preprocessing: Preprocessing | None = None,
        min_score: float = 0.05,
        device: torch.device | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """Take over a network: it is changed in place to give candidates.

        Args:
            network: with its weights; mask and keypoint heads are cut off.
            origin: what it consists of.
            preprocessing: torchvision's own if None.
            min_score: boxes that do not score higher are not handed over.
            device: where it runs; the CPU if None.
            dtype: of convolutions and linear layers; box arithmetic stays in float32.
        """
        self.origin = origin
        self._preprocessing = preprocessing or Preprocessing()
        self._device = device or torch.device("cpu")
        heads: Any = network.roi_heads
        heads.score_thresh = min_score
        heads.mask_roi_pool = heads.mask_head = heads.mask_predictor = None
        heads.keypoint_roi_pool = heads.keypoint_head = heads.keypoint_predictor = None
        fold_batch_norms(network.eval())
        rpn: Any = network.rpn
        of_boxes = [
            part for stage in box_stages(heads) for part in (stage.box_head, stage.box_predictor)
        ]
        run_in_precision([network.backbone, rpn.head, *of_boxes], dtype)
        self.network = network.requires_grad_(False)
        put(self.network, self._device, entrance=network.backbone)

    def compile(self, batch_size: int) -> None:
        """See `posepipe.detection.candidates.Compilable`; backbone and pyramid, not the heads."""
        self.network.backbone = _Levels(self.network.backbone, batch_size, self.origin.model)
        self.origin = replace(self.origin, backend=f"{self.origin.backend}, compiled")

    def prepare(self, image: npt.NDArray[np.uint8], *, scale: float = 1.0) -> DetectorInput:
        """The image at the network's size: see `Detector.prepare`."""
        height, width = image.shape[:2]
        size_wh = final_size_wh((width, height), self._preprocessing, scale)
        if size_wh != (width, height):
            image = cv2.resize(image, size_wh, interpolation=cv2.INTER_LINEAR).astype(np.uint8)
        return DetectorInput(np.require(image, np.uint8, ["C", "W"]), (width, height))

    def __call__(self, batch: Sequence[DetectorInput]) -> list[Candidates]:
        """The candidates of each image; images that pad to the same shape run together."""
        return self.start(batch)()

    @property
    def ahead(self) -> int:
        """See `posepipe.detection.candidates.Starting`."""
        return starts_ahead(self.network, self._device)

    def start(
        self, batch: Sequence[DetectorInput], *, alone: bool = False
    ) -> Callable[[], list[Candidates]]:
        """See `posepipe.detection.candidates.Starting`; alone or not makes no difference."""
        groups = alike(batch, _padded_shape)
        with torch.inference_mode():
            arrived = fetched(*(self._boxes(of_group) for _, of_group in groups))

        def finish() -> list[Candidates]:
            found = [Candidates.none()] * len(batch)
            for (group, of_group), boxes in zip(groups, arrived(), strict=True):
                for number, (position, ready) in enumerate(zip(group, of_group, strict=True)):
                    mine = boxes[boxes[:, 0] == number]
                    mine = mine[np.argsort(-mine[:, 2], kind="stable")]
                    found[position] = Candidates(
                        ready.in_given_pixels(mine[:, 3:]), mine[:, 2], mine[:, 1].astype(np.int64)
                    )
            return found

        return finish

    def _boxes(self, batch: Sequence[DetectorInput]) -> torch.Tensor:
        """All boxes of images that pad to the same shape: see `boxes_of_all`."""
        sizes = np.array([ready.pixels.shape[1::-1] for ready in batch], np.float32)
        sizes_wh = moved(sizes, self._device)
        return boxes_of_all(self.network, self.network_input(batch, sizes_wh), sizes_wh)

    def network_input(self, batch: Sequence[DetectorInput], sizes_wh: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) normalised images that pad to the same shape, padded with the mean colour.

        Args:
            batch: the images.
            sizes_wh: (B, 2) width and height of each, on the detector's device.
        """
        height, width = _padded_shape(batch[0].pixels)
        pixels = padded_together(batch, (height, width), 0)
        table = self._preprocessing
        # In torchvision's order of arithmetic: its numbers to the last bit.
        images = normalised(moved(pixels, self._device).float().div_(255), table.mean, table.std)
        columns, rows = (torch.arange(side, device=self._device) for side in (width, height))
        beyond = (columns >= sizes_wh[:, :1])[:, None, None] | (rows >= sizes_wh[:, 1:])[
            :, None, :, None
        ]
        return images.masked_fill_(beyond, 0)


class _Levels(nn.Module):
    """A compiled pyramid, its levels by name again."""

    def __init__(self, pyramid: nn.Module, batch_size: int, model: str) -> None:
        super().__init__()
        blank = torch.zeros(
            1, 3, _BLANK_SIDE, _BLANK_SIDE, device=next(pyramid.parameters()).device
        )
        with torch.inference_mode():
            self._names = tuple(pyramid(blank))
        self.pyramid = compiled(pyramid, batch_size, model=model, shapes=MOST_COMPILED_SHAPES)

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        """The levels of (B, 3, H, W) images."""
        return dict(zip(self._names, self.pyramid(images), strict=True))


def load(
    recipe: Recipe,
    *,
    placement: Placement,
    weights: str | Path | None = None,
) -> TorchvisionDetector:
    """The detector of a recipe with ``backend = "torchvision"``: see `Backend.load`.

    ``[detector]``, ``[network]``, ``[preprocessing]`` and ``[candidates]`` are read.
    """
    network = build(recipe)
    path, digest = find_weights(recipe, weights)
    fit_state(network, read_state(path), path, ignored=UNUSED_HEADS)
    origin = Origin(
        recipe.name,
        f"torchvision {torchvision.__version__}",
        digest,
        precision_name(placement.dtype),
    )
    return detector(network, recipe, origin=origin, device=placement.device, dtype=placement.dtype)


def build(recipe: Recipe) -> GeneralizedRCNN:
    """The recipe's network with random weights: see `Backend.build`."""
    network = build_network(recipe.table("network", NetworkTable))
    set_batch_norm_eps(network, recipe.table("detector", DetectorTable).batch_norm_eps)
    return network


def detector(
    network: GeneralizedRCNN,
    recipe: Recipe,
    *,
    origin: Origin,
    device: torch.device,
    dtype: torch.dtype,
) -> TorchvisionDetector:
    """A detector around a network of `build`: see `Backend.detector`."""
    return TorchvisionDetector(
        network,
        origin=origin,
        preprocessing=recipe.table("preprocessing", Preprocessing),
        min_score=recipe.table("candidates", CandidatesTable).min_score,
        device=device,
        dtype=dtype,
    )


def set_batch_norm_eps(network: nn.Module, eps: float | None) -> None:
    """Change what all batch normalisations add to variances, in place; None leaves it."""
    if eps is not None:
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d | FrozenBatchNorm2d):
                module.eps = eps


def final_size_wh(
    size_wh: tuple[int, int], preprocessing: Preprocessing, scale: float = 1.0
) -> tuple[int, int]:
    """Width and height at which the network looks at an image, by torchvision's rule.

    The shorter side becomes `short_side`, or less where the longer one would exceed `long_side`;
    both times `scale`. Sizes are rounded down and at least 1.

    >>> final_size_wh((640, 427), Preprocessing())
    (1199, 800)
    >>> final_size_wh((2000, 500), Preprocessing())
    (1333, 333)
    """
    factor = scale * min(
        preprocessing.short_side / min(size_wh), preprocessing.long_side / max(size_wh)
    )
    width, height = (max(1, int(side * factor)) for side in size_wh)
    return width, height


def padded(side: int) -> int:
    """A side in pixels, rounded up to whole strides of the pyramid."""
    return -(-side // _PADDED_TO) * _PADDED_TO


def _padded_shape(pixels: npt.NDArray[np.uint8]) -> tuple[int, int]:
    return padded(pixels.shape[0]), padded(pixels.shape[1])
