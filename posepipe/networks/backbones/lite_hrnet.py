"""Naive Lite-HRNet: four resolutions side by side, made of ShuffleNet's blocks.

Yu et al., "Lite-HRNet: A Lightweight High-Resolution Network", CVPR 2021, section 3.1, and the
wider variant of its ablation; the numbers of blocks and channels that the paper leaves open, and
the sums of `Exchange`, are those of the authors' code, which PP-TinyPose shares.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from posepipe.networks.backbones.base import Backbone
from posepipe.networks.resizing import bilinear

CHANNELS = (40, 80, 160, 320)  # of the branches at strides 4, 8, 16 and 32
STEM_CHANNELS = 32
MODULES = (2, 4, 2)  # in the stages of two, three and four branches
BLOCKS = 2  # of each branch of each module


class LiteHRNet(Backbone):
    """The wider naive Lite-HRNet-18 with its iterative head: 1.3 million parameters.

    Every branch has seen all the others by its end; the iterative head then brings what the lower
    resolutions know to the higher ones, from stride 32 to stride 4.

    Attributes:
        stages: the stem, and the stages of two, three and four branches, with the head the last.
        channels: of the features at strides 4, 8, 16 and 32.
    """

    def __init__(self) -> None:
        super().__init__()
        stages: list[nn.Module] = [Stem(STEM_CHANNELS)]
        before: tuple[int, ...] = (STEM_CHANNELS,)
        for number, modules in enumerate(MODULES):
            widths = CHANNELS[: number + 2]
            stages.append(BranchStage(before, widths, modules))
            before = widths
        head = IterativeHead(CHANNELS)
        self.stages = nn.ModuleList([*stages[:-1], nn.Sequential(stages[-1], head)])
        self.channels = head.channels

    def forward(self, images: Tensor) -> list[Tensor]:
        """Features of (B, 3, H, W) images: four tensors (B, C, H/stride, W/stride).

        Height and width are multiples of 32.
        """
        features = [images]
        for stage in self.stages:
            features = stage(features)
        return features


class Stem(nn.Module):
    """A 3x3 convolution and a block of ShuffleNet V2 with stride: (B, channels, H/4, W/4)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.conv = conv_bn(3, channels, 3, stride=2, relu=True)
        self.left = nn.Sequential(depthwise_bn(half, stride=2), conv_bn(half, half, 1, relu=True))
        self.right = nn.Sequential(
            conv_bn(half, channels, 1, relu=True),
            depthwise_bn(channels, stride=2),
            conv_bn(channels, half, 1, relu=True),
        )

    def forward(self, branches: Sequence[Tensor]) -> list[Tensor]:
        """One branch (B, channels, H/4, W/4) of one branch (B, 3, H, W)."""
        (images,) = branches
        left, right = self.conv(images).chunk(2, dim=1)
        return [shuffle(torch.cat([self.left(left), self.right(right)], dim=1))]


class BranchStage(nn.Module):
    """Several modules on as many branches, one more of them than the stage before had.

    Args:
        before: channels of the branches that come in.
        channels: channels of the branches that go out; the last is new, made of the one before.
        modules: how often branches are computed and exchanged.
    """

    def __init__(self, before: Sequence[int], channels: Sequence[int], modules: int) -> None:
        super().__init__()
        # Only the first stage's first branch changes its width.
        self.kept = nn.ModuleList(
            nn.Identity() if old == new else separable(old, new)
            for old, new in zip(before, channels, strict=False)
        )
        self.new = separable(before[-1], channels[-1], stride=2)
        self.blocks = nn.ModuleList(
            nn.ModuleList(
                nn.Sequential(*(ShuffleBlock(width) for _ in range(BLOCKS))) for width in channels
            )
            for _ in range(modules)
        )
        self.exchanges = nn.ModuleList(Exchange(channels) for _ in range(modules))

    def forward(self, branches: Sequence[Tensor]) -> list[Tensor]:
        """Branches (B, C, h/2^i, w/2^i) of one fewer of them."""
        kept = [layer(branch) for layer, branch in zip(self.kept, branches, strict=True)]
        features = [*kept, self.new(branches[-1])]
        for blocks, exchange in zip(self.blocks, self.exchanges, strict=True):
            features = [block(one) for block, one in zip(blocks, features, strict=True)]  # type: ignore[call-overload]
            features = exchange(features)
        return features


class ShuffleBlock(nn.Module):
    """A block of ShuffleNet V2: half of the channels through 1x1, depthwise 3x3, 1x1; shuffled."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.right = nn.Sequential(
            conv_bn(half, half, 1, relu=True),
            depthwise_bn(half),
            conv_bn(half, half, 1, relu=True),
        )

    def forward(self, features: Tensor) -> Tensor:
        """(B, channels, h, w) of the same."""
        left, right = features.chunk(2, dim=1)
        return shuffle(torch.cat([left, self.right(right)], dim=1))


class ShufflePair(nn.Module):
    """Two blocks with one shuffle for both: the same numbers, for less copying.

    The second block takes its half from the first one's parts as they come; that their channels
    are in another order then is made up for by its weights.

    Args:
        first, second: with their batch normalisations folded; the second one's weights are changed.
    """

    def __init__(self, first: ShuffleBlock, second: ShuffleBlock) -> None:
        super().__init__()
        self.first, self.second = first.right, second.right
        entrance, _, exit_ = (m for m in self.second.modules() if isinstance(m, nn.Conv2d))
        assert exit_.bias is not None  # noqa: S101  # folded, as it must be
        half = entrance.in_channels
        order = [*range(0, half, 2), *range(1, half, 2)]  # one part after the other
        with torch.no_grad():
            entrance.weight.copy_(entrance.weight[:, order])
            for weight in exit_.parameters():  # and bias
                weight.copy_(weight[order])

    def forward(self, features: Tensor) -> Tensor:
        """(B, channels, h, w) of the same."""
        quarter = features.shape[1] // 4
        left, low, right = torch.split(features, [quarter, quarter, 2 * quarter], dim=1)
        middle, high = self.first(right).chunk(2, dim=1)
        even, odd = self.second(torch.cat([low, high], dim=1)).chunk(2, dim=1)
        return shuffle(torch.cat([left, even, middle, odd], dim=1), parts=4)


class Exchange(nn.Module):
    """Every branch becomes a sum over all branches, brought to its size.

    Two things are not in the paper's formula but in the authors' code and in PP-TinyPose, so that
    their weights ask for them: what comes of the first branch counts twice in every sum, and the
    others' sums begin with the first one's sum, before its ReLU, instead of the first branch.
    """

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        self.paths = nn.ModuleList(
            nn.ModuleList(_path(channels, source, target) for source in range(len(channels)))
            for target in range(len(channels))
        )

    def forward(self, branches: Sequence[Tensor]) -> list[Tensor]:
        """Branches of the shapes that came in."""
        sources = list(branches)
        sums: list[Tensor] = []
        for paths in self.paths:
            first, *others = (
                path(source)
                for path, source in zip(paths, sources, strict=True)  # type: ignore[call-overload]
            )
            total = first + first
            for other in others:
                total = total + other
            sums.append(total)
            sources[0] = sums[0]
        return [F.relu(total) for total in sums]


class IterativeHead(nn.Module):
    """From the lowest resolution to the highest: narrowed, enlarged and added to the next one.

    Attributes:
        channels: of what comes out, of the highest resolution first: each branch's are those of the
            next higher one, the first branch keeps its own.
    """

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        self.channels = (channels[0], *channels[:-1])
        self.layers = nn.ModuleList(
            separable(own, wanted) for own, wanted in zip(channels, self.channels, strict=True)
        )

    def forward(self, branches: Sequence[Tensor]) -> list[Tensor]:
        """Features of the branches' sizes, of the highest resolution first."""
        features: list[Tensor] = []
        for layer, branch in zip(reversed(self.layers), reversed(branches), strict=True):
            total = branch
            if features:
                total = total + bilinear(features[0], scale_factor=2.0, align_corners=True)
            features.insert(0, layer(total))
        return features


def _path(channels: Sequence[int], source: int, target: int) -> nn.Module:
    """From one branch to another: enlarged, as it is, or halved as often as need be."""
    own, wanted = channels[source], channels[target]
    if source == target:
        return nn.Identity()
    if source > target:
        factor = float(2 ** (source - target))
        return nn.Sequential(
            conv_bn(own, wanted, 1), nn.Upsample(scale_factor=factor, mode="nearest")
        )
    steps = [separable(own, own, stride=2) for _ in range(target - source - 1)]
    return nn.Sequential(*steps, separable(own, wanted, stride=2, relu=False))


def conv_bn(
    in_channels: int, out_channels: int, kernel: int, *, stride: int = 1, relu: bool = False
) -> nn.Sequential:
    """A convolution without a bias, batch normalisation and perhaps ReLU."""
    layers: list[nn.Module] = [
        nn.Conv2d(
            in_channels, out_channels, kernel, stride=stride, padding=kernel // 2, bias=False
        ),
        nn.BatchNorm2d(out_channels),
    ]
    return nn.Sequential(*layers, nn.ReLU(inplace=True)) if relu else nn.Sequential(*layers)


def depthwise_bn(channels: int, *, stride: int = 1) -> nn.Sequential:
    """A 3x3 convolution of every channel for itself, and batch normalisation."""
    return nn.Sequential(
        nn.Conv2d(channels, channels, 3, stride=stride, padding=1, groups=channels, bias=False),
        nn.BatchNorm2d(channels),
    )


def separable(
    in_channels: int, out_channels: int, *, stride: int = 1, relu: bool = True
) -> nn.Sequential:
    """A depthwise 3x3 and a 1x1 convolution, each with batch normalisation; ReLU at the end."""
    return nn.Sequential(
        depthwise_bn(in_channels, stride=stride),
        conv_bn(in_channels, out_channels, 1, relu=relu),
    )


def pair_shuffles(network: nn.Module) -> None:
    """Make pairs of all blocks of Lite-HRNets in a network, in place: see `ShufflePair`."""
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Sequential) and [*map(type, child)] == [ShuffleBlock] * 2:
                setattr(parent, name, ShufflePair(*child))


def shuffle(features: Tensor, *, parts: int = 2) -> Tensor:
    """(B, C, h, w) with the channels of all parts taken in turn (ShuffleNet).

    In the memory format that they have. Traced for another runtime it is what those know as a
    shuffle of channels, for which they are quick.
    """
    batch, channels, height, width = features.shape
    contiguous = isinstance(features, Tensor) and features.is_contiguous()  # torch.fx gives none
    if torch.onnx.is_in_onnx_export() or contiguous:
        apart = features.reshape(batch, parts, channels // parts, height, width)
        return apart.transpose(1, 2).reshape(batch, channels, height, width)
    apart = features.permute(0, 2, 3, 1).reshape(batch, height, width, parts, channels // parts)
    taken = apart.transpose(-2, -1).reshape(batch, height, width, channels)
    return taken.permute(0, 3, 1, 2)
