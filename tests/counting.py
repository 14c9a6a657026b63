"""A network that says how it was called."""

from __future__ import annotations

from torch import Tensor, nn


class Counting(nn.Module):
    """Notes the sizes of the batches that reach it."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        self.sizes.append(len(images))
        return images * 2, images.flatten(1).sum(dim=1)
