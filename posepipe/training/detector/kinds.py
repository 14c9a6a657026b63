"""What differs between the kinds of detectors that can be trained, by their backends."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN

from posepipe.detection.candidates import DetectorTable
from posepipe.detection.networks import NetworkTable, backbone_stages, load_imagenet
from posepipe.detection.rtmdet import RTMDetPreprocessing
from posepipe.detection.rtmdet_network import RTMDet, RTMDetTable
from posepipe.detection.torchvision import UNUSED_HEADS, Preprocessing
from posepipe.errors import RecipeError
from posepipe.training.detector.batches import DetectionBatch
from posepipe.training.detector.dense_losses import DenseLosses, box_counts
from posepipe.training.detector.losses import DetectorLosses, image_counts
from posepipe.training.detector.table import DetectorTrainingTable
from posepipe.zoo.recipe import Recipe
from posepipe.zoo.weights import fit_state, read_state


@dataclass(frozen=True)
class Kind:
    """How detectors of one backend are trained.

    Attributes:
        losses: the module that is run, of a network, recipe, table ``[training]`` and the number
            format of convolutions.
        counts: what each loss of a batch will be divided by, which the labels alone determine.
        classes: of the network, background included.
        sizes: of whole images.
        stages: the backbone's four, as lists of modules.
        load_backbone: takes the backbone's weights from a file.
        unused: key prefixes that weights may have and the network does not use.
    """

    losses: Callable[[Any, Recipe, DetectorTrainingTable, torch.dtype], nn.Module]
    counts: Callable[[DetectionBatch], dict[str, Tensor]]
    classes: Callable[[Recipe], int]
    sizes: Callable[[Recipe], Preprocessing]
    stages: Callable[[Any], list[list[nn.Module]]]
    load_backbone: Callable[[Any, Path], None]
    unused: tuple[str, ...] = ()


def _two_stage_losses(
    network: GeneralizedRCNN, recipe: Recipe, table: DetectorTrainingTable, dtype: torch.dtype
) -> DetectorLosses:
    preprocessing = recipe.table("preprocessing", Preprocessing)
    return DetectorLosses(network, preprocessing, table, dtype=dtype)


def _dense_losses(
    network: RTMDet, recipe: Recipe, table: DetectorTrainingTable, dtype: torch.dtype
) -> DenseLosses:
    preprocessing = recipe.table("preprocessing", RTMDetPreprocessing)
    return DenseLosses(network, preprocessing, table, dtype=dtype)


def _rtmdet_sizes(recipe: Recipe) -> Preprocessing:
    side = recipe.table("preprocessing", RTMDetPreprocessing).long_side
    return Preprocessing(short_side=side, long_side=side)


def _rtmdet_stages(network: RTMDet) -> list[list[nn.Module]]:
    return [[stage] for stage in network.backbone.stages]


def _load_rtmdet_backbone(network: RTMDet, file: Path) -> None:
    state = read_state(file)
    fit_state(
        network.backbone,
        {key.removeprefix("backbone."): value for key, value in state.items()},
        file,
        ignored=("neck.", "head."),
    )


KINDS: Mapping[str, Kind] = {
    "torchvision": Kind(
        losses=_two_stage_losses,
        counts=image_counts,
        classes=lambda recipe: recipe.table("network", NetworkTable).classes,
        sizes=lambda recipe: recipe.table("preprocessing", Preprocessing),
        stages=backbone_stages,
        load_backbone=load_imagenet,
        unused=UNUSED_HEADS,
    ),
    "rtmdet": Kind(
        losses=_dense_losses,
        counts=box_counts,
        classes=lambda recipe: recipe.table("network", RTMDetTable).classes,
        sizes=_rtmdet_sizes,
        stages=_rtmdet_stages,
        load_backbone=_load_rtmdet_backbone,
    ),
}
"""By the name of the backend."""


def kind_of(recipe: Recipe) -> Kind:
    """How a recipe's detector is trained.

    Raises:
        RecipeError: it cannot be trained here, or a wrong field.
    """
    backend = recipe.table("detector", DetectorTable).backend
    if recipe.model.stage != "detection" or backend not in KINDS:
        raise RecipeError(
            f"{recipe.place}: only detectors of the backends {' and '.join(KINDS)} "
            "can be trained here; train detectron2's networks with detectron2 and use their weights"
        )
    return KINDS[backend]
