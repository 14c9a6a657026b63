"""A network with its batch normalisations folded gives the numbers that it gave."""

from __future__ import annotations

import copy

import pytest
import torch
from norms import used
from torch import nn
from torchvision.ops import FrozenBatchNorm2d

from posepipe.networks.folding import fold_batch_norms
from posepipe.networks.native.backbone import ConvNorm
from posepipe.pose.model import build_pose_network
from posepipe.zoo.recipe import Recipe

NETWORKS = {
    "cpn, lite_hrnet_wider_naive_18": {"backbone": "lite_hrnet_wider_naive_18", "channels": 16},
    "cpn, resnet18": {"backbone": "resnet18", "channels": 16},
    "cpn, resnet50, stride in 1x1": {"backbone": "resnet50", "channels": 16, "stride_in_1x1": True},
    "cpn, mobilenet_v2": {"backbone": "mobilenet_v2", "channels": 16},
    "cpn, timm": {"backbone": "resnet10t", "channels": 16},
    "plain": {"architecture": "plain", "backbone": "mobilenet_v2"},
    "hourglass": {"architecture": "hourglass"},
}


_NORMS = (nn.BatchNorm2d, FrozenBatchNorm2d)


def count(network: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())


@pytest.mark.parametrize("name", NETWORKS)
def test_the_numbers_stay_the_same(name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    tables = {
        "model": {"stage": "pose", "summary": ""},
        "network": NETWORKS[name],
        "preprocessing": {"input_size_wh": [64, 64]},
    }
    torch.manual_seed(0)
    network = used(build_pose_network(Recipe("a", tmp_path_factory.getbasetemp(), tables)))
    images, before = torch.randn(2, 3, 64, 64), count(network)
    with torch.inference_mode():
        wanted = network(images)
        assert fold_batch_norms(network) == before - count(network) > 0
        found = network(images)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4 * float(wanted.abs().max()))
    if name not in ("cpn, timm", "hourglass"):  # a stem in parts; normalises before convolutions
        assert count(network) == 0


def test_frozen_ones_and_a_convolutions_own_are_folded() -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3, bias=False), FrozenBatchNorm2d(4, eps=0.0), ConvNorm(4, 5, 3)
    ).eval()
    for norm in (network[1], network[2].norm):
        norm.running_var.uniform_(0.1, 2)
        norm.running_mean.normal_()
        norm.bias.data.normal_()
    image = torch.randn(1, 3, 7, 7)
    with torch.inference_mode():
        wanted = network(image)
        assert fold_batch_norms(network) == 2
        torch.testing.assert_close(network(image), wanted)
    left = [module for module in network.modules() if isinstance(module, _NORMS)]
    assert not left


def test_what_does_not_follow_a_convolution_stays() -> None:
    class Other(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1, self.bn2 = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)

    network = nn.ModuleList([Other(), nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 3, 1))]).eval()
    unchanged = copy.deepcopy(network)
    assert fold_batch_norms(network) == 0
    assert str(network) == str(unchanged)


def test_a_variance_without_epsilon_can_be_folded() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, eps=0.0)).eval()
    image = torch.randn(1, 3, 5, 5)
    with torch.inference_mode():
        wanted = network(image)
        assert fold_batch_norms(network) == 1
        torch.testing.assert_close(network(image), wanted)
