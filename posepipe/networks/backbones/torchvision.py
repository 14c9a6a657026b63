"""Backbones from torchvision: its ResNets and MobileNetV2, cut into four stages."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
import torchvision
from torch import Tensor, nn
from torchvision.models.resnet import Bottleneck

from posepipe.errors import RecipeError
from posepipe.networks.backbones.base import Backbone
from posepipe.networks.backbones.classifier import load_classifier_weights

NO_BOTTLENECKS = (
    "backbone {!r} has no bottlenecks of torchvision's ResNets: leave out stride_in_1x1 and dilated"
)


class StagedBackbone(Backbone):
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


def is_resnet(name: str) -> bool:
    """Whether torchvision has a ResNet, ResNeXt or wide ResNet of this name."""
    return name.startswith(("resnet", "resnext", "wide_resnet")) and hasattr(
        torchvision.models, name
    )


def resnet_backbone(
    name: str, imagenet_weights: Path | None, stride_in_1x1: bool, dilated_stages: int
) -> StagedBackbone:
    """A ResNet, ResNeXt or wide ResNet; arguments and errors as `build_backbone`."""
    dilated = [stage >= 3 - dilated_stages for stage in range(3)]
    try:
        resnet = torchvision.models.get_model(
            name, weights=None, replace_stride_with_dilation=dilated
        )
    except NotImplementedError:
        raise RecipeError(NO_BOTTLENECKS.format(name)) from None
    if stride_in_1x1:
        for layer in (resnet.layer2, resnet.layer3, resnet.layer4):
            first = layer[0]
            if not isinstance(first, Bottleneck):
                raise RecipeError(NO_BOTTLENECKS.format(name))
            first.conv1.stride, first.conv2.stride = first.conv2.stride, first.conv1.stride
    load_classifier_weights(resnet, name, imagenet_weights)
    stem = nn.Sequential(resnet.conv1, resnet.bn1, resnet.relu, resnet.maxpool, resnet.layer1)
    stages = [stem, resnet.layer2, resnet.layer3, resnet.layer4]
    return StagedBackbone(stages, _measure_channels(stages))


def mobilenet_backbone(imagenet_weights: Path | None) -> StagedBackbone:
    """MobileNetV2 without its last convolution, which is the classifier's."""
    mobilenet = torchvision.models.mobilenet_v2(weights=None)
    load_classifier_weights(mobilenet, "mobilenet_v2", imagenet_weights)
    features = mobilenet.features
    stages = [features[:4], features[4:7], features[7:14], features[14:18]]  # before each halving
    return StagedBackbone(stages, _measure_channels(stages))


@torch.no_grad()
def _measure_channels(stages: Sequence[nn.Module]) -> list[int]:
    """The channels after each stage, found by running a tiny image through them."""
    features, channels = torch.zeros(1, 3, 32, 32), []
    for stage in stages:
        was_training = stage.training
        features = stage.eval()(features)
        stage.train(was_training)
        channels.append(features.shape[1])
    return channels
