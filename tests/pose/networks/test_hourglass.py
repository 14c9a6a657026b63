"""Stacked hourglasses: sizes, supervision, what goes from stage to stage."""

from __future__ import annotations

import pytest
import torch

from posepipe.errors import RecipeError
from posepipe.pose.networks.hourglass import Hourglass, HourglassTable, StackedHourglass
from posepipe.zoo.recipe import Recipe


def small(stages: int = 2, **changes: int) -> StackedHourglass:
    torch.manual_seed(0)
    return StackedHourglass(HourglassTable(stages=stages, channels=16, **changes)).eval()


@torch.inference_mode()
def test_no_crops_give_no_heatmaps():
    assert small()(torch.zeros(0, 3, 64, 64)).shape == (0, 17, 16, 16)


@torch.inference_mode()
@pytest.mark.parametrize("size_hw", [(64, 64), (256, 192), (96, 32)])
def test_heatmaps_have_stride_four_whatever_the_hourglass_halves(size_hw):
    heatmaps = small()(torch.randn(1, 3, *size_hw))
    assert heatmaps.shape == (1, 17, size_hw[0] // 4, size_hw[1] // 4)


@torch.inference_mode()
@pytest.mark.parametrize("stages", [1, 2, 4])
def test_every_stage_but_the_last_is_an_intermediate_prediction(stages):
    network, images = small(stages), torch.randn(2, 3, 64, 64)
    heatmaps = network.forward_all(images)
    assert [tuple(maps.shape) for maps in heatmaps.levels] == [(2, 17, 16, 16)] * (stages - 1)
    assert torch.equal(heatmaps.refined, network(images))


@torch.inference_mode()
def test_a_stage_goes_on_from_the_features_and_the_heatmaps_of_the_one_before():
    network, images = small(2), torch.randn(1, 3, 64, 64)
    before = network.forward_all(images)
    network.heads[0].bias += 1
    after = network.forward_all(images)
    assert torch.allclose(after.levels[0], before.levels[0] + 1, atol=1e-6)
    assert not torch.allclose(after.refined, before.refined)
    network.heatmaps_back[0].weight.zero_()
    blind = network(images)
    network.heads[0].bias -= 1
    assert torch.equal(network(images), blind)
    network.features_back[0].weight += 1
    assert not torch.allclose(network(images), blind)


@torch.inference_mode()
def test_an_hourglass_sees_all_of_its_input_from_every_cell():
    torch.manual_seed(0)
    network = Hourglass(16, depth=4, bottom=2).eval()
    dark = torch.zeros(1, 16, 16, 16)
    lit = dark.clone()
    lit[..., 0, 0] = 10
    assert (network(lit) - network(dark)).abs().sum(dim=1)[0, -1, -1] > 0


def test_blocks_at_the_bottom_are_counted():
    per_bottom = [
        sum(weight.numel() for weight in small(1, bottom=bottom).parameters()) for bottom in (2, 3)
    ]
    # A block of 16 channels: 16*8 + 8*8*9 + 8*16 + 16 weights, and 2*(16 + 8 + 8) of its norms.
    assert per_bottom[1] - per_bottom[0] == 16 * 8 + 8 * 8 * 9 + 8 * 16 + 16 + 2 * (16 + 8 + 8)


@pytest.mark.parametrize(
    ("field", "value"),
    [("stages", 0), ("channels", 0), ("channels", 18), ("depth", 0), ("bottom", 0), ("width", 1)],
)
def test_a_structure_that_does_not_exist_is_an_error_of_the_recipe(field, value, tmp_path):
    recipe = Recipe("odd", tmp_path, {"network": {field: value}})
    with pytest.raises(RecipeError, match=rf"\[network\].*{field}"):
        recipe.table("network", HourglassTable)
