"""Lower precision: what computes in it, and what comes out."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from posepipe.networks.precision import cast_weights, fits_fp16, run_in_precision


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 5)
    ).eval()


def test_weights_are_cast_once_to_what_autocast_makes_of_them_in_every_pass() -> None:
    plain, images = network(), torch.randn(2, 3, 8, 8)
    lower = copy.deepcopy(plain)
    cast_weights(lower, torch.bfloat16)
    assert [module.weight.dtype for module in (lower[0], lower[1], lower[4])] == [
        torch.bfloat16,
        torch.float32,
        torch.bfloat16,
    ]
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(lower(images), plain(images))


def test_exact_parts_compute_in_float32_within_autocast() -> None:
    plain, images = network(), torch.randn(2, 3, 8, 8)
    lower = copy.deepcopy(plain)
    cast_weights(lower, torch.bfloat16, exact=[lower[4]])
    assert [lower[0].weight.dtype, lower[4].weight.dtype] == [torch.bfloat16, torch.float32]
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        found, features = lower(images), plain[:4](images)
    assert found.dtype == torch.float32
    with torch.inference_mode():
        assert torch.equal(found, plain[4](features.float()))


def test_parts_compute_in_lower_precision_and_give_float32() -> None:
    plain, images = network(), torch.randn(2, 3, 8, 8)
    with torch.inference_mode():
        exact = plain(images)
        untouched = copy.deepcopy(plain)
        run_in_precision([untouched], torch.float32)
        assert torch.equal(untouched(images), exact)
        run_in_precision([plain[0]], torch.bfloat16)
        found = plain(images)
    assert found.dtype == torch.float32
    assert 0 < (found - exact).abs().max() < 0.02 * exact.abs().max()


@pytest.mark.parametrize(
    ("factor", "fits"), [(1, True), (1e3, True), (1e5, False), (float("nan"), False)]
)
def test_a_network_fits_fp16_whose_numbers_stay_far_below_the_largest(factor, fits) -> None:
    given, images = network().requires_grad_(False), torch.randn(2, 3, 8, 8)
    given[0].weight *= factor
    given[1].running_var *= factor**2  # what comes out at the end is as small as before
    assert fits_fp16(given, images) == fits
    assert not any(module._forward_hooks for module in given.modules())
