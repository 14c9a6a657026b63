"""A CPN that starts as a simpler network on the same backbone and predicts the same heatmaps.

Function-preserving initialisation: Chen, Goodfellow and Shlens, "Net2Net", ICLR 2016. What a CPN
adds starts without effect: P2 passes on the backbone's features of stride 4; every sum and every
bottleneck that would change it starts at zero.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from posepipe.errors import RecipeError, WeightsError
from posepipe.pose.networks.cpn import CPN
from posepipe.pose.networks.plain import PlainHeatmaps
from posepipe.pose.networks.refinenet import Bottleneck


@torch.no_grad()
def grow(network: CPN, seed: PlainHeatmaps) -> None:
    """Give a CPN weights with which it predicts, at P2 and at the end, what another one predicts.

    With other keypoints than the other one's it predicts nothing at first. The other levels'
    heatmaps start at zero. Batch normalisations of what is new start without
    an effect, and the equality holds as long as they keep their statistics (``frozen_norm``).

    Args:
        network: changed in place.
        seed: on the same backbone, with features of stride 4 that are nowhere negative.

    Raises:
        RecipeError: the CPN's pyramid is narrower than the backbone's features of stride 4.
        WeightsError: another backbone.
    """
    width = seed.head.in_channels
    channels = network.refinenet.final.shortcut[0].out_channels  # type: ignore[index]
    if channels < width:
        raise RecipeError(
            f"network.channels is {channels}, but to start as that model it needs the {width} "
            "channels of its backbone's first features"
        )
    try:
        network.backbone.load_state_dict(seed.backbone.state_dict())
    except RuntimeError:
        raise WeightsError("the model to begin as has another backbone") from None
    for part in (network.globalnet, network.refinenet):
        for module in part.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            elif isinstance(module, nn.BatchNorm2d):
                _without_effect(module)
    scales = _scales(seed)
    for lateral, scale in zip(network.globalnet.laterals, scales, strict=True):
        _weight(lateral, 0).div_(scale)  # type: ignore[arg-type]
    hand_through = torch.eye(width)[:, :, None, None]
    lateral, first = network.globalnet.laterals[0], network.globalnet.heads[0]
    _weight(lateral, 0)[:width] = hand_through / scales[0]  # type: ignore[arg-type]
    if isinstance(network.globalnet.merges[0], nn.Conv2d):
        nn.init.zeros_(network.globalnet.merges[0].weight)
        nn.init.zeros_(network.globalnet.merges[0].bias)  # type: ignore[arg-type]
    else:
        nn.init.zeros_(_weight(network.globalnet.merges[0], 1))  # type: ignore[arg-type]
    _weight(first[0], 0)[:width] = 0  # type: ignore[index]
    _weight(first[0], 0)[:width, :width] = hand_through  # type: ignore[index]
    for module in network.refinenet.modules():
        if isinstance(module, Bottleneck):
            nn.init.zeros_(module.bn3.weight)
            if isinstance(module.shortcut, nn.Sequential):
                nn.init.dirac_(_weight(module.shortcut, 0))
    for head in network.globalnet.heads[1:]:
        nn.init.zeros_(_weight(head[1], 0))  # type: ignore[index]
    shortcut = _weight(network.refinenet.final.shortcut, 0)  # type: ignore[arg-type]
    place = 0 if network.refinenet.concat_order == "C2-C5" else shortcut.shape[1] - channels
    shortcut.zero_()
    shortcut[:, place : place + channels] = torch.eye(channels)[:, :, None, None]
    assert seed.head.bias is not None  # noqa: S101  # see its constructor
    for maps in (first[1], network.refinenet.head):  # type: ignore[index]
        _weight(maps, 0).zero_()
        if len(maps.norm.bias) == len(seed.head.bias):
            _weight(maps, 0)[:, :width, 1, 1] = seed.head.weight[:, :, 0, 0] * scales[0]
            maps.norm.bias.copy_(seed.head.bias)


def _scales(seed: PlainHeatmaps) -> list[float]:
    """The root mean square of the backbone's features of each stride, of an image of noise.

    They differ by orders of magnitude; the pyramid's are all brought near 1.
    """
    noise = torch.randn(1, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    features = seed.backbone.eval()(noise)
    return [float(level.square().mean().sqrt().clamp(min=1e-6)) for level in features]


def _without_effect(norm: nn.BatchNorm2d) -> None:
    """Make a batch normalisation pass its input through, epsilon included."""
    norm.reset_running_stats()
    nn.init.constant_(norm.weight, math.sqrt(1 + norm.eps))
    nn.init.zeros_(norm.bias)


def _weight(layers: nn.Sequential, place: int) -> Tensor:
    weight = layers[place].weight
    assert isinstance(weight, Tensor)  # noqa: S101
    return weight.data
