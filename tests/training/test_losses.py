"""CPN's losses: worked by hand, and against a loop written from the paper."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from posepipe.pose.heatmaps import encode
from posepipe.training.losses import (
    cpn_loss,
    hard_keypoint_mean,
    keypoint_l2,
    mean_over_annotated,
)


def mined_by_a_loop(losses, weights, hardest):
    """Section 3.2.2, person by person: keep the M largest losses of the annotated keypoints."""
    means = []
    for person, annotated in zip(losses.tolist(), weights.tolist(), strict=True):
        theirs = sorted(loss for loss, weight in zip(person, annotated, strict=True) if weight > 0)
        kept = theirs[::-1][:hardest]
        if kept:
            means.append(sum(kept) / len(kept))
    return sum(means) / len(means) if means else 0.0


# --- L2


def test_l2_is_the_mean_square_over_each_keypoints_map():
    heatmaps, targets = torch.zeros(1, 2, 2, 2), torch.zeros(1, 2, 2, 2)
    targets[0, 0, 0, 0] = 2.0
    heatmaps[0, 1] = 0.5
    losses = keypoint_l2(heatmaps, targets, torch.ones(1, 2))
    assert losses.tolist() == [[1.0, 0.25]]


def test_keypoints_that_nobody_annotated_give_no_loss_and_no_gradient():
    heatmaps = torch.randn(2, 3, 4, 4, requires_grad=True)
    weights = torch.tensor([[1.0, 0.0, 0.5], [0.0, 0.0, 0.0]])
    losses = keypoint_l2(heatmaps, torch.ones(2, 3, 4, 4), weights)
    assert (losses.gt(0) == weights.gt(0)).all()
    losses.sum().backward()
    assert (heatmaps.grad.abs().sum(dim=(-2, -1)).gt(0) == weights.gt(0)).all()


@pytest.mark.parametrize(
    ("losses", "weights", "expected"),
    [
        ([[0.0, 0.0]], [[0.0, 0.0]], 0.0),
        ([[3.0, 0.0]], [[1.0, 0.0]], 3.0),
        ([[3.0, 1.0], [2.0, 0.0]], [[1.0, 1.0], [1.0, 0.0]], 2.0),
    ],
)
def test_the_plain_mean_is_over_annotated_keypoints_alone(losses, weights, expected):
    found = mean_over_annotated(torch.tensor(losses), torch.tensor(weights))
    assert found.item() == pytest.approx(expected)


# --- hard keypoints


@pytest.mark.parametrize(
    ("losses", "weights", "hardest", "expected"),
    [
        # Nobody annotated anything.
        ([[0.0, 0.0, 0.0]], [[0.0, 0.0, 0.0]], 2, 0.0),
        # The two largest of three.
        ([[3.0, 1.0, 2.0]], [[1.0, 1.0, 1.0]], 2, 2.5),
        ([[3.0, 1.0, 2.0]], [[1.0, 1.0, 1.0]], 1, 3.0),
        # All of them, also when more are asked for.
        ([[3.0, 1.0, 2.0]], [[1.0, 1.0, 1.0]], 3, 2.0),
        ([[3.0, 1.0, 2.0]], [[1.0, 1.0, 1.0]], 17, 2.0),
        # Fewer annotated than asked for: the mean of those there are.
        ([[3.0, 0.0, 0.0]], [[1.0, 0.0, 0.0]], 2, 3.0),
        # People have equal says, whatever the number of their keypoints.
        ([[3.0, 1.0, 2.0], [1.0, 0.0, 0.0]], [[1.0, 1.0, 1.0], [1.0, 0.0, 0.0]], 2, 1.75),
        # A person with nothing annotated has none.
        ([[3.0, 1.0, 2.0], [0.0, 0.0, 0.0]], [[1.0, 1.0, 1.0], [0.0, 0.0, 0.0]], 2, 2.5),
    ],
)
def test_hard_keypoints_by_hand(losses, weights, hardest, expected):
    found = hard_keypoint_mean(torch.tensor(losses), torch.tensor(weights), hardest)
    assert found.item() == pytest.approx(expected)


@given(st.integers(0, 10_000), st.integers(1, 5), st.integers(1, 20), st.floats(0, 1))
def test_mining_equals_a_loop_written_from_the_paper(seed, people, hardest, share):
    generator = torch.Generator().manual_seed(seed)
    weights = (torch.rand(people, 17, generator=generator) < share).float()
    losses = torch.rand(people, 17, generator=generator) * weights
    expected = mined_by_a_loop(losses, weights, hardest)
    assert hard_keypoint_mean(losses, weights, hardest).item() == pytest.approx(expected, abs=1e-5)


def test_only_the_hardest_keypoints_are_learnt_from():
    losses = torch.tensor([[0.1, 0.9, 0.5, 0.7]], requires_grad=True)
    hard_keypoint_mean(losses, torch.ones(1, 4), 2).backward()
    assert losses.grad.tolist() == [[0.0, 0.5, 0.0, 0.5]]


def test_mining_a_persons_seventeen_keypoints_is_the_plain_mean():
    losses = torch.rand(3, 17)
    everything = torch.ones(3, 17)
    mined = hard_keypoint_mean(losses, everything, 17)
    assert mined.item() == pytest.approx(mean_over_annotated(losses, everything).item())


# --- both together

SIGMAS = (1.4, 1.7, 2.0, 2.6)


def loss_of(levels, refined, points, weights, hardest=8):
    return cpn_loss(
        levels, refined, points, weights, stride=4, amplitude=1.0, sigmas=SIGMAS, hardest=hardest
    )


def targets_of(points, sigma):
    return encode(points, (16, 12), stride=4, sigma=sigma, amplitude=1.0)


def test_perfect_heatmaps_have_no_loss_each_level_having_a_gaussian_of_its_own():
    points = torch.rand(2, 17, 2) * 40
    levels = [targets_of(points, sigma) for sigma in SIGMAS]
    refined = targets_of(points, SIGMAS[0])
    weights = torch.ones(2, 17)
    assert [loss.item() for loss in loss_of(levels, refined, points, weights)] == [0.0, 0.0]
    swapped = loss_of(levels[::-1], refined, points, weights)
    assert swapped[0] > 0


def test_globalnet_learns_from_every_keypoint_and_refinenet_from_the_hardest():
    generator = torch.Generator().manual_seed(0)
    points = torch.rand(2, 17, 2, generator=generator) * 40
    levels = [torch.randn(2, 17, 16, 12, generator=generator).requires_grad_() for _ in SIGMAS]
    refined = torch.randn(2, 17, 16, 12, generator=generator).requires_grad_()
    weights = torch.ones(2, 17)
    weights[1, 5:] = 0
    global_loss, refine_loss = loss_of(levels, refined, points, weights)
    (global_loss + refine_loss).backward()
    for maps in levels:
        assert maps.grad.abs().sum(dim=(-2, -1)).gt(0).sum(dim=1).tolist() == [17, 5]
    assert refined.grad.abs().sum(dim=(-2, -1)).gt(0).sum(dim=1).tolist() == [8, 5]


def test_a_batch_without_any_annotation_has_no_loss():
    points, maps = torch.zeros(2, 17, 2), torch.randn(2, 17, 16, 12)
    losses = loss_of([maps] * 4, maps, points, torch.zeros(2, 17))
    assert [loss.item() for loss in losses] == [0.0, 0.0]
