"""A task of the training loop that takes no time: a line through points."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from posepipe.training.pose.losses import Losses, Part


@dataclass(frozen=True)
class Points:
    """A batch: (B, 3) inputs, (B,) wanted, (B,) bool which count."""

    inputs: Tensor
    wanted: Tensor
    counted: Tensor


class Line:
    """Learns a linear function of three numbers, a third of the samples not counting.

    Args:
        batch: samples per step.
        accumulate: parts of it.
        spoil: a sample number whose loss is not a number.
        scores: what measurements give, one after the other; () for none.
    """

    name = "line"
    mined_names: tuple[str, ...] = ("even", "odd")
    leaves_some_out = False

    def __init__(
        self,
        batch: int = 8,
        accumulate: int = 1,
        spoil: int | None = None,
        scores: tuple[float, ...] = (),
    ) -> None:
        torch.manual_seed(5)
        # Dropout: what it drops must depend on the place in the run alone.
        self.network = nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.3), nn.Linear(8, 1))
        self.module = _Squares(self.network)
        self.batch, self.accumulate, self.spoil = batch, accumulate, spoil
        self.scores = list(scores)
        self.measured: list[nn.Module] = []
        self.before_batch: Callable[[int], None] = lambda number: None

    def train_mode(self) -> None:
        self.network.train()

    def batches(self, start: int, rank: int, world: int) -> Iterator[Points]:
        size = self.batch // (world * self.accumulate)
        first = start + rank * size * self.accumulate
        while True:
            self.before_batch(first)
            for part in range(self.accumulate):
                yield self.points(range(first + part * size, first + (part + 1) * size))
            first += self.batch

    def points(self, numbers: range) -> Points:
        drawn = [np.random.default_rng([1, number]).normal(size=3) for number in numbers]
        inputs = torch.tensor(np.array(drawn)).float()
        if self.spoil in numbers:
            inputs[0] = float("nan")
        wanted = inputs @ torch.tensor([1.0, -2.0, 0.5]) + 3
        return Points(inputs, wanted, torch.tensor([number % 3 > 0 for number in numbers]))

    def counts(self, batch: Points) -> dict[str, Tensor]:
        return {"squares": batch.counted.sum()}

    def validate(self, network: nn.Module, folder: Path | None) -> dict[str, float]:
        self.measured.append(network)
        return {"set/score": self.scores.pop(0)} if self.scores else {}


class _Squares(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, batch: Points) -> tuple[Losses, Tensor]:
        errors = (self.network(batch.inputs)[:, 0] - batch.wanted).square()
        part = Part((errors * batch.counted).sum(), batch.counted.sum().float())
        return {"squares": part}, torch.tensor([len(errors), int(batch.counted.sum())])
