"""RefineNet: all pyramid levels, refined, enlarged and concatenated (CPN, section 3.2.2)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from posepipe.pose.networks.globalnet import HeatmapHead, Upsampling, upsample

Shortcut = Literal["identity", "projection"]
ConcatOrder = Literal["C2-C5", "C5-C2"]


class Bottleneck(nn.Module):
    """1x1 to half the width, 3x3, 1x1 back, plus a shortcut; as in ResNet.

    Args:
        in_channels: channels of the input.
        channels: channels of the output.
        shortcut: "identity" keeps the input where the widths allow it (tf-cpn); "projection"
            always sends it through a 1x1 convolution and batch normalisation (pytorch-cpn).
        middle_channels: channels of the two inner convolutions; half of `channels` by default.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        *,
        shortcut: Shortcut,
        middle_channels: int | None = None,
    ) -> None:
        super().__init__()
        middle = middle_channels or channels // 2
        self.conv1 = nn.Conv2d(in_channels, middle, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(middle)
        self.conv2 = nn.Conv2d(middle, middle, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(middle)
        self.conv3 = nn.Conv2d(middle, channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(channels)
        self.shortcut: nn.Module = nn.Identity()
        if shortcut == "projection" or in_channels != channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, channels, 1, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, features: Tensor) -> Tensor:
        """(B, channels, h, w) of (B, in_channels, h, w)."""
        return self._rest(self.conv1(features), self.shortcut(features))

    def forward_levels(
        self, levels: Sequence[Tensor], enlarge: Callable[[Tensor], Tensor]
    ) -> Tensor:
        """What `forward` gives for the levels, enlarged and concatenated.

        Both 1x1 convolutions of what is concatenated are sums of one for each level, and each of
        those has fewer cells to do before its level is enlarged.

        Args:
            levels: (B, C, h_i, w_i), in the order of the concatenation.
            enlarge: gives (B, C, h, w), bilinearly; a level of that size as it is.
        """
        if not isinstance(self.shortcut, nn.Sequential):
            return self.forward(torch.cat([enlarge(level) for level in levels], dim=1))
        projection, norm = self.shortcut
        return self._rest(
            _convolve_apart(self.conv1, levels, enlarge),
            norm(_convolve_apart(projection, levels, enlarge)),
        )

    def _rest(self, inner: Tensor, shortcut: Tensor) -> Tensor:
        """What follows the two convolutions of the input."""
        inner = F.relu(self.bn1(inner), inplace=True)
        inner = F.relu(self.bn2(self.conv2(inner)), inplace=True)
        return F.relu(self.bn3(self.conv3(inner)) + shortcut, inplace=True)


def _convolve_apart(
    convolution: nn.Module, levels: Sequence[Tensor], enlarge: Callable[[Tensor], Tensor]
) -> Tensor:
    """A 1x1 convolution of levels that would be enlarged and concatenated.

    Its bias is the first level's: enlarging moves no constant.
    """
    assert isinstance(convolution, nn.Conv2d)  # noqa: S101  # see the constructor
    weights = torch.split(convolution.weight, [level.shape[1] for level in levels], dim=1)
    biases = (convolution.bias, *(None for _ in levels[1:]))
    first, *others = (enlarge(F.conv2d(*one)) for one in zip(levels, weights, biases, strict=True))
    return sum(others, first)


class RefineNet(nn.Module):
    """Bottlenecks on every pyramid level, more of them on deeper ones, then one prediction.

    "We stack more bottleneck blocks into deeper layers, whose smaller spatial size achieves a good
    trade-off between effectiveness and efficiency" (section 3.2.2).

    Args:
        channels: channels of the pyramid.
        keypoints: K.
        bottlenecks: how many on C2, C3, C4, C5; the code bases: (0, 1, 2, 3).
        shortcut: see `Bottleneck`.
        concat_order: "C2-C5" (tf-cpn) or "C5-C2" (pytorch-cpn).
        upsampling: see `upsample`.

    Attributes:
        enlarges_last: see `enlarge_last`.
    """

    def __init__(
        self,
        *,
        channels: int,
        keypoints: int,
        bottlenecks: Sequence[int],
        shortcut: Shortcut,
        concat_order: ConcatOrder,
        upsampling: Upsampling,
    ) -> None:
        super().__init__()
        self.enlarges_last = False
        self.upsampling: Upsampling = upsampling
        self.concat_order: ConcatOrder = concat_order
        self.levels = nn.ModuleList(
            nn.Sequential(
                *(Bottleneck(channels, channels, shortcut=shortcut) for _ in range(count))
            )
            for count in bottlenecks
        )
        self.final = Bottleneck(len(bottlenecks) * channels, channels, shortcut=shortcut)
        self.head = HeatmapHead(channels, keypoints)

    def forward(self, pyramid: Sequence[Tensor]) -> Tensor:
        """Heatmaps (B, K, h, w) at P2's size of the pyramid P2…P5."""
        shape_hw = (pyramid[0].shape[-2], pyramid[0].shape[-1])
        enlarge = partial(upsample, shape_hw=shape_hw, upsampling=self.upsampling)
        refined = [level(features) for level, features in zip(self.levels, pyramid, strict=True)]
        if self.concat_order == "C5-C2":
            refined.reverse()
        if self.enlarges_last:
            features = self.final.forward_levels(refined, enlarge)
        else:
            enlarged = [enlarge(level, before_conv=True) for level in refined]
            features = self.final(torch.cat(enlarged, dim=1))
        heatmaps: Tensor = self.head(features)
        return heatmaps
