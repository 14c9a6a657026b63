"""GlobalNet and its three ways of enlarging features."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from posepipe.pose.networks.globalnet import GlobalNet, upsample

WAYS = ["half_pixel", "align_corners", "tf1"]


def enlarged_by_a_loop(features, height, width, source_of):
    """Bilinear samples one by one; `source_of(target, source_size, target_size)` places them."""
    h, w = features.shape[-2:]
    result = torch.zeros(*features.shape[:2], height, width)
    for y in range(height):
        for x in range(width):
            v = min(max(source_of(y, h, height), 0.0), h - 1.0)
            u = min(max(source_of(x, w, width), 0.0), w - 1.0)
            top, left = math.floor(v), math.floor(u)
            bottom, right = min(top + 1, h - 1), min(left + 1, w - 1)
            below, across = v - top, u - left
            result[..., y, x] = (
                features[..., top, left] * (1 - below) * (1 - across)
                + features[..., top, right] * (1 - below) * across
                + features[..., bottom, left] * below * (1 - across)
                + features[..., bottom, right] * below * across
            )
    return result


SOURCES = {
    "half_pixel": lambda target, source, size: (target + 0.5) * source / size - 0.5,
    "align_corners": lambda target, source, size: target * (source - 1) / (size - 1),
    "tf1": lambda target, source, size: target * source / size,
}


@pytest.mark.parametrize("size_hw", [(6, 8), (12, 8), (24, 32)])
@pytest.mark.parametrize("way", WAYS)
def test_upsampling_equals_its_definition(way, size_hw):
    features = torch.randn(2, 3, 3, 4, generator=torch.Generator().manual_seed(0))
    expected = enlarged_by_a_loop(features, *size_hw, SOURCES[way])
    assert torch.allclose(upsample(features, size_hw, way), expected, atol=1e-5)


@pytest.mark.parametrize(("way", "aligned"), [("half_pixel", False), ("align_corners", True)])
def test_upsampling_equals_torchs_own_where_torch_has_it(way, aligned):
    features = torch.randn(2, 3, 8, 6)
    own = F.interpolate(features, size=(32, 24), mode="bilinear", align_corners=aligned)
    assert torch.equal(upsample(features, (32, 24), way), own)


@pytest.mark.parametrize("way", WAYS)
def test_features_of_the_size_wanted_stay_as_they_are(way):
    features = torch.randn(1, 2, 5, 7)
    assert upsample(features, (5, 7), way) is features


@pytest.mark.parametrize("way", WAYS)
def test_no_features_stay_none(way):
    assert upsample(torch.zeros(0, 4, 3, 4), (6, 8), way).shape == (0, 4, 6, 8)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("merge", ["batch_norm", "bias"])
def test_every_level_is_half_as_large_and_all_heatmaps_are_of_stride_four(merge, way):
    network = GlobalNet((8, 12, 16, 20), channels=6, keypoints=17, merge=merge, upsampling=way)
    features = [torch.randn(2, c, 16 // 2**i, 24 // 2**i) for i, c in enumerate((8, 12, 16, 20))]
    pyramid = network(features)
    assert [tuple(level.shape) for level in pyramid] == [
        (2, 6, 16 // 2**i, 24 // 2**i) for i in range(4)
    ]
    assert [tuple(maps.shape) for maps in network.heatmaps(pyramid)] == [(2, 17, 16, 24)] * 4


@pytest.mark.parametrize(("merge", "has_norm"), [("batch_norm", True), ("bias", False)])
def test_what_follows_the_convolution_before_a_sum_is_the_recipes_choice(merge, has_norm):
    network = GlobalNet(
        (8, 8, 8, 8), channels=6, keypoints=17, merge=merge, upsampling="half_pixel"
    )
    assert len(network.merges) == 3
    for step in network.merges:
        convolution = step[0] if has_norm else step
        assert any(isinstance(part, nn.BatchNorm2d) for part in step.modules()) == has_norm
        assert (convolution.bias is None) == has_norm
        assert convolution.kernel_size == (1, 1)


def test_deep_features_reach_every_level_and_shallow_ones_only_their_own():
    torch.manual_seed(0)
    network = GlobalNet(
        (8, 8, 8, 8), channels=6, keypoints=17, merge="bias", upsampling="half_pixel"
    ).eval()
    features = [torch.randn(1, 8, 16 // 2**i, 16 // 2**i) for i in range(4)]
    before = network(features)
    for changed in range(4):
        others = [level + (i == changed) for i, level in enumerate(features)]
        differs = [not torch.equal(a, b) for a, b in zip(before, network(others), strict=True)]
        assert differs == [level <= changed for level in range(4)]
