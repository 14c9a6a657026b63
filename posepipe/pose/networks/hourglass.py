"""Stacked hourglasses (Newell et al. 2016), which the paper compares with in its tables 3 and 8."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta
from torch import Tensor, nn
from torch.nn import functional as F

from posepipe.pose.networks.base import PoseNetwork, PoseNetworkTable
from posepipe.pose.networks.globalnet import conv_bn_relu
from posepipe.pose.networks.outputs import TrainingHeatmaps
from posepipe.zoo.bounds import Large, Whole


class HourglassTable(PoseNetworkTable, frozen=True, kw_only=True):
    """The recipe's table ``[network]`` of a stacked hourglass.

    Attributes:
        stages: how many hourglasses follow one another.
        channels: features of each (Newell et al.: 256); a multiple of 4.
        depth: how often each halves its input (Newell et al.: 4).
        bottom: residual blocks at its lowest resolution. Newell et al. have 3; with 2 the sizes are
            those of the paper's table 3.
    """

    architecture: Literal["hourglass"] = "hourglass"
    stages: Whole = 8
    channels: Large = 256
    depth: Annotated[int, Meta(ge=-8, le=8)] = 4
    bottom: Whole = 2

    def __post_init__(self) -> None:
        for name in ("stages", "channels", "depth", "bottom"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.channels % 4:
            raise ValueError(f"channels must be a multiple of 4, got {self.channels}")


class Residual(nn.Module):
    """Newell et al.'s block: 1x1 to half the width, 3x3, 1x1 back, normalised before each; a sum.

    Args:
        in_channels: channels of the input.
        channels: channels of the output.
    """

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        middle = channels // 2
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, middle, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(middle)
        self.conv2 = nn.Conv2d(middle, middle, 3, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(middle)
        self.conv3 = nn.Conv2d(middle, channels, 1)
        self.shortcut: nn.Module = nn.Identity()
        if in_channels != channels:
            self.shortcut = nn.Conv2d(in_channels, channels, 1)

    def forward(self, features: Tensor) -> Tensor:
        """(B, channels, h, w) of (B, in_channels, h, w)."""
        # The input is needed again by the shortcut, so its ReLU is not in place.
        inner = self.conv1(F.relu(self.bn1(features)))
        inner = self.conv2(F.relu(self.bn2(inner), inplace=True))
        inner = self.conv3(F.relu(self.bn3(inner), inplace=True))
        total: Tensor = inner + self.shortcut(features)
        return total


class Hourglass(nn.Module):
    """Down to 1 / 2^depth of the size and up again, with a way past at every resolution.

    Args:
        channels: features.
        depth: how often the input is halved.
        bottom: blocks at the lowest resolution, the one that leads down to it included.
    """

    def __init__(self, channels: int, depth: int, bottom: int) -> None:
        super().__init__()
        self.past = Residual(channels, channels)
        if depth > 1:
            self.inner = nn.Sequential(
                Residual(channels, channels),
                Hourglass(channels, depth - 1, bottom),
                Residual(channels, channels),
            )
        else:
            self.inner = nn.Sequential(*(Residual(channels, channels) for _ in range(bottom)))

    def forward(self, features: Tensor) -> Tensor:
        """(B, channels, h, w) of the same; odd sizes are rounded up on the way down."""
        inner = self.inner(F.max_pool2d(features, 2, ceil_mode=True))
        # Each cell becomes 2 x 2; of the last ones half is cut off where the size was odd.
        enlarged = F.interpolate(inner, scale_factor=2.0, mode="nearest")
        height, width = features.shape[-2:]
        total: Tensor = self.past(features) + enlarged[..., :height, :width]
        return total


class StackedHourglass(PoseNetwork):
    """Hourglasses one after the other; each predicts, and all but the last hand their result on.

    A stage's input, its features and its heatmaps, the latter two through 1x1 convolutions, add up
    to the next stage's input. In training every stage's prediction has a loss (Newell et al.,
    section 3.3, "intermediate supervision").

    Args:
        table: the structure.
    """

    def __init__(self, table: HourglassTable) -> None:
        super().__init__()
        channels, keypoints, count = table.channels, table.keypoints, table.stages
        self.stem = nn.Sequential(
            nn.Conv2d(3, channels // 4, 7, stride=2, padding=3, bias=False),
            nn.BatchNorm2d(channels // 4),
            nn.ReLU(inplace=True),
            Residual(channels // 4, channels // 2),
            nn.MaxPool2d(2),
            Residual(channels // 2, channels // 2),
            Residual(channels // 2, channels),
        )
        self.stages = nn.ModuleList(
            nn.Sequential(
                Hourglass(channels, table.depth, table.bottom),
                Residual(channels, channels),
                conv_bn_relu(channels, channels, 1),
            )
            for _ in range(count)
        )
        self.heads = nn.ModuleList(nn.Conv2d(channels, keypoints, 1) for _ in range(count))
        self.features_back = nn.ModuleList(
            nn.Conv2d(channels, channels, 1) for _ in range(count - 1)
        )
        self.heatmaps_back = nn.ModuleList(
            nn.Conv2d(keypoints, channels, 1) for _ in range(count - 1)
        )
        self.set_batch_norm(table)

    def forward(self, images: Tensor) -> Tensor:
        """The last stage's heatmaps (B, K, H/4, W/4)."""
        return self._predictions(images)[-1]

    def forward_all(self, images: Tensor) -> TrainingHeatmaps:
        """The heatmaps of every stage, those of the last one as `refined`."""
        predictions = self._predictions(images)
        return TrainingHeatmaps(predictions[:-1], predictions[-1])

    def _predictions(self, images: Tensor) -> list[Tensor]:
        features, predictions = self.stem(images), []
        for i, (stage, head) in enumerate(zip(self.stages, self.heads, strict=True)):
            found = stage(features)
            predictions.append(head(found))
            if i < len(self.features_back):
                back = self.features_back[i](found) + self.heatmaps_back[i](predictions[-1])
                features = features + back
        return predictions
