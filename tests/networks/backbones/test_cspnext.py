"""CSPNeXt and PAFPN: sizes, and what folded normalisations come to."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from posepipe.networks.backbones.cspnext import PAFPN, ConvUnit, CSPNeXt


@pytest.mark.parametrize("norm", [True, False])
def test_the_backbone_halves_its_input_five_times_and_the_pyramid_keeps_sizes(norm):
    backbone = CSPNeXt(norm=norm).eval()
    pyramid = PAFPN(backbone.channels[1:], 24, norm=norm).eval()
    with torch.inference_mode():
        features = backbone(torch.zeros(2, 3, 64, 96))
        levels = pyramid(features[1:])
    assert [tuple(f.shape) for f in features] == [
        (2, channels, 64 // stride, 96 // stride)
        for channels, stride in zip((32, 64, 128, 256), (4, 8, 16, 32), strict=True)
    ]
    assert [tuple(level.shape) for level in levels] == [
        (2, 24, 8, 12),
        (2, 24, 4, 6),
        (2, 24, 2, 3),
    ]


def test_a_wider_and_deeper_backbone_has_more_channels_and_blocks():
    small, large = CSPNeXt(), CSPNeXt(width=0.5, depth=0.67)
    assert large.channels == tuple(2 * channels for channels in small.channels)
    assert [len(stage[-1].blocks) for stage in large.stages] == [2, 4, 4, 2]


def test_every_level_of_the_pyramid_sees_every_level_of_the_backbone():
    channels = (4, 6, 8)
    pyramid = PAFPN(channels, 5).eval()
    levels = [
        torch.randn(1, c, 16 // 2**i, 16 // 2**i, requires_grad=True)
        for i, c in enumerate(channels)
    ]
    for out in pyramid(levels):
        gradients = torch.autograd.grad(out.sum(), levels, retain_graph=True)
        assert all(gradient.abs().sum() > 0 for gradient in gradients)


def test_a_unit_without_norm_is_one_whose_norm_was_folded_into_its_convolution():
    torch.manual_seed(0)
    unit, folded = ConvUnit(3, 5, 3, stride=2).eval(), ConvUnit(3, 5, 3, stride=2, norm=False)
    with torch.no_grad():
        for tensor in (unit.norm.weight, unit.norm.running_var):
            tensor.uniform_(0.5, 2)
        for tensor in (unit.norm.bias, unit.norm.running_mean):
            tensor.normal_()
    fused = nn.utils.fuse_conv_bn_eval(unit.conv, unit.norm)
    folded.conv.load_state_dict(fused.state_dict())
    images = torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(folded(images), unit(images), rtol=1e-4, atol=1e-5)
