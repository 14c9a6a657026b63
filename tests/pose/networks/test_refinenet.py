"""RefineNet and its bottleneck."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from posepipe.pose.networks.refinenet import Bottleneck, RefineNet


def pyramid(people=2, channels=8, side=16):
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randn(people, channels, side // 2**i, side // 2**i, generator=generator)
        for i in range(4)
    ]


def refinenet(**changes):
    torch.manual_seed(0)
    choices = {
        "channels": 8,
        "keypoints": 17,
        "bottlenecks": (0, 1, 2, 3),
        "shortcut": "identity",
        "concat_order": "C2-C5",
        "upsampling": "half_pixel",
    }
    return RefineNet(**(choices | changes)).eval()


@pytest.mark.parametrize(
    ("in_channels", "channels", "shortcut", "projects"),
    [
        (8, 8, "identity", False),
        (32, 8, "identity", True),
        (8, 8, "projection", True),
        (32, 8, "projection", True),
    ],
)
def test_a_bottleneck_projects_where_it_must_or_is_told_to(
    in_channels, channels, shortcut, projects
):
    block = Bottleneck(in_channels, channels, shortcut=shortcut)
    assert isinstance(block.shortcut, nn.Identity) != projects
    assert block(torch.randn(2, in_channels, 5, 7)).shape == (2, channels, 5, 7)
    assert block.conv2.in_channels == channels // 2


def test_a_bottleneck_that_says_nothing_hands_its_input_on():
    block = Bottleneck(8, 8, shortcut="identity").eval()
    nn.init.zeros_(block.bn3.weight)
    features = torch.rand(1, 8, 5, 7)  # positive, as after a ReLU
    assert torch.equal(block(features), features)


@pytest.mark.parametrize("bottlenecks", [(0, 0, 0, 0), (1, 1, 1, 1), (0, 1, 2, 3)])
def test_there_are_as_many_bottlenecks_on_each_level_as_the_recipe_says(bottlenecks):
    network = refinenet(bottlenecks=bottlenecks)
    assert tuple(len(level) for level in network.levels) == bottlenecks
    assert network(pyramid()).shape == (2, 17, 16, 16)


def test_fewer_levels_can_be_used():
    # The paper's table 5: RefineNet on C2 to C3 alone.
    network = refinenet(bottlenecks=(0, 1))
    assert network(pyramid()[:2]).shape == (2, 17, 16, 16)


def test_the_other_order_of_levels_is_the_same_network_with_its_channels_permuted():
    one, other = refinenet(), refinenet(concat_order="C5-C2")
    other.load_state_dict(one.state_dict())
    assert not torch.allclose(one(pyramid()), other(pyramid()))
    with torch.no_grad():
        for convolution in (other.final.conv1, other.final.shortcut[0]):
            by_level = convolution.weight.view(
                8 if convolution.out_channels == 8 else 4, 4, 8, 1, 1
            )
            convolution.weight.copy_(by_level.flip(1).flatten(1, 2))
    assert torch.allclose(one(pyramid()), other(pyramid()), atol=1e-5)


@pytest.mark.parametrize("way", ["align_corners", "tf1"])
def test_how_levels_are_enlarged_changes_the_answer_but_not_its_shape(way):
    plain, changed = refinenet()(pyramid()), refinenet(upsampling=way)(pyramid())
    assert changed.shape == plain.shape
    assert not torch.allclose(changed, plain)
