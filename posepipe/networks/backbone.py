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
from torchvision.models.resnet import Bottleneck

from posepipe.errors import MissingDependencyError, RecipeError, WeightsError

STRIDES = (4, 8, 16, 32)
_NO_BOTTLENECKS = (
    "backbone {!r} has no bottlenecks of torchvision's ResNets: leave out stride_in_1x1 and dilated"
)


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


def build_backbone(
    name: str,
    imagenet_weights: Path | None = None,
    *,
    stride_in_1x1: bool = False,
    dilated_stages: int = 0,
) -> Backbone | TimmBackbone:
    """A trunk by its name in torchvision or timm, with random or ImageNet weights.

    Args:
        name: ``resnet50``, ``resnet101``, ``resnet152``, ``mobilenet_v2``, … or a timm model.
        imagenet_weights: a safetensors state dict of the whole classifier; its last layer is left
            out. None: random weights.
        stride_in_1x1: bottlenecks that halve their input do so in their first 1x1 convolution, as
            in the first ResNets and in the paper's multiply-adds; torchvision's, and the two public
            CPN code bases', do so in the 3x3 one. For torchvision's ResNets with bottlenecks.
        dilated_stages: how many of the last stages keep their input's size and dilate their
            convolutions instead. For the same ResNets.

    Raises:
        RecipeError: neither library knows the name, the model lacks one of the four strides, or it
            has no bottlenecks to change.
        MissingDependencyError: the name is not torchvision's and timm is not installed.
        WeightsError: the weights are of another network.
    """
    if name.startswith(("resnet", "resnext", "wide_resnet")) and hasattr(torchvision.models, name):
        return _resnet(name, imagenet_weights, stride_in_1x1, dilated_stages)
    if stride_in_1x1 or dilated_stages:
        raise RecipeError(_NO_BOTTLENECKS.format(name))
    if name == "mobilenet_v2":
        mobilenet = torchvision.models.mobilenet_v2(weights=None)
        _load_classifier_weights(mobilenet, name, imagenet_weights)
        features = mobilenet.features
        # Taps before each halving; the last convolution, to 1,280 channels, is the classifier's.
        stages = [features[:4], features[4:7], features[7:14], features[14:18]]
        return Backbone(stages, _measure_channels(stages))
    return TimmBackbone(name, imagenet_weights)


def _resnet(
    name: str, imagenet_weights: Path | None, stride_in_1x1: bool, dilated_stages: int
) -> Backbone:
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
    _load_classifier_weights(resnet, name, imagenet_weights)
    stem = nn.Sequential(resnet.conv1, resnet.bn1, resnet.relu, resnet.maxpool, resnet.layer1)
    stages = [stem, resnet.layer2, resnet.layer3, resnet.layer4]
    return Backbone(stages, _measure_channels(stages))


class TimmBackbone(nn.Module):
    """Any timm model that has features at strides 4, 8, 16 and 32.

    Where a network's convolutions and poolings have no padding, so that its features come out
    smaller than a quarter, an eighth, … of the input (Inception), they are padded by half their
    kernel: every feature then lies where the pyramid expects it, and the weights stay the same.
    TF-slim's Inception-ResNet-v2 has an option for much the same, ``align_feature_maps``.

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
            with torch.device("meta"):  # for its shapes alone: no numbers are drawn
                levels: Any = timm.create_model(name, features_only=True, pretrained=False)
        except (RuntimeError, AttributeError) as error:
            raise RecipeError(f"no backbone {name!r} in torchvision or timm ({error})") from None
        strides, places = levels.feature_info.reduction(), levels.feature_info.out_indices
        if not set(STRIDES) <= set(strides):
            raise RecipeError(f"backbone {name!r} has strides {strides}, needed are {STRIDES}")
        chosen: dict[str, Any] = {
            "features_only": True,
            "pretrained": False,
            "out_indices": [places[strides.index(stride)] for stride in STRIDES],
        }
        with torch.device("meta"):
            shapes: nn.Module = timm.create_model(name, **chosen).eval()
        body: Any = timm.create_model(name, **chosen)
        if not _fits(shapes):
            _pad(shapes)
            _pad(body)
            if not _fits(shapes):
                raise RecipeError(
                    f"backbone {name!r} does not make features of exactly the strides {STRIDES} "
                    "of crops of any size: choose another"
                )
        self.channels: tuple[int, ...] = tuple(body.feature_info.channels())
        self.body: nn.Module = body
        _load_classifier_weights(self.body, name, imagenet_weights)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Features of (B, 3, H, W) images: four tensors (B, C, H/stride, W/stride)."""
        return list(self.body(images))


def _fits(trunk: nn.Module) -> bool:
    """Whether a trunk on the meta device gives features of exactly the strides wanted."""
    height, width = 256, 192
    try:
        features = trunk(torch.zeros(1, 3, height, width, device="meta"))
    except (AssertionError, RuntimeError, ValueError):  # transformers for one size of input
        return False
    found = [tuple(level.shape[-2:]) for level in features]
    return found == [(height // stride, width // stride) for stride in STRIDES]


def _pad(network: nn.Module) -> None:
    """Pad what has no padding by half its kernel, in place."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and module.padding == (0, 0):
            module.padding = (module.kernel_size[0] // 2, module.kernel_size[1] // 2)
        elif isinstance(module, nn.MaxPool2d | nn.AvgPool2d) and module.padding == 0:
            kernel = module.kernel_size
            module.padding = (kernel if isinstance(kernel, int) else kernel[0]) // 2


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
