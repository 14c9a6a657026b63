from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from posepipe.detection.networks import MobileNetV2FPN, compact_detector
from posepipe.detection.torchvision import Preprocessing
from posepipe.zoo.recipe import Recipe, load_recipe

SMALL = Preprocessing(short_side=96, long_side=160)

RECIPE = """
[model]
stage = "detection"
summary = "a small one for tests"

[network]
architecture = "fasterrcnn_mobilenet_v2_fpn"
classes = 5
channels = 16
proposals = 60

[preprocessing]
short_side = 96
long_side = 160
"""


@pytest.fixture
def small() -> Preprocessing:
    """Preprocessing for images of a hundred pixels."""
    return SMALL


@pytest.fixture
def random_network() -> Callable[[], torch.nn.Module]:
    """Makes the same small Faster R-CNN of 5 classes anew, with random weights."""

    def make() -> torch.nn.Module:
        torch.manual_seed(4)
        network = compact_detector(MobileNetV2FPN(16), classes=5, proposals=60)
        # Random weights alone give equal scores everywhere; larger ones tell boxes apart.
        with torch.no_grad():
            network.roi_heads.box_predictor.cls_score.weight.mul_(30)
            network.roi_heads.box_predictor.bbox_pred.weight.mul_(20)
        return network.eval()

    return make


@pytest.fixture
def an_image() -> Callable[..., np.ndarray]:
    """Makes a colourful image of a given width and height."""

    def make(width: int, height: int, seed: int = 0) -> np.ndarray:
        random = np.random.default_rng(seed)
        coarse = random.integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8)
        return np.repeat(np.repeat(coarse, 8, axis=0), 8, axis=1)[:height, :width].copy()

    return make


@pytest.fixture
def model_folder(tmp_path: Path, random_network) -> Recipe:
    """A small detector's folder, with recipe and weights."""
    folder = tmp_path / "small-detector"
    folder.mkdir()
    (folder / "recipe.toml").write_text(RECIPE)
    save_file(random_network().state_dict(), folder / "weights.safetensors")
    return load_recipe(folder)
