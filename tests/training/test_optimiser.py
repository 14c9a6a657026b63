from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from posepipe.training.optimiser import average_into, build_optimiser, learning_rate
from posepipe.training.tables import TrainingTable


def test_the_papers_schedule_halves_every_3_6_million_samples() -> None:
    table = TrainingTable(samples=20_000_000)
    rates = [learning_rate(table, n) for n in (0, 3_599_968, 3_600_000, 7_200_000)]
    assert rates == [5e-4, 5e-4, 2.5e-4, 1.25e-4]


def test_the_cosine_begins_at_its_peak_and_ends_at_nothing() -> None:
    table = TrainingTable(samples=1000, schedule="cosine", learning_rate=1.0)
    assert learning_rate(table, 0) == 1
    assert learning_rate(table, 500) == pytest.approx(0.5)
    assert learning_rate(table, 250) == pytest.approx(0.5 + 0.5 * math.cos(math.pi / 4))
    assert learning_rate(table, 1000) == pytest.approx(0, abs=1e-12)


def test_a_warm_up_rises_in_a_line_and_its_first_step_learns_something() -> None:
    table = TrainingTable(samples=1000, schedule="cosine", learning_rate=1.0, warm_up=100, batch=10)
    rates = [learning_rate(table, n) for n in range(0, 101, 10)]
    assert rates[0] > 0
    steps = [b - a for a, b in zip(rates, rates[1:], strict=False)]
    assert steps == pytest.approx([steps[0]] * len(steps))
    assert rates[-1] == 1


def test_frozen_parameters_are_none_of_the_optimisers() -> None:
    network = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    network[0].requires_grad_(False)
    optimiser = build_optimiser(network, TrainingTable(samples=1, optimiser="adamw"))
    assert isinstance(optimiser, torch.optim.AdamW)
    assert [id(p) for p in optimiser.param_groups[0]["params"]] == [
        id(p) for p in network[1].parameters()
    ]


def test_the_backbone_has_a_learning_rate_of_its_own() -> None:
    network = nn.ModuleDict({"head": nn.Linear(2, 2), "backbone": nn.Linear(2, 2)})
    optimiser = build_optimiser(network, TrainingTable(samples=1, backbone_rate=0.1))
    assert [group["share"] for group in optimiser.param_groups] == [1.0, 0.1]
    assert [[id(p) for p in group["params"]] for group in optimiser.param_groups] == [
        [id(p) for p in network[name].parameters()] for name in ("head", "backbone")
    ]


def test_averages_move_towards_the_network_and_counters_are_copied() -> None:
    network, averaged = nn.BatchNorm1d(1), nn.BatchNorm1d(1)
    nn.init.constant_(network.weight, 3.0)
    network.num_batches_tracked.fill_(7)
    average_into(averaged, network, decay=0.75, steps=10**6)
    assert averaged.weight.item() == pytest.approx(0.75 * 1 + 0.25 * 3)
    assert averaged.num_batches_tracked.item() == 7


def test_early_averages_forget_the_poor_first_weights_sooner() -> None:
    network, averaged = nn.Linear(1, 1), nn.Linear(1, 1)
    nn.init.constant_(network.weight, 1.0)
    nn.init.constant_(averaged.weight, 0.0)
    average_into(averaged, network, decay=0.999, steps=1)
    assert averaged.weight.item() == pytest.approx(1 - 1 / 11)
