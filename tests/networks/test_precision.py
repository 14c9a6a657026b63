"""Lower precision: what computes in it, and what comes out."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

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
    ("largest", "fits"),
    [(4000, True), (-4000, True), (4200, False), (-4200, False), (1e9, False), (math.nan, False)],
)
@pytest.mark.parametrize("several", [False, True])
def test_a_network_fits_fp16_if_all_its_numbers_stay_below_a_sixteenth_of_the_largest(
    largest: float, fits: bool, several: bool
) -> None:
    parts = Spike(largest, several=several), AtMostOne()
    assert fits_fp16(nn.Sequential(*parts), torch.ones(2, 3)) == fits
    assert not any(module._forward_hooks for module in parts)


class Spike(nn.Module):
    """Gives what it is given but for one number; after another tensor if it gives several."""

    def __init__(self, number: float, *, several: bool) -> None:
        super().__init__()
        self._number, self._several = number, several

    def forward(self, images: Tensor) -> Any:
        spiked = images.clone()
        spiked[0, 0] = self._number
        return (images, spiked, None) if self._several else spiked


class AtMostOne(nn.Module):
    """Gives the first tensor, without its large numbers."""

    def forward(self, given: Any) -> Tensor:
        return (given[0] if isinstance(given, tuple) else given).clamp(-1, 1)
