"""Trunks: crops in, features at strides 4, 8, 16 and 32 out (C2 to C5 of the paper).

torchvision's ResNets and MobileNetV2 are cut into four stages; every other name is looked up in
timm (the extra ``posepipe[timm]``).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torchvision
from safetensors.torch import load_file
from torch import Tensor, nn

from posepipe.errors import MissingDependencyError, RecipeError, WeightsError

STRIDES = (4, 8, 16, 32)


class Backbone(nn.Module):
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


def build_backbone(name: str, imagenet_weights: Path | None = None) -> Backbone | TimmBackbone:
    """A trunk by its name in torchvision or timm, with random or ImageNet weights.

    Args:
        name: ``resnet50``, ``resnet101``, ``resnet152``, ``mobilenet_v2``, … or a timm model.
        imagenet_weights: a safetensors state dict of the whole classifier; its last layer is left
            out. None: random weights.

    Raises:
        RecipeError: neither library knows the name, or the model lacks one of the four strides.
        MissingDependencyError: the name is not torchvision's and timm is not installed.
        WeightsError: the weights are of another network.
    """
    if name.startswith(("resnet", "resnext", "wide_resnet")) and hasattr(torchvision.models, name):
        resnet = torchvision.models.get_model(name, weights=None)
        _load_classifier_weights(resnet, name, imagenet_weights)
        stem = nn.Sequential(resnet.conv1, resnet.bn1, resnet.relu, resnet.maxpool, resnet.layer1)
        stages = [stem, resnet.layer2, resnet.layer3, resnet.layer4]
        return Backbone(stages, _measure_channels(stages))
    if name == "mobilenet_v2":
        mobilenet = torchvision.models.mobilenet_v2(weights=None)
        _load_classifier_weights(mobilenet, name, imagenet_weights)
        features = mobilenet.features
        # Taps before each halving; the last convolution, to 1,280 channels, is the classifier's.
        stages = [features[:4], features[4:7], features[7:14], features[14:18]]
        return Backbone(stages, _measure_channels(stages))
    return TimmBackbone(name, imagenet_weights)


class TimmBackbone(nn.Module):
    """Any timm model that has features at strides 4, 8, 16 and 32.

    Attributes:
        channels: the number of channels of C2, C3, C4, C5.
    """

    def __init__(self, name: str, imagenet_weights: Path | None = None) -> None:
        super().__init__()
        try:
            import timm
        except ModuleNotFoundError:
            raise MissingDependencyError(
                f"backbone {name!r} is not torchvision's; for timm's: pip install 'posepipe[timm]'"
            ) from None
        try:
            levels: Any = timm.create_model(name, features_only=True, pretrained=False)
        except (RuntimeError, AttributeError) as error:
            raise RecipeError(f"no backbone {name!r} in torchvision or timm ({error})") from None
        strides = levels.feature_info.reduction()
        if not set(STRIDES) <= set(strides):
            raise RecipeError(f"backbone {name!r} has strides {strides}, needed are {STRIDES}")
        indices = [strides.index(stride) for stride in STRIDES]
        body: Any = timm.create_model(
            name, features_only=True, pretrained=False, out_indices=indices
        )
        self.channels: tuple[int, ...] = tuple(body.feature_info.channels())
        self.body: nn.Module = body
        _load_classifier_weights(self.body, name, imagenet_weights)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Features of (B, 3, H, W) images: four tensors (B, C, H/stride, W/stride)."""
        return list(self.body(images))


def _load_classifier_weights(network: nn.Module, name: str, file: Path | None) -> None:
    if file is None:
        return
    wanted = network.state_dict()
    given = {
        key: value.to(wanted[key].dtype)
        for key, value in load_file(file).items()
        if key in wanted and value.shape == wanted[key].shape
    }
    missing = [
        key
        for key in wanted
        if key not in given
        and not key.startswith(("fc.", "classifier."))
        and not key.endswith("num_batches_tracked")
    ]
    if missing:
        raise WeightsError(
            f"{file} is not of backbone {name!r}: {missing[0]} is missing or differs"
        )
    network.load_state_dict(given, strict=False)


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
