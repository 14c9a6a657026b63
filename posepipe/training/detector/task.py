"""Detectors as a task of the training loop, such as the FPN R-CNN of CPN's section 3.1."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from posepipe.detection.backends import backend_of
from posepipe.detection.candidates import DetectorTable
from posepipe.errors import RecipeError
from posepipe.networks.devices import resolve_precision
from posepipe.training.data import DataSets
from posepipe.training.detector.batches import DetectionBatch, DetectionBatches
from posepipe.training.detector.kinds import kind_of
from posepipe.training.detector.table import DetectorTrainingTable
from posepipe.training.detector.validation import person_box_metrics
from posepipe.training.images import image_cache
from posepipe.training.samples import read_detection_sets
from posepipe.zoo.recipe import Recipe
from posepipe.zoo.skeleton import recipe_skeleton
from posepipe.zoo.weights import fit_state, read_state

__all__ = ["DetectorTask", "DetectorTrainingTable"]


class DetectorTask:
    """A detector with its losses, its images and its measure: a `Task` of the training loop.

    With ``[network] classes = 2`` it learns people alone, whatever else the annotation files have;
    otherwise all their categories.

    Attributes:
        name: "detection".
        network: its state_dict is what becomes the model's weights.
        module: a batch in; the losses out.
        mined_names: (); hard RoIs have no names.
        leaves_some_out: False; without people boxes still take part in the losses, with gradient 0.
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
        data: DataSets | None = None,
    ) -> None:
        """Build the network; the same seed gives the same weights.

        Args:
            recipe: of a detector of a backend in `posepipe.training.detector.kinds`.
            table: its ``[training]``.
            device: where it is trained.
            start: weights to start from; None: the backbone's from `table.imagenet_weights` if
                there are any, the rest random.
            data: what has read the sets' files; None reads them.

        Raises:
            RecipeError: another kind of recipe, or a wrong field.
            WeightsError: no such weights, damaged ones, or those of another network.
        """
        self._kind = kind_of(recipe)
        detector = recipe.table("detector", DetectorTable)
        if detector.batch_norm_eps == 0 and not table.frozen_norm:
            raise RecipeError(
                f"{recipe.place}: batch_norm_eps = 0 divides by zero where a channel is constant "
                "in a batch: set training.frozen_norm = true, or leave out detector.batch_norm_eps"
            )
        self._recipe, self._table, self._device = recipe, table, device
        self._data = data or DataSets(recipe_skeleton(recipe), keypoints=False)
        self.network = _built(recipe, table.seed)
        if start is not None:
            fit_state(self.network, read_state(start), start, ignored=self._kind.unused)
        elif table.imagenet_weights:
            self._kind.load_backbone(self.network, Path(table.imagenet_weights))
        self.network.to(device).to(memory_format=torch.channels_last)
        dtype = resolve_precision(table.precision, device)
        self.module = self._kind.losses(self.network, recipe, table, dtype).to(device)

    def train_mode(self) -> None:
        """Put the network into training mode, but for frozen stages and frozen normalisations."""
        self.network.train()
        for number, stage in enumerate(self._kind.stages(self.network)):
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
            ImageError: a folder of images is missing; at its turn, an image cannot be read.
            OptionError: no data, or a batch that cannot be divided.
        """
        tables = self._table.data
        batches = DetectionBatches(
            read_detection_sets(
                tables,
                classes=self._kind.classes(self._recipe),
                cache=image_cache(self._table.cache, processes=world),
                data=self._data,
            ),
            [table.weight for table in tables],
            self._table,
            self._kind.sizes(self._recipe),
            device=self._device,
            rank=rank,
            world=world,
        )
        return batches(start)

    def counts(self, batch: DetectionBatch) -> dict[str, Tensor]:
        """What each loss of a batch will be divided by, which the labels alone determine."""
        return self._kind.counts(batch)

    def validate(self, network: nn.Module, folder: Path | None) -> dict[str, float]:
        """Person-box AP; see `person_box_metrics`.

        Raises:
            PosepipeError: an annotation file or an image is missing or wrong.
        """
        return person_box_metrics(
            network,
            self._recipe,
            self._table.validate,
            self._data,
            device=self._device,
            folder=folder,
        )


def _built(recipe: Recipe, seed: int) -> nn.Module:
    """The network with random weights that depend on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = backend_of(recipe).build(recipe)
    assert network is not None  # noqa: S101  # see `kind_of`
    return network
