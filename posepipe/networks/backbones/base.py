"""What a backbone is, whichever stage is built on it."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn

STRIDES = (4, 8, 16, 32)


class Backbone(nn.Module, ABC):
    """Images in, features of several strides out.

    Attributes:
        channels: of the features of each stride, the smallest stride first.
        strides: input pixels per cell of each; four of them (C2 to C5 of the paper) for a CPN.
        stages: if there are any, the parts that `frozen_stages` counts, the input's first.
    """

    channels: tuple[int, ...]
    strides: tuple[int, ...] = STRIDES

    @abstractmethod
    def forward(self, images: Tensor) -> list[Tensor]:
        """Features (B, C, H/stride, W/stride) of (B, 3, H, W) images, one for each stride."""
