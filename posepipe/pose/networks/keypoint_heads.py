"""Keypoint R-CNNs from an image and boxes to heatmaps: torchvision's, and detectron2's."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.detection import keypointrcnn_resnet50_fpn
from torchvision.ops import FrozenBatchNorm2d

from posepipe.networks.native.backbone import LastLevel, Pyramid
from posepipe.networks.native.images import as_batch, normalised, resized
from posepipe.networks.native.rois import pool_rois
from posepipe.networks.native.tables import NOT_WEIGHTS, PreprocessingTable
from posepipe.pose.networks.keypoint_rcnn import KeypointRCNNTable, NativeKeypointRCNNTable

_POOLED_STRIDES = (4, 8, 16, 32)
_CONVOLUTIONS = 8
_MULTIPLE = 32


class Seen(NamedTuple):
    """What the backbone makes of an image.

    Attributes:
        levels: features, whatever the network's own head takes.
        shape_hw: height and width of the image in the network, without padding.
    """

    levels: Any
    shape_hw: tuple[int, int]


class KeypointNetwork(ABC):
    """A Keypoint R-CNN whose keypoint head is run in given boxes.

    Attributes:
        network: the module that has the weights.
        origin: where the network's own keypoints have the first pixel's centre: (0, 0) or
            (0.5, 0.5).
        not_used: key prefixes that its weights files may have besides.
    """

    network: nn.Module
    origin: float = 0.0
    not_used: tuple[str, ...] = ()

    @abstractmethod
    def lower_precision_parts(self) -> list[nn.Module]:
        """The modules that gain from a lower precision."""

    @abstractmethod
    def see(self, pixels: npt.NDArray[np.uint8], device: torch.device) -> Seen:
        """The features of an (H, W, 3) RGB image."""

    @abstractmethod
    def logits(self, seen: Seen, rois: Tensor) -> Tensor:
        """(N, K, 56, 56) heatmaps in (N, 4) boxes, in pixels of the network's input."""


class TorchvisionKeypoints(KeypointNetwork):
    """torchvision's Keypoint R-CNN, with its own preprocessing.

    Its training and its results take COCO's whole numbers as they are: a keypoint at the first
    pixel's centre is at 0.
    """

    def __init__(self, network: Any) -> None:
        """Take over torchvision's network."""
        self.network = network
        self._parts: Any = network
        self._heads = network.roi_heads

    def lower_precision_parts(self) -> list[nn.Module]:
        """See `KeypointNetwork.lower_precision_parts`."""
        parts = (self._parts.backbone, self._heads.keypoint_head, self._heads.keypoint_predictor)
        return [part for part in parts if isinstance(part, nn.Module)]

    def see(self, pixels: npt.NDArray[np.uint8], device: torch.device) -> Seen:
        """See `KeypointNetwork.see`."""
        image = torch.from_numpy(pixels.copy()).to(device).permute(2, 0, 1).float().div(255)
        images, _ = self._parts.transform([image])
        return Seen(self._parts.backbone(images.tensors), images.image_sizes[0])

    def logits(self, seen: Seen, rois: Tensor) -> Tensor:
        """See `KeypointNetwork.logits`."""
        heads = self._heads
        pooled = heads.keypoint_roi_pool(seen.levels, [rois], [seen.shape_hw])
        found: Tensor = heads.keypoint_predictor(heads.keypoint_head(pooled))
        return found


class KeypointHead(nn.Module):
    """Eight convolutions and two doublings on RoIs of 14x14 cells (He et al. 2017, section 5)."""

    def __init__(self, inputs: int, channels: int, keypoints: int) -> None:
        super().__init__()
        for number in range(1, _CONVOLUTIONS + 1):
            convolution = nn.Conv2d(inputs if number == 1 else channels, channels, 3, padding=1)
            self.add_module(f"conv_fcn{number}", convolution)
        self.score_lowres = nn.ConvTranspose2d(channels, keypoints, 4, stride=2, padding=1)

    def forward(self, pooled: Tensor) -> Tensor:
        """(N, K, 56, 56) heatmaps of (N, C, 14, 14) features."""
        for number in range(1, _CONVOLUTIONS + 1):
            pooled = F.relu(self.get_submodule(f"conv_fcn{number}")(pooled))
        low = self.score_lowres(pooled)
        return F.interpolate(low, scale_factor=2, mode="bilinear", align_corners=False)


class NativeKeypointRCNN(nn.Module):
    """Backbone and keypoint head of detectron2's Keypoint R-CNN, with its names of weights."""

    def __init__(self, table: NativeKeypointRCNNTable, keypoints: int) -> None:
        super().__init__()
        self.backbone = Pyramid(table, finest=2, top_block=LastLevel())
        head = KeypointHead(table.channels, table.keypoint_channels, keypoints)
        self.roi_heads = nn.ModuleDict({"keypoint_head": head})


class NativeKeypoints(KeypointNetwork):
    """detectron2's Keypoint R-CNN, without detectron2.

    It adds half a pixel to COCO's whole numbers before training, and takes it off before scoring.
    """

    origin = 0.5
    not_used = (
        *NOT_WEIGHTS,
        "proposal_generator.",
        "roi_heads.box_head.",
        "roi_heads.box_predictor.",
    )

    def __init__(self, network: NativeKeypointRCNN, preprocessing: PreprocessingTable) -> None:
        """Take over a network."""
        self.network: NativeKeypointRCNN = network
        self._preprocessing = preprocessing
        self._head = network.roi_heads["keypoint_head"]

    def lower_precision_parts(self) -> list[nn.Module]:
        """See `KeypointNetwork.lower_precision_parts`."""
        return [self.network.backbone, self._head]

    def see(self, pixels: npt.NDArray[np.uint8], device: torch.device) -> Seen:
        """See `KeypointNetwork.see`."""
        small = resized(pixels, self._preprocessing)
        images = as_batch([normalised(small, self._preprocessing, device)], _MULTIPLE)
        return Seen(self.network.backbone(images), (small.shape[0], small.shape[1]))

    def logits(self, seen: Seen, rois: Tensor) -> Tensor:
        """See `KeypointNetwork.logits`."""
        finest = seen.levels[: len(_POOLED_STRIDES)]
        found: Tensor = self._head(pool_rois(finest, [rois], _POOLED_STRIDES, side=14))
        return found


def build_torchvision(table: KeypointRCNNTable, keypoints: int) -> TorchvisionKeypoints:
    """Torchvision's network with random weights."""
    network = keypointrcnn_resnet50_fpn(
        weights=None, weights_backbone=None, num_classes=2, num_keypoints=keypoints
    )
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d | FrozenBatchNorm2d):
            module.eps = table.batch_norm_eps
    return TorchvisionKeypoints(network)


def build_native(
    table: NativeKeypointRCNNTable, preprocessing: PreprocessingTable, keypoints: int
) -> NativeKeypoints:
    """detectron2's network with random weights."""
    return NativeKeypoints(NativeKeypointRCNN(table, keypoints), preprocessing)
