"""From a name to a backbone.

Those written here stand in `BACKBONES`; torchvision's ResNets and MobileNetV2 are cut into four
stages; every other name is looked up in timm (the extra ``posepipe[timm]``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from posepipe.errors import RecipeError
from posepipe.networks.backbones.base import Backbone
from posepipe.networks.backbones.classifier import load_classifier_weights
from posepipe.networks.backbones.cspnext import CSPNeXt
from posepipe.networks.backbones.lite_hrnet import LiteHRNet
from posepipe.networks.backbones.timm import TimmBackbone

BACKBONES: Mapping[str, Callable[[], Backbone]] = {
    "cspnext_nano": CSPNeXt,
    "lite_hrnet_wider_naive_18": LiteHRNet,
}
"""Backbones that are written here, with random weights."""


def build_backbone(
    name: str,
    imagenet_weights: Path | None = None,
    *,
    stride_in_1x1: bool = False,
    dilated_stages: int = 0,
) -> Backbone:
    """A backbone by its name here, in torchvision or in timm, with random or ImageNet weights.

    Args:
        name: one of `BACKBONES`, ``resnet50``, ``mobilenet_v2``, … or a timm model.
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
    if name in BACKBONES and not (stride_in_1x1 or dilated_stages):
        backbone = BACKBONES[name]()
        load_classifier_weights(backbone, name, imagenet_weights)
        return backbone
    # Torchvision takes seconds and 170 MB to import; the models that ship do without it.
    from posepipe.networks.backbones import torchvision

    if torchvision.is_resnet(name):
        return torchvision.resnet_backbone(name, imagenet_weights, stride_in_1x1, dilated_stages)
    if stride_in_1x1 or dilated_stages:
        raise RecipeError(torchvision.NO_BOTTLENECKS.format(name))
    if name == "mobilenet_v2":
        return torchvision.mobilenet_backbone(imagenet_weights)
    return TimmBackbone(name, imagenet_weights)
