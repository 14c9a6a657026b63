"""Optimisers, learning rates, and averaged weights."""

from __future__ import annotations

import math

import torch
from torch import nn

from posepipe.training.tables import TrainingTable


def build_optimiser(network: nn.Module, table: TrainingTable) -> torch.optim.Optimizer:
    """The table's optimiser of the parameters that learn; the backbone's are a separate group.

    Every group's "share" is its learning rate as a share of the run's.
    """
    backbone = getattr(network, "backbone", None)
    of_backbone = (
        {id(part) for part in backbone.parameters()} if isinstance(backbone, nn.Module) else set()
    )
    learning = [part for part in network.parameters() if part.requires_grad]
    groups = [
        {"params": [part for part in learning if (id(part) in of_backbone) == slow], "share": share}
        for slow, share in ((False, 1.0), (True, table.backbone_rate))
    ]
    kind = torch.optim.Adam if table.optimiser == "adam" else torch.optim.AdamW
    # Fused: a quarter of the time of torch's default on a CPU.
    return kind(
        [group for group in groups if group["params"]],
        lr=table.learning_rate,
        weight_decay=table.weight_decay,
        fused=True,
    )


def learning_rate(table: TrainingTable, samples: int) -> float:
    """The learning rate of the step that begins after so many samples of the run.

    The paper halves 5e-4 every 3.6 million crops (CPN, section 4.1).

    >>> table = TrainingTable(samples=10_000_000)
    >>> [learning_rate(table, n) for n in (0, 3_599_999, 3_600_000)]
    [0.0005, 0.0005, 0.00025]
    """
    if samples < table.warm_up:
        # The first step should learn something, too.
        return table.learning_rate * (samples + table.batch) / (table.warm_up + table.batch)
    if table.schedule == "step":
        return table.learning_rate * table.step_factor ** (samples // table.step_every)
    length = max(table.samples - table.warm_up, 1)
    progress = min((samples - table.warm_up) / length, 1.0)
    return table.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))


@torch.no_grad()
def average_into(averaged: nn.Module, network: nn.Module, *, decay: float, steps: int) -> None:
    """Move averaged weights towards the network's; counters are copied.

    Args:
        averaged: a copy of the network, changed in place.
        network: after its `steps`-th step.
        decay: share of the average kept per step; less in the first steps, whose weights are poor.
        steps: steps so far.
    """
    stays = min(decay, steps / (steps + 10))
    current = network.state_dict()
    moved, towards = [], []
    for key, value in averaged.state_dict().items():
        if value.dtype.is_floating_point:
            moved.append(value)
            towards.append(current[key])
        else:
            value.copy_(current[key])
    torch._foreach_lerp_(moved, towards, 1 - stays)
