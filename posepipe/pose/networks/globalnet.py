"""GlobalNet: a feature pyramid whose every level predicts heatmaps (CPN, section 3.2.1)."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from posepipe.networks.resizing import bilinear

Upsampling = Literal["half_pixel", "align_corners", "tf1"]
Merge = Literal["batch_norm", "bias"]


class GlobalNet(nn.Module):
    """The pyramid P2…P5 over the backbone's C2…C5, with a heatmap head on every level.

    "Slightly different from FPN, we apply 1x1 convolutional kernel before each element-wise sum
    procedure in the upsampling process" (section 3.2.1). Widths, norms and activations, about which
    the paper says nothing, are those of the two public CPN code bases; where they differ, the
    difference is an argument.

    Args:
        in_channels: channels of C2, C3, C4, C5.
        channels: channels of the pyramid (the code bases: 256).
        keypoints: K.
        merge: what follows the 1x1 convolution before each sum: "batch_norm" (pytorch-cpn) or
            a "bias" of its own (tf-cpn).
        upsampling: how a level is enlarged, see `upsample`.

    Attributes:
        enlarges_last: see `enlarge_last`.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        *,
        channels: int,
        keypoints: int,
        merge: Merge,
        upsampling: Upsampling,
    ) -> None:
        super().__init__()
        self.enlarges_last = False
        self.upsampling: Upsampling = upsampling
        self.laterals = nn.ModuleList(conv_bn_relu(width, channels, 1) for width in in_channels)
        self.merges = nn.ModuleList(
            nn.Sequential(nn.Conv2d(channels, channels, 1, bias=False), nn.BatchNorm2d(channels))
            if merge == "batch_norm"
            else nn.Conv2d(channels, channels, 1)
            for _ in in_channels[1:]
        )
        self.heads = nn.ModuleList(
            nn.Sequential(conv_bn_relu(channels, channels, 1), HeatmapHead(channels, keypoints))
            for _ in in_channels
        )

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """The pyramid P2…P5, (B, channels, h/2^i, w/2^i), of the backbone's C2…C5."""
        pyramid = [lateral(level) for lateral, level in zip(self.laterals, features, strict=True)]
        for i in reversed(range(len(pyramid) - 1)):
            shape_hw = pyramid[i].shape[-2:]
            size_hw = (shape_hw[0], shape_hw[1])
            enlarge = partial(upsample, shape_hw=size_hw, upsampling=self.upsampling)
            if self.enlarges_last:
                above = enlarge(self.merges[i](pyramid[i + 1]))
            else:
                above = self.merges[i](enlarge(pyramid[i + 1], before_conv=True))
            pyramid[i] = pyramid[i] + above
        return pyramid

    def heatmaps(self, pyramid: Sequence[Tensor]) -> list[Tensor]:
        """What every level predicts, (B, K, h, w) each, all enlarged to P2's size.

        Args:
            pyramid: P2…P5, or only the first of them.
        """
        shape_hw = (pyramid[0].shape[-2], pyramid[0].shape[-1])
        return [
            upsample(head(level), shape_hw, self.upsampling)
            for head, level in zip(self.heads, pyramid, strict=False)
        ]


def upsample(
    features: Tensor,
    shape_hw: tuple[int, int],
    upsampling: Upsampling,
    *,
    before_conv: bool = False,
) -> Tensor:
    """(B, C, h, w) features enlarged bilinearly to (B, C, *shape_hw).

    Args:
        features: (B, C, h, w).
        shape_hw: height and width wanted, whole multiples of h and w.
        upsampling: where the samples lie: "half_pixel" (pixel centres correspond, as in cv2 and
            today's frameworks), "align_corners" (corner pixels correspond; pytorch-cpn) or "tf1"
            (source = target / factor, clamped at the far edge; TensorFlow 1, tf-cpn).
        before_conv: a convolution comes next. It takes what is in lower precision as it is, so
            there is no need to enlarge that in float32, as autocast does: on an H200 a tenth of the
            time of a CPN with ResNet-50. For CUDA, where the numbers are the same; not in training.
    """
    if features.shape[-2:] == shape_hw:
        return features
    as_it_is = before_conv and features.is_cuda and not torch.is_grad_enabled()
    with torch.autocast("cuda", enabled=False) if as_it_is else nullcontext():
        return _upsample(features, shape_hw, upsampling)


def _upsample(features: Tensor, shape_hw: tuple[int, int], upsampling: Upsampling) -> Tensor:
    if upsampling == "tf1":
        # One pixel of padding at the far edges makes aligned corners give source = target / factor.
        height, width = shape_hw
        padded = F.pad(features, (0, 1, 0, 1), mode="replicate")
        enlarged = bilinear(padded, size=(height + 1, width + 1), align_corners=True)
        return enlarged[..., :height, :width]
    return bilinear(features, size=shape_hw, align_corners=upsampling == "align_corners")


def conv_bn_relu(in_channels: int, out_channels: int, kernel: int) -> nn.Sequential:
    """A convolution that keeps the size, batch normalisation, ReLU."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )


class HeatmapHead(nn.Sequential):
    """A 3x3 convolution to K heatmaps and the batch normalisation both code bases end with."""

    def __init__(self, channels: int, keypoints: int) -> None:
        convolution = nn.Conv2d(channels, keypoints, 3, padding=1, bias=False)
        super().__init__(convolution, nn.BatchNorm2d(keypoints))

    @property
    def norm(self) -> nn.BatchNorm2d:
        """The batch normalisation."""
        _, norm = self
        assert isinstance(norm, nn.BatchNorm2d)  # noqa: S101  # see the constructor
        return norm
