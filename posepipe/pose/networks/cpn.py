"""The Cascaded Pyramid Network: a trunk, GlobalNet and RefineNet (CPN, section 3.2)."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from torch import Tensor, nn

from posepipe.pose.networks.backbone import build_backbone
from posepipe.pose.networks.globalnet import GlobalNet, Merge, Upsampling
from posepipe.pose.networks.refinenet import ConcatOrder, RefineNet, Shortcut
from posepipe.recipe import Table


class CPNTable(Table, frozen=True):
    """The recipe's table ``[network]``.

    The defaults are the structure of pytorch-cpn, whose choices today's frameworks make natively,
    but for upsampling with corresponding pixel centres.

    Attributes:
        backbone: a trunk's name in torchvision or timm.
        channels: channels of the pyramid.
        keypoints: K.
        refine_bottlenecks: bottlenecks of RefineNet on C2, C3, C4, C5.
        shortcut, merge, upsampling, concat_order: where the two public code bases differ; see
            `Bottleneck`, `GlobalNet`, `upsample` and `RefineNet`.
        batch_norm_eps, batch_norm_momentum: of every batch normalisation, the trunk's too.
    """

    backbone: str
    channels: int = 256
    keypoints: int = 17
    refine_bottlenecks: tuple[int, int, int, int] = (0, 1, 2, 3)
    shortcut: Shortcut = "projection"
    merge: Merge = "batch_norm"
    upsampling: Upsampling = "half_pixel"
    concat_order: ConcatOrder = "C5-C2"
    batch_norm_eps: float = 1e-5
    batch_norm_momentum: float = 0.1


class CPNHeatmaps(NamedTuple):
    """What a CPN predicts in training.

    Attributes:
        levels: GlobalNet's heatmaps from C2, C3, C4, C5, (B, K, h, w) each, all of stride 4.
        refined: RefineNet's heatmaps (B, K, h, w).
    """

    levels: list[Tensor]
    refined: Tensor


class CPN(nn.Module):
    """A CPN: crops (B, 3, H, W) in, heatmaps (B, K, H/4, W/4) out.

    Args:
        table: the structure.
        imagenet_weights: safetensors file of the trunk's classifier, or None for random weights.

    Raises:
        RecipeError, WeightsError, MissingDependencyError: see `build_backbone`.
    """

    def __init__(self, table: CPNTable, *, imagenet_weights: Path | None = None) -> None:
        super().__init__()
        self.backbone = build_backbone(table.backbone, imagenet_weights)
        self.globalnet = GlobalNet(
            self.backbone.channels,
            channels=table.channels,
            keypoints=table.keypoints,
            merge=table.merge,
            upsampling=table.upsampling,
        )
        self.refinenet = RefineNet(
            channels=table.channels,
            keypoints=table.keypoints,
            bottlenecks=table.refine_bottlenecks,
            shortcut=table.shortcut,
            concat_order=table.concat_order,
            upsampling=table.upsampling,
        )
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eps = table.batch_norm_eps
                module.momentum = table.batch_norm_momentum

    def forward(self, images: Tensor) -> Tensor:
        """RefineNet's heatmaps (B, K, H/4, W/4), all that test time needs."""
        heatmaps: Tensor = self.refinenet(self.globalnet(self.backbone(images)))
        return heatmaps

    def forward_all(self, images: Tensor) -> CPNHeatmaps:
        """GlobalNet's and RefineNet's heatmaps, as training needs them."""
        pyramid = self.globalnet(self.backbone(images))
        return CPNHeatmaps(self.globalnet.heatmaps(pyramid), self.refinenet(pyramid))
