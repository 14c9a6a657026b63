"""ResNets and pyramids with detectron2's layout and its names of weights.

torchvision's ResNet would do, but for two things: where its bottlenecks halve their input, and the
first block of a dilated stage, which it leaves undilated. (He et al. 2016; Xie et al. 2017; Lin et
al. 2017.)
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn
from torch.nn import functional as F

from posepipe.networks.native.tables import BackboneTable

_BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
_STEM_CHANNELS = 64


class ConvNorm(nn.Conv2d):
    """A convolution without bias and its batch normalisation, which is its child ``norm``."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        *,
        stride: int = 1,
        groups: int = 1,
        dilation: int = 1,
    ) -> None:
        super().__init__(
            inputs,
            outputs,
            kernel,
            stride=stride,
            padding=dilation * (kernel // 2),
            dilation=dilation,
            groups=groups,
            bias=False,
        )
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, h, w) features, convolved and normalised."""
        normalised: Tensor = self.norm(super().forward(features))
        return normalised


class Stem(nn.Module):
    """From an image to stride 4."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = ConvNorm(3, _STEM_CHANNELS, 7, stride=2)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 64, H / 4, W / 4) features of (B, 3, H, W) images."""
        return F.max_pool2d(F.relu(self.conv1(images)), kernel_size=3, stride=2, padding=1)


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1, and the input on top of them (He et al. 2016)."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        middle: int,
        *,
        stride: int,
        groups: int,
        dilation: int,
        stride_in_1x1: bool,
    ) -> None:
        super().__init__()
        self.shortcut = (
            ConvNorm(inputs, outputs, 1, stride=stride) if inputs != outputs else nn.Identity()
        )
        first, second = (stride, 1) if stride_in_1x1 else (1, stride)
        self.conv1 = ConvNorm(inputs, middle, 1, stride=first)
        self.conv2 = ConvNorm(middle, middle, 3, stride=second, groups=groups, dilation=dilation)
        self.conv3 = ConvNorm(middle, outputs, 1)

    def forward(self, features: Tensor) -> Tensor:
        """(B, outputs, h / stride, w / stride) of (B, inputs, h, w)."""
        inner = F.relu(self.conv1(features))
        inner = F.relu(self.conv2(inner))
        return F.relu(self.conv3(inner) + self.shortcut(features))


def make_stage(table: BackboneTable, number: int, *, dilation: int = 1) -> nn.Sequential:
    """The bottlenecks of a ResNet's stage 2, 3, 4 or 5; a dilated one keeps its input's size."""
    factor = 2 ** (number - 2)
    outputs = table.backbone_channels * factor
    inputs = _STEM_CHANNELS if number == 2 else outputs // 2
    halves = number > 2 and dilation == 1
    blocks = [
        Bottleneck(
            inputs if place == 0 else outputs,
            outputs,
            table.groups * table.width_per_group * factor,
            stride=2 if place == 0 and halves else 1,
            groups=table.groups,
            dilation=dilation,
            stride_in_1x1=table.stride_in_1x1,
        )
        for place in range(_BLOCKS[table.depth][number - 2])
    ]
    return nn.Sequential(*blocks)


class ResNet(nn.Module):
    """The backbone: stem and stages up to a last one.

    Args:
        table: its depth and widths.
        last: the number of its last stage, 4 or 5.
        last_dilation: 2 keeps stage 5 at stride 16.
    """

    def __init__(self, table: BackboneTable, *, last: int = 5, last_dilation: int = 1) -> None:
        super().__init__()
        self.stem = Stem()
        self._stages = [f"res{number}" for number in range(2, last + 1)]
        for number, name in enumerate(self._stages, start=2):
            dilation = last_dilation if number == last else 1
            self.add_module(name, make_stage(table, number, dilation=dilation))

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """The features of (B, 3, H, W) images by stage, from "res2" on."""
        features = self.stem(images)
        found = {}
        for name in self._stages:
            features = self.get_submodule(name)(features)
            found[name] = features
        return found


class LastLevel(nn.Module):
    """One more level: every second cell of p5."""

    def forward(self, features: Mapping[str, Tensor], finest: Tensor) -> list[Tensor]:
        """[p6] of the backbone's features and p5."""
        return [F.max_pool2d(finest, kernel_size=1, stride=2)]


class LastTwoLevels(nn.Module):
    """Two more levels by convolutions from res5, RetinaNet's."""

    def __init__(self, inputs: int, channels: int) -> None:
        super().__init__()
        self.p6 = nn.Conv2d(inputs, channels, 3, stride=2, padding=1)
        self.p7 = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, features: Mapping[str, Tensor], finest: Tensor) -> list[Tensor]:
        """[p6, p7] of the backbone's features and p5."""
        p6 = self.p6(features["res5"])
        return [p6, self.p7(F.relu(p6))]


class Pyramid(nn.Module):
    """A feature pyramid network on a ResNet (Lin et al. 2017).

    Args:
        table: of backbone and pyramid.
        finest: the stage that its finest level comes from, 2 or 3.
        top_block: makes the levels above p5.
    """

    def __init__(self, table: BackboneTable, *, finest: int, top_block: nn.Module) -> None:
        super().__init__()
        self.bottom_up = ResNet(table)
        self.top_block = top_block
        self._numbers = range(finest, 6)
        for number in self._numbers:
            inputs = table.backbone_channels * 2 ** (number - 2)
            lateral = nn.Conv2d(inputs, table.channels, 1)
            output = nn.Conv2d(table.channels, table.channels, 3, padding=1)
            self.add_module(f"fpn_lateral{number}", lateral)
            self.add_module(f"fpn_output{number}", output)

    def forward(self, images: Tensor) -> list[Tensor]:
        """The levels (B, C, h, w) of (B, 3, H, W) images, the finest first."""
        features = self.bottom_up(images)
        levels: list[Tensor] = []
        above: Tensor | None = None
        for number in reversed(self._numbers):
            merged = self.get_submodule(f"fpn_lateral{number}")(features[f"res{number}"])
            if above is not None:
                merged = merged + F.interpolate(above, scale_factor=2.0, mode="nearest")
            levels.insert(0, self.get_submodule(f"fpn_output{number}")(merged))
            above = merged
        return levels + list(self.top_block(features, levels[-1]))


class SingleLevel(ResNet):
    """A ResNet of which only the last stage is seen."""

    def forward(self, images: Tensor) -> list[Tensor]:  # type: ignore[override]
        """[the last stage's features] of (B, 3, H, W) images."""
        return [super().forward(images)[self._stages[-1]]]
