"""What a training run keeps: averaged weights, and a row of numbers every few minutes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save
from torch import nn

from posepipe.data.jsonfiles import write_whole
from posepipe.recipe import WEIGHTS_FILE

METRICS_FILE = "metrics.csv"


@torch.no_grad()
def average_into(averaged: nn.Module, network: nn.Module, *, decay: float, steps: int) -> None:
    """Move averaged weights towards the network's; counters are copied.

    Args:
        averaged: a copy of the network, changed in place.
        network: after its `steps`-th step.
        decay: what stays of the average per step; less in the first steps, whose weights are poor.
        steps: steps so far.
    """
    stays = min(decay, steps / (steps + 10))
    current = network.state_dict()
    for key, value in averaged.state_dict().items():
        if value.dtype.is_floating_point:
            value.lerp_(current[key], 1 - stays)
        else:
            value.copy_(current[key])


def keep(run: Path, network: nn.Module, row: Mapping[str, float]) -> None:
    """Add a row to ``run/metrics.csv`` and write ``run/weights.safetensors`` anew, whole.

    Args:
        run: an existing folder.
        network: whose weights are kept.
        row: numbers by column; the same columns every time.

    Raises:
        DocumentError: the weights cannot be written; earlier ones are untouched.
    """
    metrics = run / METRICS_FILE
    if not metrics.exists():
        metrics.write_text(",".join(row) + "\n")
    with metrics.open("a") as file:
        file.write(",".join(f"{value:.6g}" for value in row.values()) + "\n")
    weights = {key: value.contiguous() for key, value in network.state_dict().items()}
    write_whole(run / WEIGHTS_FILE, [save(weights)])
