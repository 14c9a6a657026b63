"""A ResNet that predicts heatmaps from its last features (the paper's table 3)."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from posepipe.networks.backbones.base import STRIDES
from posepipe.networks.backbones.build import build_backbone
from posepipe.pose.networks.base import PoseNetwork, PoseNetworkTable
from posepipe.pose.networks.globalnet import HeatmapHead, conv_bn_relu
from posepipe.pose.networks.outputs import TrainingHeatmaps
from posepipe.zoo.bounds import Channels

Dilated = Literal["none", "res5", "res4-5", "res3-5"]
DILATED_STAGES: dict[Dilated, int] = {"none": 0, "res5": 1, "res4-5": 2, "res3-5": 3}


class ResNetTable(PoseNetworkTable, frozen=True, kw_only=True):
    """The recipe's table ``[network]`` of a ResNet with heatmaps on its last features.

    Attributes:
        backbone: one of torchvision's ResNets; of its stages only those with bottlenecks dilate.
        dilated: the stages that keep their input's size and dilate their convolutions instead, so
            that heatmaps have stride 32, 16, 8 or 4.
        stride_in_1x1: see `build_backbone`.
        channels: channels between the last features and the heatmaps.
    """

    architecture: Literal["resnet"] = "resnet"
    backbone: str = "resnet50"
    dilated: Dilated = "none"
    stride_in_1x1: bool = False
    channels: Channels = 256

    @property
    def stride(self) -> int:
        """Crop pixels per heatmap cell.

        >>> ResNetTable(dilated="res4-5").stride
        8
        """
        return STRIDES[-1 - DILATED_STAGES[self.dilated]]


class DilatedResNet(PoseNetwork):
    """A ResNet, and on C5 a 1x1 convolution to `channels` and a 3x3 one to the heatmaps.

    The paper says nothing about what follows C5; this is GlobalNet's way from C5 to its heatmaps
    without the 1x1 convolution between the two, and has the paper's sizes and multiply-adds.

    Args:
        table: the structure.

    Raises:
        RecipeError, MissingDependencyError: see `build_backbone`.
    """

    def __init__(self, table: ResNetTable) -> None:
        super().__init__()
        self.stride = table.stride
        self.backbone = build_backbone(
            table.backbone,
            stride_in_1x1=table.stride_in_1x1,
            dilated_stages=DILATED_STAGES[table.dilated],
        )
        self.head = nn.Sequential(
            conv_bn_relu(self.backbone.channels[-1], table.channels, 1),
            HeatmapHead(table.channels, table.keypoints),
        )
        self.set_batch_norm(table)

    def forward(self, images: Tensor) -> Tensor:
        """Heatmaps (B, K, H/stride, W/stride)."""
        heatmaps: Tensor = self.head(self.backbone(images)[-1])
        return heatmaps

    def forward_all(self, images: Tensor) -> TrainingHeatmaps:
        """The only prediction there is."""
        return TrainingHeatmaps([], self(images))
