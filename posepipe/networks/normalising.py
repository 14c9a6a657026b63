"""From pixels to a network's input."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from posepipe.networks.devices import constant

Channels = tuple[float, float, float]


@dataclass(frozen=True)
class Normalisation:
    """What a network does to pixels before its first layer; its recipe says so.

    Attributes:
        mean: of each channel in the network's own order, on the scale 0 to 255; subtracted.
        std: likewise; divided by.
        bgr: the network's order is blue, green, red.
    """

    mean: Channels
    std: Channels
    bgr: bool = False

    def __call__(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) float32 in channels_last, of (B, H, W, 3) uint8 RGB pixels on any device."""
        return normalised(pixels.flip(-1) if self.bgr else pixels, self.mean, self.std)


def normalised(pixels: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """(B, 3, H, W) float32 images in channels_last: (B, H, W, 3) uint8 pixels less mean, over std.

    Args:
        pixels: on any device; the channels in the order of `mean` and `std`. They may be float32,
            and are then written over.
        mean: of each channel, on the scale of the pixels: 0 to 255 for uint8.
        std: likewise.
    """
    batch, height, width, channels = pixels.shape
    if pixels.is_cuda:
        images = pixels.float()
        less, over = (constant(tuple(of), images.device, torch.float32) for of in (mean, std))
        return images.sub_(less).div_(over).permute(0, 3, 1, 2)
    # Whole rows at a time: with three channels innermost the same sums take ten times as long.
    rows = pixels.reshape(batch, height, width * channels).float()
    rows.sub_(_row(tuple(mean), width, rows.device))
    rows.div_(_row(tuple(std), width, rows.device))
    return rows.view(batch, height, width, channels).permute(0, 3, 1, 2)


@lru_cache(maxsize=64)
def _row(of_channels: tuple[float, ...], width: int, device: torch.device) -> Tensor:
    """A row of `width` pixels that all have these values."""
    with torch.inference_mode(False):  # so that it can be used in training as well
        return torch.tensor(of_channels, device=device).repeat(width)
