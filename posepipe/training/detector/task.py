"""Detectors as a task of the training loop: the FPN R-CNN of CPN's section 3.1."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN

from posepipe.detection.candidates import DetectorTable
from posepipe.detection.networks import (
    NetworkTable,
    load_imagenet,
    trunk_stages,
)
from posepipe.detection.torchvision import UNUSED_HEADS, Preprocessing, build
from posepipe.errors import RecipeError
from posepipe.networks.devices import resolve_precision
from posepipe.training.detector.batches import DetectionBatch, DetectionBatches
from posepipe.training.detector.losses import DetectorLosses, picture_counts
from posepipe.training.detector.table import DetectorTrainingTable
from posepipe.training.detector.validation import person_box_metrics
from posepipe.training.pictures import picture_cache
from posepipe.training.samples import read_detection_sets
from posepipe.zoo.recipe import Recipe
from posepipe.zoo.skeleton import recipe_skeleton
from posepipe.zoo.weights import fit_state, read_state

__all__ = ["DetectorTask", "DetectorTrainingTable"]


class DetectorTask:
    """A detector with its losses, its pictures and its measure: a `Task` of the training loop.

    With ``[network] classes = 2`` it learns people alone, whatever else the annotation files have;
    otherwise all their categories.

    Attributes:
        name: "detection".
        network: its state_dict is what becomes the model's weights.
        module: a batch in; the losses out.
        mined_names: (); hard RoIs have no names.
        leaves_some_out: False; where nobody is, boxes have a part in the losses, a gradient of 0.
    """

    name = "detection"
    mined_names: tuple[str, ...] = ()
    leaves_some_out = False

    def __init__(
        self,
        recipe: Recipe,
        table: DetectorTrainingTable,
        *,
        device: torch.device,
        start: Path | None = None,
    ) -> None:
        """Build the network; the same seed gives the same weights.

        Args:
            recipe: of a detector with ``backend = "torchvision"``.
            table: its ``[training]``.
            device: where it is trained.
            start: weights to begin with; None: the trunk's from `table.imagenet_weights` if there
                are any, the rest random.

        Raises:
            RecipeError: another kind of recipe, or a wrong field.
            WeightsError: no such weights, damaged ones, or those of another network.
        """
        detector = check_trainable(recipe)
        if detector.batch_norm_eps == 0 and not table.frozen_norm:
            raise RecipeError(
                f"{recipe.place}: batch_norm_eps = 0 divides by zero where a channel is constant "
                "in a batch: set training.frozen_norm = true, or leave out detector.batch_norm_eps"
            )
        self._recipe, self._table, self._device = recipe, table, device
        self._preprocessing = recipe.table("preprocessing", Preprocessing)
        self._classes = recipe.table("network", NetworkTable).classes
        self.network: GeneralizedRCNN = _built(recipe, table.seed)
        if start is not None:
            fit_state(self.network, read_state(start), start, ignored=UNUSED_HEADS)
        elif table.imagenet_weights:
            load_imagenet(self.network, Path(table.imagenet_weights))
        self.network.to(device).to(memory_format=torch.channels_last)
        self.module: nn.Module = DetectorLosses(
            self.network,
            self._preprocessing,
            table,
            dtype=resolve_precision(table.precision, device),
        ).to(device)

    def train_mode(self) -> None:
        """Put the network into training mode, but for frozen stages and frozen normalisations."""
        self.network.train()
        for number, stage in enumerate(trunk_stages(self.network)):
            for part in stage:
                if number < self._table.frozen_stages:
                    part.eval().requires_grad_(False)
                elif self._table.frozen_norm:
                    for module in part.modules():
                        if isinstance(module, nn.BatchNorm2d):
                            module.eval()

    def batches(self, start: int, rank: int, world: int) -> Iterator[DetectionBatch]:
        """This process's micro-batches without end, from a sample number of the run on.

        Raises:
            DocumentError: an annotation file is missing or wrong.
            ImageError: a folder of pictures is missing; at its turn, a picture cannot be read.
            OptionError: no data, or a batch that cannot be divided.
        """
        tables = self._table.data
        batches = DetectionBatches(
            read_detection_sets(
                tables,
                classes=self._classes,
                cache=picture_cache(self._table.cache, processes=world),
                skeleton=recipe_skeleton(self._recipe),
            ),
            [table.weight for table in tables],
            self._table,
            self._preprocessing,
            device=self._device,
            rank=rank,
            world=world,
        )
        return batches(start)

    def counts(self, batch: DetectionBatch) -> dict[str, Tensor]:
        """What each loss of a batch will be divided by: the number of its pictures."""
        return picture_counts(batch)

    def validate(self, network: nn.Module, folder: Path | None) -> dict[str, float]:
        """Person-box AP; see `person_box_metrics`.

        Raises:
            PosepipeError: an annotation file or a picture is missing or wrong.
        """
        return person_box_metrics(
            network, self._recipe, self._table.validate, device=self._device, folder=folder
        )


def check_trainable(recipe: Recipe) -> DetectorTable:
    """The recipe's table ``[detector]``, if detectors like it can be trained here.

    Raises:
        RecipeError: they cannot, or a wrong field.
    """
    detector = recipe.table("detector", DetectorTable)
    if recipe.model.stage != "detection" or detector.backend != "torchvision":
        raise RecipeError(
            f"{recipe.place}: only detectors of the torchvision backend can be "
            "trained here; train detectron2's networks with detectron2 and use their weights"
        )
    return detector


def _built(recipe: Recipe, seed: int) -> GeneralizedRCNN:
    """The network with random weights that depend on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build(recipe)
