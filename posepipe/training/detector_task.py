"""Detectors as a task of the training loop: the FPN R-CNN of CPN's section 3.1."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN

from posepipe.detection.candidates import DetectorTable
from posepipe.detection.networks import (
    NetworkTable,
    build_network,
    load_imagenet,
    trunk_stages,
)
from posepipe.detection.torchvision import UNUSED_HEADS, Preprocessing, set_batch_norm_eps
from posepipe.devices import resolve_precision
from posepipe.errors import RecipeError
from posepipe.recipe import RECIPE_FILE, Recipe
from posepipe.training.detection_batches import DetectionBatch, DetectionBatches
from posepipe.training.detector_losses import BoxLoss, DetectorLosses, picture_counts
from posepipe.training.detector_validation import person_box_metrics
from posepipe.training.mosaic import DetectorAugmentTable, MosaicTable
from posepipe.training.pictures import CacheKind, picture_cache
from posepipe.training.samples import read_detection_sets
from posepipe.training.tables import TrainingTable
from posepipe.weights import fit_state, read_state


class DetectorTrainingTable(TrainingTable, frozen=True):
    """``[training]`` of a detector; a sample is a picture, or a mosaic of pictures.

    Of the common fields, `frozen_norm` is about the trunk's batch normalisations here: a new box
    head's have no statistics to keep.

    Attributes:
        pictures: whole pictures, or mosaics; see `posepipe.training.mosaic`.
        sizes: short sides in pixels of whole pictures, one drawn for each (multi-scale training);
            () for the recipe's own. The recipe's `long_side` limits them.
        mosaic: see `MosaicTable`.
        augment: see `DetectorAugmentTable`.
        ignore_overlap: background anchors and RoIs of which an ignored region covers at least this
            share are left out.
        box_loss: of the box head: torchvision's "smooth_l1", or "giou". The RPN's is "smooth_l1".
        box_weight: factor on the box head's box loss; a "giou" wants about 10.
        ohem: the RoIs with the largest losses learn, instead of random ones of which a quarter are
            people at most (Shrivastava et al. 2016; in CPN's table 2).
        ohem_nms: IoU above which two such RoIs count as one; 1 for never.
        cache: whether decoded pictures stay in memory.
    """

    pictures: Literal["whole", "mosaic"] = "whole"
    sizes: tuple[int, ...] = ()
    mosaic: MosaicTable = MosaicTable()
    augment: DetectorAugmentTable = DetectorAugmentTable()
    ignore_overlap: float = 0.5
    box_loss: BoxLoss = "smooth_l1"
    box_weight: float = 1.0
    ohem: bool = False
    ohem_nms: float = 0.7
    cache: CacheKind = "memory"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sizes and self.pictures == "mosaic":
            raise ValueError("sizes are of whole pictures: those of a mosaic vary by mosaic.zoom")
        if not all(32 <= side <= 8192 for side in self.sizes):
            raise ValueError(f"sizes must lie between 32 and 8192, got {list(self.sizes)}")
        for name in ("ignore_overlap", "ohem_nms"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie in (0, 1], got {getattr(self, name)}")
        if not self.box_weight >= 0:
            raise ValueError(f"box_weight must be 0 or more, got {self.box_weight}")
        if self.frozen_stages > 4:
            raise ValueError(f"frozen_stages is at most 4, got {self.frozen_stages}")


class DetectorTask:
    """A detector with its losses, its pictures and its measure: a `Task` of the training loop.

    With ``[network] classes = 2`` it learns people alone, whatever else the annotation files have;
    otherwise all their categories.

    Attributes:
        name: "detection".
        network: its state_dict is what becomes the model's weights.
        module: a batch in; the losses out.
        mined_names: (); hard RoIs have no names.
    """

    name = "detection"
    mined_names: tuple[str, ...] = ()

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
        file = recipe.folder / RECIPE_FILE
        detector = recipe.table("detector", DetectorTable)
        if recipe.model.stage != "detection" or detector.backend != "torchvision":
            raise RecipeError(
                f"{file}: only detectors of the torchvision backend can be trained here; train "
                "detectron2's networks with detectron2 and use their weights"
            )
        if detector.batch_norm_eps == 0 and not table.frozen_norm:
            raise RecipeError(
                f"{file}: batch_norm_eps = 0 divides by zero where a channel is constant in a "
                "batch: set training.frozen_norm = true, or leave out detector.batch_norm_eps"
            )
        self._recipe, self._table, self._device = recipe, table, device
        self._preprocessing = recipe.table("preprocessing", Preprocessing)
        self._classes = recipe.table("network", NetworkTable).classes
        self.network: GeneralizedRCNN = _built(recipe, table.seed)
        if start is not None:
            fit_state(self.network, read_state(start), start, ignored=UNUSED_HEADS)
        elif table.imagenet_weights:
            load_imagenet(self.network, Path(table.imagenet_weights))
        set_batch_norm_eps(self.network, detector.batch_norm_eps)
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


def _built(recipe: Recipe, seed: int) -> GeneralizedRCNN:
    """The network with random weights that depend on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build_network(recipe.table("network", NetworkTable))
