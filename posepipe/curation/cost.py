"""What a model costs: its size, and the multiply-adds of one pass."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from posepipe.detection.backends import backend_of
from posepipe.detection.candidates import Origin
from posepipe.pose.crops import PreprocessingTable
from posepipe.pose.model import build_pose_network
from posepipe.pose.networks.build import backend_of as pose_backend
from posepipe.zoo.recipe import Recipe

if TYPE_CHECKING:
    from torch.utils.flop_counter import FlopCounterMode

_IMAGE_WH = (640, 480)  # an image for detectors


@dataclass(frozen=True)
class Cost:
    """What a network costs.

    Attributes:
        parameters_mb: fp32 parameters in MB of 2^20 bytes, as the paper's table 3 counts.
        multiply_adds_g: of convolutions and matrix products, in units of 2^30, for one input.
        input_wh: width and height of that input.
    """

    parameters_mb: float
    multiply_adds_g: float
    input_wh: tuple[int, int]


def model_cost(recipe: Recipe) -> Cost | None:
    """What a recipe's network costs: a crop's pass, or a 4:3 image's.

    None for networks that another library builds: detectron2's, and those in files.

    A detector's second stage costs according to how many boxes it looks at; with the random
    weights used here that is about as many as the recipe allows.

    Raises:
        RecipeError: the recipe has a wrong field.
    """
    if recipe.model.stage == "detection":
        return _detector_cost(recipe)
    return None if pose_backend(recipe) else _pose_cost(recipe)


def _pose_cost(recipe: Recipe) -> Cost:
    # On torch's meta device only shapes are worked out, in no time.
    with torch.device("meta"):
        network = build_pose_network(recipe)
        size_wh = recipe.table("preprocessing", PreprocessingTable).input_size_wh
        example = torch.zeros(1, 3, size_wh[1], size_wh[0])
    parameters = _parameters(network)
    _drop_norms(network)
    with _counter() as counter, torch.inference_mode():
        network.eval()(example)
    return _cost(parameters, counter, size_wh)


def _detector_cost(recipe: Recipe) -> Cost | None:
    backend = backend_of(recipe)
    network = backend.build(recipe)
    if network is None:
        return None
    parameters = _parameters(network)
    origin, device = Origin(recipe.name, "", ""), torch.device("cpu")
    detector = backend.detector(network, recipe, origin=origin, device=device, dtype=torch.float32)
    width, height = _IMAGE_WH
    ready = detector.prepare(
        np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    )
    with _counter() as counter:
        detector([ready])
    input_h, input_w = ready.pixels.shape[:2]
    return _cost(parameters, counter, (input_w, input_h))


def _parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def _counter() -> FlopCounterMode:
    """A counter; without Triton, which only GPUs need, its module warns as it is imported."""
    logging.getLogger("torch.utils.flop_counter").setLevel(logging.ERROR)
    from torch.utils.flop_counter import FlopCounterMode

    return FlopCounterMode(display=False)


def _cost(parameters: int, counter: FlopCounterMode, input_wh: tuple[int, int]) -> Cost:
    multiply_adds = counter.get_total_flops() / 2
    return Cost(parameters * 4 / 2**20, multiply_adds / 2**30, input_wh)


def _drop_norms(network: nn.Module) -> None:
    """Leave out batch normalisations, in place: they count for nothing but take long."""
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.BatchNorm2d):
                setattr(module, name, nn.Identity())
