"""The Cascaded Pyramid Network: a backbone, GlobalNet and RefineNet (CPN, section 3.2)."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta
from torch import Tensor

from posepipe.networks.backbones.build import build_backbone
from posepipe.pose.networks.base import PoseNetwork, PoseNetworkTable
from posepipe.pose.networks.globalnet import GlobalNet, Merge, Upsampling
from posepipe.pose.networks.outputs import TrainingHeatmaps
from posepipe.pose.networks.refinenet import ConcatOrder, RefineNet, Shortcut
from posepipe.zoo.bounds import Channels, Whole

LEVELS = 4


class PyramidTable(PoseNetworkTable, frozen=True, kw_only=True):
    """What CPN and GlobalNet alone have in common.

    The defaults are the structure of pytorch-cpn, whose choices today's frameworks make natively,
    but for upsampling with corresponding pixel centres.

    Attributes:
        backbone: a backbone's name in torchvision or timm.
        stride_in_1x1: see `build_backbone`.
        channels: channels of the pyramid.
        merge, upsampling: where the two public code bases differ; see `GlobalNet` and `upsample`.
    """

    backbone: str
    stride_in_1x1: bool = False
    channels: Channels = 256
    merge: Merge = "batch_norm"
    upsampling: Upsampling = "half_pixel"


class GlobalNetTable(PyramidTable, frozen=True, kw_only=True):
    """The recipe's table ``[network]`` of a GlobalNet without a RefineNet."""

    architecture: Literal["globalnet"] = "globalnet"


class CPNTable(PyramidTable, frozen=True, kw_only=True):
    """The recipe's table ``[network]`` of a CPN.

    Attributes:
        refine_bottlenecks: bottlenecks of RefineNet on C2, C3, C4, C5. With fewer numbers it uses
            fewer levels (the paper's table 5); with zeros it only concatenates (table 4).
        shortcut, concat_order: where the two public code bases differ; see `Bottleneck` and
            `RefineNet`.
    """

    architecture: Literal["cpn"] = "cpn"
    refine_bottlenecks: Annotated[tuple[Whole, ...], Meta(max_length=LEVELS)] = (0, 1, 2, 3)
    shortcut: Shortcut = "projection"
    concat_order: ConcatOrder = "C5-C2"

    def __post_init__(self) -> None:
        if not 1 <= len(self.refine_bottlenecks) <= LEVELS or min(self.refine_bottlenecks) < 0:
            raise ValueError(
                "refine_bottlenecks takes one to four numbers, for C2 to C5, none below 0; got "
                f"{list(self.refine_bottlenecks)}"
            )


class GlobalNetOnly(PoseNetwork):
    """A backbone and GlobalNet; the final heatmaps are those of P2 (the paper's "GlobalNet only").

    Its weights are a part of a CPN's, by the same names.

    Args:
        table: the structure.

    Raises:
        RecipeError, MissingDependencyError: see `build_backbone`.
    """

    def __init__(self, table: GlobalNetTable) -> None:
        super().__init__()
        self.backbone = build_backbone(table.backbone, stride_in_1x1=table.stride_in_1x1)
        self.globalnet = _globalnet(table, self.backbone.channels)
        self.set_batch_norm(table)

    def forward(self, images: Tensor) -> Tensor:
        """P2's heatmaps (B, K, H/4, W/4); the other levels' are not even computed."""
        pyramid = self.globalnet(self.backbone(images))
        return self.globalnet.heatmaps(pyramid[:1])[0]

    def forward_all(self, images: Tensor) -> TrainingHeatmaps:
        """The heatmaps of every level, none refined."""
        pyramid = self.globalnet(self.backbone(images))
        return TrainingHeatmaps(self.globalnet.heatmaps(pyramid), None)


class CPN(PoseNetwork):
    """A CPN: crops (B, 3, H, W) in, heatmaps (B, K, H/4, W/4) out.

    Args:
        table: the structure.

    Raises:
        RecipeError, MissingDependencyError: see `build_backbone`.
    """

    def __init__(self, table: CPNTable) -> None:
        super().__init__()
        self.backbone = build_backbone(table.backbone, stride_in_1x1=table.stride_in_1x1)
        self.globalnet = _globalnet(table, self.backbone.channels)
        self.refinenet = RefineNet(
            channels=table.channels,
            keypoints=table.keypoints,
            bottlenecks=table.refine_bottlenecks,
            shortcut=table.shortcut,
            concat_order=table.concat_order,
            upsampling=table.upsampling,
        )
        self.set_batch_norm(table)

    def forward(self, images: Tensor) -> Tensor:
        """RefineNet's heatmaps (B, K, H/4, W/4), all that test time needs."""
        return self._refined(self.globalnet(self.backbone(images)))

    def forward_all(self, images: Tensor) -> TrainingHeatmaps:
        """GlobalNet's and RefineNet's heatmaps, as training needs them."""
        pyramid = self.globalnet(self.backbone(images))
        return TrainingHeatmaps(self.globalnet.heatmaps(pyramid), self._refined(pyramid))

    def _refined(self, pyramid: list[Tensor]) -> Tensor:
        heatmaps: Tensor = self.refinenet(pyramid[: len(self.refinenet.levels)])
        return heatmaps


def _globalnet(table: PyramidTable, in_channels: tuple[int, ...]) -> GlobalNet:
    return GlobalNet(
        in_channels,
        channels=table.channels,
        keypoints=table.keypoints,
        merge=table.merge,
        upsampling=table.upsampling,
    )
