"""What a model costs: its size, and the multiply-adds of one pass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from posepipe.detection.networks import NetworkTable, build_network
from posepipe.detection.torchvision import Preprocessing
from posepipe.pose.crops import PreprocessingTable
from posepipe.pose.model import build_pose_network
from posepipe.zoo.recipe import Recipe


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
    """What a recipe's network costs: a crop's pass, or a 4:3 picture's; None for detectron2.

    A detector's second stage costs according to how many boxes it looks at; with the random
    weights used here that is about as many as the recipe allows.

    Raises:
        RecipeError: the recipe has a wrong field.
    """
    network: nn.Module
    example: Tensor | list[Tensor]
    if recipe.model.stage == "pose":
        # On torch's meta device shapes alone are worked out, in no time.
        with torch.device("meta"):
            network = build_pose_network(recipe)
            width, height = recipe.table("preprocessing", PreprocessingTable).input_size_wh
            example = torch.zeros(1, 3, height, width)
    else:
        if recipe.tables.get("detector", {}).get("backend") == "detectron2":
            return None
        detector: Any = build_network(recipe.table("network", NetworkTable))
        table = recipe.table("preprocessing", Preprocessing)
        height = min(table.short_side, table.long_side * 3 // 4)
        width = height * 4 // 3
        detector.transform.min_size, detector.transform.max_size = (height,), width
        network = detector
        example = [torch.rand(3, height, width, generator=torch.Generator().manual_seed(0))]
    parameters = sum(parameter.numel() for parameter in network.parameters())
    if recipe.model.stage == "pose":
        _drop_norms(network)
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        network.eval()(example)
    return Cost(parameters * 4 / 2**20, counter.get_total_flops() / 2 / 2**30, (width, height))


def _drop_norms(network: nn.Module) -> None:
    """Leave out batch normalisations, in place: nothing of them is counted, but they take long."""
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.BatchNorm2d):
                setattr(module, name, nn.Identity())
