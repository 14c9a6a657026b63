"""A ResNet with heatmaps on its last features, dilated or not."""

from __future__ import annotations

import pytest
import torch

from posepipe.errors import RecipeError
from posepipe.pose.networks.resnet import DilatedResNet, ResNetTable
from posepipe.zoo.recipe import Recipe


@torch.inference_mode()
def test_no_crops_give_no_heatmaps():
    network = DilatedResNet(ResNetTable(backbone="resnet18", channels=16)).eval()
    assert network(torch.zeros(0, 3, 64, 64)).shape == (0, 17, 2, 2)


@pytest.mark.parametrize(
    ("dilated", "stride"), [("none", 32), ("res5", 16), ("res4-5", 8), ("res3-5", 4)]
)
def test_heatmaps_have_the_stride_of_what_is_not_dilated(dilated, stride):
    with torch.device("meta"):
        network = DilatedResNet(ResNetTable(dilated=dilated)).eval()
        heatmaps = network.forward_all(torch.zeros(2, 3, 256, 192))
    assert network.stride == stride
    assert heatmaps.levels == []
    assert heatmaps.refined.shape == (2, 17, 256 // stride, 192 // stride)


def test_dilation_changes_no_weight():
    with torch.device("meta"):
        shapes = [
            {
                key: value.shape
                for key, value in DilatedResNet(ResNetTable(dilated=d)).state_dict().items()
            }
            for d in ("none", "res3-5")
        ]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize(
    ("field", "value"), [("dilated", "res2-5"), ("stages", 8), ("refine_bottlenecks", [0])]
)
def test_a_structure_that_does_not_exist_is_an_error_of_the_recipe(field, value, tmp_path):
    recipe = Recipe("odd", tmp_path, {"network": {"architecture": "resnet", field: value}})
    with pytest.raises(RecipeError, match=rf"\[network\].*{field}"):
        recipe.table("network", ResNetTable)
