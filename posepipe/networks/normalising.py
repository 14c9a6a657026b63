"""From pixels to a network's input."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def normalised(pixels: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """(B, 3, H, W) float32 images in channels_last: (B, H, W, 3) uint8 pixels less mean, over std.

    Args:
        pixels: on any device; the channels in the order of `mean` and `std`.
        mean: of each channel, on the scale 0 to 255.
        std: likewise.
    """
    batch, height, width, channels = pixels.shape
    # Whole rows at a time: with three channels innermost the same sums take ten times as long.
    rows = pixels.reshape(batch, height, width * channels).float()
    rows.sub_(torch.tensor(mean, device=rows.device).repeat(width))
    rows.div_(torch.tensor(std, device=rows.device).repeat(width))
    return rows.view(batch, height, width, channels).permute(0, 3, 1, 2)
