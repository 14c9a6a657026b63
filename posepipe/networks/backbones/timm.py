"""Backbones from timm (the extra ``posepipe[timm]``)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from posepipe.errors import MissingDependencyError, RecipeError
from posepipe.networks.backbones.base import STRIDES, Backbone
from posepipe.networks.backbones.classifier import load_classifier_weights


class TimmBackbone(Backbone):
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
        # Of create_model's names "hf-hub:…" opens a connection, "local-dir:…" reads any folder.
        if not re.fullmatch(r"\w+(\.\w+)?", name, re.ASCII) or not timm.is_model(name):
            raise RecipeError(f"no backbone {name[:100]!r} in torchvision or timm")
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
        self.channels = tuple(body.feature_info.channels())
        self.body: nn.Module = body
        load_classifier_weights(self.body, name, imagenet_weights)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Features of (B, 3, H, W) images: four tensors (B, C, H/stride, W/stride)."""
        return list(self.body(images))


def _fits(backbone: nn.Module) -> bool:
    """Whether a backbone on the meta device gives features of exactly the strides wanted."""
    height, width = 256, 192
    try:
        features = backbone(torch.zeros(1, 3, height, width, device="meta"))
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
