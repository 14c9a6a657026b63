"""Trunks by their names, for both stages.

Those written here stand in `TRUNKS`; torchvision's ResNets and MobileNetV2 are cut into four
stages; every other name is looked up in timm (the extra ``posepipe[timm]``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
import torchvision
from torch import Tensor, nn
from torchvision.models.resnet import Bottleneck

from posepipe.errors import RecipeError
from posepipe.networks.classifier import load_classifier_weights
from posepipe.networks.cspnext import CSPNeXt
from posepipe.networks.lite_hrnet import LiteHRNet
from posepipe.networks.timm_trunk import TimmTrunk
from posepipe.networks.trunk import Trunk

TRUNKS: Mapping[str, Callable[[], Trunk]] = {
    "cspnext_nano": CSPNeXt,
    "lite_hrnet_wider_naive_18": LiteHRNet,
}
"""Trunks that are written here, with random weights."""

_NO_BOTTLENECKS = (
    "backbone {!r} has no bottlenecks of torchvision's ResNets: leave out stride_in_1x1 and dilated"
)


class StagedTrunk(Trunk):
    """Four stages that run one after the other, each one's output being a tap.

    Attributes:
        channels: the number of channels of C2, C3, C4, C5.
    """

    def __init__(self, stages: Sequence[nn.Module], channels: Sequence[int]) -> None:
        super().__init__()
        self.stages = nn.ModuleList(stages)
        self.channels = tuple(channels)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Features of (B, 3, H, W) images: four tensors (B, C, H/stride, W/stride)."""
        features = []
        for stage in self.stages:
            images = stage(images)
            features.append(images)
        return features


def build_backbone(
    name: str,
    imagenet_weights: Path | None = None,
    *,
    stride_in_1x1: bool = False,
    dilated_stages: int = 0,
) -> Trunk:
    """A trunk by its name here, in torchvision or in timm, with random or ImageNet weights.

    Args:
        name: one of `TRUNKS`, ``resnet50``, ``mobilenet_v2``, … or a timm model.
        imagenet_weights: a safetensors state dict of the whole classifier; its last layer is left
            out. None: random weights.
        stride_in_1x1: bottlenecks that halve their input do so in their first 1x1 convolution, as
            in the first ResNets and in the paper's multiply-adds; torchvision's, and the two public
            CPN code bases', do so in the 3x3 one. For torchvision's ResNets with bottlenecks.
        dilated_stages: how many of the last stages keep their input's size and dilate their
            convolutions instead. For the same ResNets.

    Raises:
        RecipeError: the name is unknown, the model lacks one of the four strides, or it
            has no bottlenecks to change.
        MissingDependencyError: the name is not torchvision's and timm is not installed.
        WeightsError: the weights are of another network.
    """
    if name.startswith(("resnet", "resnext", "wide_resnet")) and hasattr(torchvision.models, name):
        return _resnet(name, imagenet_weights, stride_in_1x1, dilated_stages)
    if stride_in_1x1 or dilated_stages:
        raise RecipeError(_NO_BOTTLENECKS.format(name))
    if name in TRUNKS:
        trunk = TRUNKS[name]()
        load_classifier_weights(trunk, name, imagenet_weights)
        return trunk
    if name == "mobilenet_v2":
        mobilenet = torchvision.models.mobilenet_v2(weights=None)
        load_classifier_weights(mobilenet, name, imagenet_weights)
        features = mobilenet.features
        # Taps before each halving; the last convolution, to 1,280 channels, is the classifier's.
        stages = [features[:4], features[4:7], features[7:14], features[14:18]]
        return StagedTrunk(stages, _measure_channels(stages))
    return TimmTrunk(name, imagenet_weights)


def _resnet(
    name: str, imagenet_weights: Path | None, stride_in_1x1: bool, dilated_stages: int
) -> StagedTrunk:
    dilated = [stage >= 3 - dilated_stages for stage in range(3)]
    try:
        resnet = torchvision.models.get_model(
            name, weights=None, replace_stride_with_dilation=dilated
        )
    except NotImplementedError:
        raise RecipeError(_NO_BOTTLENECKS.format(name)) from None
    if stride_in_1x1:
        for layer in (resnet.layer2, resnet.layer3, resnet.layer4):
            first = layer[0]
            if not isinstance(first, Bottleneck):
                raise RecipeError(_NO_BOTTLENECKS.format(name))
            first.conv1.stride, first.conv2.stride = first.conv2.stride, first.conv1.stride
    load_classifier_weights(resnet, name, imagenet_weights)
    stem = nn.Sequential(resnet.conv1, resnet.bn1, resnet.relu, resnet.maxpool, resnet.layer1)
    stages = [stem, resnet.layer2, resnet.layer3, resnet.layer4]
    return StagedTrunk(stages, _measure_channels(stages))


@torch.no_grad()
def _measure_channels(stages: Sequence[nn.Module]) -> list[int]:
    """The channels after each stage, found by running a tiny picture through them."""
    features, channels = torch.zeros(1, 3, 32, 32), []
    for stage in stages:
        was_training = stage.training
        features = stage.eval()(features)
        stage.train(was_training)
        channels.append(features.shape[1])
    return channels
