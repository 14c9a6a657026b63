"""What all pose networks have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn

from posepipe.pose.networks.outputs import TrainingHeatmaps
from posepipe.zoo.bounds import Count, Epsilon, Share
from posepipe.zoo.recipe import Table


class PoseNetworkTable(Table, frozen=True):
    """What every architecture's table ``[network]`` has.

    Attributes:
        keypoints: K, the skeleton's; recipes leave it out.
        batch_norm_eps, batch_norm_momentum: of every batch normalisation, the backbone's too.
    """

    keypoints: Count = 17
    batch_norm_eps: Epsilon = 1e-5
    batch_norm_momentum: Share = 0.1


class PoseNetwork(nn.Module, ABC):
    """Crops (B, 3, H, W) in, heatmaps (B, K, H/stride, W/stride) out.

    Those built on a backbone have it as `backbone`.

    Attributes:
        stride: crop pixels per heatmap cell.
    """

    stride: int = 4

    @abstractmethod
    def forward(self, images: Tensor) -> Tensor:
        """The final heatmaps, all that test time needs."""

    @abstractmethod
    def forward_all(self, images: Tensor) -> TrainingHeatmaps:
        """All heatmaps for which training has a loss."""

    def set_batch_norm(self, table: PoseNetworkTable) -> None:
        """Give every batch normalisation what the recipe says; last in every constructor."""
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eps = table.batch_norm_eps
                module.momentum = table.batch_norm_momentum
