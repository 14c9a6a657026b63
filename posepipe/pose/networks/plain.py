"""A backbone that is made for heatmaps, and one convolution that makes them (Lite-HRNet)."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from posepipe.networks.backbones.build import build_backbone
from posepipe.pose.networks.base import PoseNetwork, PoseNetworkTable
from posepipe.pose.networks.outputs import TrainingHeatmaps


class PlainTable(PoseNetworkTable, frozen=True, kw_only=True):
    """The recipe's table ``[network]`` of heatmaps straight from a backbone.

    Attributes:
        backbone: a backbone's name; see `build_backbone`.
    """

    architecture: Literal["plain"] = "plain"
    backbone: str = "lite_hrnet_wider_naive_18"


class PlainHeatmaps(PoseNetwork):
    """A 1x1 convolution from a backbone's features of stride 4 to K heatmaps.

    For backbones whose features of stride 4 have seen all the others, as HRNets' have; Lite-HRNet
    and PP-TinyPose are of this kind.

    Args:
        table: the structure.

    Raises:
        RecipeError, WeightsError, MissingDependencyError: see `build_backbone`.
    """

    def __init__(self, table: PlainTable) -> None:
        super().__init__()
        self.backbone = build_backbone(table.backbone)
        self.head = nn.Conv2d(self.backbone.channels[0], table.keypoints, 1)
        self.set_batch_norm(table)

    def forward(self, images: Tensor) -> Tensor:
        """Heatmaps (B, K, H/4, W/4)."""
        heatmaps: Tensor = self.head(self.backbone(images)[0])
        return heatmaps

    def forward_all(self, images: Tensor) -> TrainingHeatmaps:
        """The only prediction there is."""
        return TrainingHeatmaps([], self(images))
