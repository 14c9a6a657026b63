"""CSPNeXt and PAFPN: the backbone and the two-way pyramid of RTMDet.

Lyu et al., "RTMDet: An Empirical Study of Designing Real-Time Object Detectors" (2022), section
3.2; the pyramid is PANet's (Liu et al. 2018) made of the backbone's blocks. Numbers of blocks and
channels, which the paper gives relative to its largest network, are those of its published models.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from posepipe.networks.backbones.base import Backbone

# Of the largest network: channels after each stage, and blocks in it.
_CHANNELS = (128, 256, 512, 1024)
_BLOCKS = (3, 6, 6, 3)
_POOLINGS = (5, 9, 13)


class ConvUnit(nn.Sequential):
    """Convolution, batch normalisation and SiLU; the size halves with stride 2, else it stays.

    Args:
        inputs: channels.
        outputs: channels.
        kernel: odd.
        stride: 1 or 2.
        groups: of the convolution.
        norm: without it the convolution has a bias in its place: the two folded into one.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int = 1,
        *,
        stride: int = 1,
        groups: int = 1,
        norm: bool = True,
    ) -> None:
        parts: OrderedDict[str, nn.Module] = OrderedDict()
        parts["conv"] = nn.Conv2d(
            inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=not norm
        )
        if norm:
            parts["norm"] = nn.BatchNorm2d(outputs)
        parts["activation"] = nn.SiLU(inplace=True)
        super().__init__(parts)


class SeparableUnit(nn.Sequential):
    """A convolution of each channel by itself, and a 1x1 one over all: two `ConvUnit`."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, *, stride: int = 1, norm: bool = True
    ) -> None:
        super().__init__(
            OrderedDict(
                depthwise=ConvUnit(inputs, inputs, kernel, stride=stride, groups=inputs, norm=norm),
                pointwise=ConvUnit(inputs, outputs, norm=norm),
            )
        )


class Block(nn.Module):
    """CSPNeXt's block: 3x3, then a large 5x5 kernel, both channel by channel."""

    def __init__(self, channels: int, *, shortcut: bool, norm: bool) -> None:
        super().__init__()
        self.conv1 = SeparableUnit(channels, channels, 3, norm=norm)
        self.conv2 = SeparableUnit(channels, channels, 5, norm=norm)
        self.shortcut = shortcut

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, H, W) to the same."""
        out: Tensor = self.conv2(self.conv1(features))
        return out + features if self.shortcut else out


class ChannelAttention(nn.Module):
    """Weights channels by what is in the whole image."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc = nn.Conv2d(channels, channels, 1)

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, H, W) to the same."""
        return features * F.hardsigmoid(self.fc(features.mean(dim=(2, 3), keepdim=True)))


class CSPLayer(nn.Module):
    """Half of the channels go through blocks, the other half around them (CSPNet)."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        blocks: int,
        *,
        shortcut: bool,
        attention: bool,
        norm: bool,
    ) -> None:
        super().__init__()
        half = outputs // 2
        self.main = ConvUnit(inputs, half, norm=norm)
        self.short = ConvUnit(inputs, half, norm=norm)
        self.blocks = nn.Sequential(
            *(Block(half, shortcut=shortcut, norm=norm) for _ in range(blocks))
        )
        self.attention = ChannelAttention(outputs) if attention else nn.Identity()
        self.final = ConvUnit(outputs, outputs, norm=norm)

    def forward(self, features: Tensor) -> Tensor:
        """(B, inputs, H, W) to (B, outputs, H, W)."""
        both = torch.cat([self.blocks(self.main(features)), self.short(features)], dim=1)
        out: Tensor = self.final(self.attention(both))
        return out


class SpatialPyramidPooling(nn.Module):
    """The largest of neighbourhoods of several sizes beside the features themselves."""

    def __init__(self, channels: int, *, norm: bool) -> None:
        super().__init__()
        half = channels // 2
        self.reduce = ConvUnit(channels, half, norm=norm)
        self.merge = ConvUnit(half * (1 + len(_POOLINGS)), channels, norm=norm)

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, H, W) to the same."""
        features = self.reduce(features)
        pooled = [F.max_pool2d(features, size, 1, size // 2) for size in _POOLINGS]
        out: Tensor = self.merge(torch.cat([features, *pooled], dim=1))
        return out


class CSPNeXt(Backbone):
    """The backbone of the smallest RTMDets, whose blocks are channel by channel throughout.

    Attributes:
        stages: four, up to strides 4, 8, 16 and 32; a stem of three convolutions is in the first.
        channels: after each of them.
    """

    def __init__(self, *, width: float = 0.25, depth: float = 0.33, norm: bool = True) -> None:
        """Random weights.

        Args:
            width: channels relative to the largest network.
            depth: blocks relative to the largest network.
            norm: see `ConvUnit`.
        """
        super().__init__()
        stem = int(64 * width)
        stages: list[nn.Sequential] = []
        before, self.channels = stem, tuple(int(channels * width) for channels in _CHANNELS)
        for channels, blocks in zip(self.channels, _BLOCKS, strict=True):
            parts: list[nn.Module] = [SeparableUnit(before, channels, 3, stride=2, norm=norm)]
            if not stages:
                parts = [
                    ConvUnit(3, stem // 2, 3, stride=2, norm=norm),
                    ConvUnit(stem // 2, stem // 2, 3, norm=norm),
                    ConvUnit(stem // 2, stem, 3, norm=norm),
                    *parts,
                ]
            last = len(stages) == len(_CHANNELS) - 1
            if last:
                parts.append(SpatialPyramidPooling(channels, norm=norm))
            number = max(1, round(blocks * depth))
            parts.append(
                CSPLayer(channels, channels, number, shortcut=not last, attention=True, norm=norm)
            )
            stages.append(nn.Sequential(*parts))
            before = channels
        self.stages = nn.ModuleList(stages)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Features of (B, 3, H, W) images: four tensors (B, C, H/stride, W/stride)."""
        features: list[Tensor] = []
        for stage in self.stages:
            images = stage(images)
            features.append(images)
        return features


class PAFPN(nn.Module):
    """A pyramid down from the coarsest level, and up again from the finest.

    Attributes:
        channels: of every level that comes out.
    """

    def __init__(
        self, inputs: Sequence[int], channels: int, *, depth: float = 0.33, norm: bool = True
    ) -> None:
        """Random weights.

        Args:
            inputs: channels of the levels that go in, each half as large as the one before.
            channels: of the levels that come out.
            depth: blocks relative to the largest network's three.
            norm: see `ConvUnit`.
        """
        super().__init__()
        self.channels = channels
        blocks = max(1, round(3 * depth))

        def layer(before: int, after: int) -> CSPLayer:
            return CSPLayer(before, after, blocks, shortcut=False, attention=False, norm=norm)

        pairs = list(zip(inputs, inputs[1:], strict=False))  # finer and coarser neighbours
        self.reduce = nn.ModuleList(
            ConvUnit(coarse, fine, norm=norm) for fine, coarse in reversed(pairs)
        )
        self.top_down = nn.ModuleList(layer(2 * fine, fine) for fine, _ in reversed(pairs))
        self.downsample = nn.ModuleList(
            SeparableUnit(fine, fine, 3, stride=2, norm=norm) for fine, _ in pairs
        )
        self.bottom_up = nn.ModuleList(layer(2 * fine, coarse) for fine, coarse in pairs)
        self.out = nn.ModuleList(SeparableUnit(level, channels, 3, norm=norm) for level in inputs)

    def forward(self, levels: Sequence[Tensor]) -> list[Tensor]:
        """As many levels as go in, (B, channels, h, w) with the same h and w, the finest first."""
        top = levels[-1]
        reduced: list[Tensor] = []  # the coarsest first
        for reduce, merge, level in zip(
            self.reduce, self.top_down, reversed(levels[:-1]), strict=True
        ):
            reduced.append(reduce(top))
            raised = F.interpolate(reduced[-1], size=level.shape[-2:], mode="nearest")
            top = merge(torch.cat([raised, level], dim=1))
        merged = [top]
        for shrink, merge, level in zip(
            self.downsample, self.bottom_up, reversed(reduced), strict=True
        ):
            merged.append(merge(torch.cat([shrink(merged[-1]), level], dim=1)))
        return [out(level) for out, level in zip(self.out, merged, strict=True)]
