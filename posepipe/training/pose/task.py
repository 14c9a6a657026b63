"""Training of pose networks: crops in, CPN's losses out, measured by OKS AP with labelled boxes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from posepipe.errors import RecipeError
from posepipe.networks.backbones.build import build_backbone
from posepipe.networks.devices import resolve_precision
from posepipe.networks.runtimes.names import TORCH
from posepipe.pose.codecs.choose import HeatmapGrid, decoding_table, heatmap_grid
from posepipe.pose.crops import PreprocessingTable
from posepipe.pose.model import (
    PoseModel,
    build_pose_network,
    keys_of_keypoints,
    load_pose_model,
)
from posepipe.pose.networks.cpn import CPN
from posepipe.pose.networks.globalnet import HeatmapHead
from posepipe.pose.networks.growing import grow
from posepipe.pose.networks.outputs import TrainingHeatmaps
from posepipe.pose.networks.plain import PlainHeatmaps
from posepipe.training.data import DataSets
from posepipe.training.images import image_cache
from posepipe.training.pose.batches import PoseBatch, PoseBatches
from posepipe.training.pose.distillation import Teacher, distil_count
from posepipe.training.pose.losses import Losses, check_loss, pose_loss, pose_loss_counts
from posepipe.training.pose.validation import (
    CROPS_FILE,
    draw_crops,
    pose_metrics,
    read_validation_sets,
)
from posepipe.training.samples import PoseSample, read_pose_sets
from posepipe.training.tables import PoseTrainingTable
from posepipe.training.task import freeze
from posepipe.zoo.recipe import Recipe
from posepipe.zoo.skeleton import recipe_skeleton
from posepipe.zoo.weights import fit_state, read_state


class PoseTask:
    """A pose network, any that has `forward_all`, with the data of its recipe.

    Args:
        recipe: of the network.
        table: its ``[training]``.
        device: where to train.
        start: weights to start from, of the whole network; its heads start at random where the
            weights are for another number of keypoints.
        data: what has read the sets' files; None reads them.

    Raises:
        RecipeError: a wrong field, or losses that the network has no predictions for.
        WeightsError: weights of another network.
        DocumentError: an annotation file is missing or wrong.
        ImageError: a folder of images is missing.
    """

    name = "pose"

    def __init__(
        self,
        recipe: Recipe,
        table: PoseTrainingTable,
        *,
        device: torch.device,
        start: Path | None = None,
        data: DataSets | None = None,
    ) -> None:
        self._recipe, self._table, self._device = recipe, table, device
        self._skeleton = recipe_skeleton(recipe)
        self._given = recipe.table("preprocessing", PreprocessingTable)
        self._decoding = decoding_table(recipe)
        grid = heatmap_grid(self._decoding)
        if grid is None:
            raise RecipeError(
                f"{recipe.name}: decoding.codec is {self._decoding.codec!r}: only networks that "
                "give heatmaps are trained here"
            )
        network: nn.Module = build_pose_network(recipe)
        self._levels = _check_predictions(network, recipe, table, self._given)
        _scale_heads(network, table.head_scale)
        if table.imagenet_weights:
            _load_backbone(network, recipe, Path(table.imagenet_weights))
        if table.begin_as:
            _begin_as(network, recipe, table.begin_as)
        if start is not None:
            kept = keys_of_keypoints(recipe)
            fit_state(network, read_state(start), start, kept=kept)
        self.network: nn.Module = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        teacher = None
        if table.distil.teacher:
            teacher = Teacher(
                table.distil,
                self._given,
                grid,
                self._skeleton,
                scale=table.loss.scale,
                device=device,
                precision=table.precision,
            )
        self.module: nn.Module = _PoseLosses(self.network, table, self._given, grid, teacher)
        self.mined_names = self._skeleton.keypoints
        self.leaves_some_out = table.loss.levels == "none"  # then GlobalNet's heads
        self._cache = image_cache(table.cache)
        self._data = data or DataSets(self._skeleton)
        self._sets = read_pose_sets(
            table.data,
            pseudo_weight=table.pseudo_weight,
            cache=self._cache,
            data=self._data,
            unlabelled=table.distil.unlabelled,
        )
        self._validation = read_validation_sets(table.validate, self._data)

    def train_mode(self) -> None:
        """Put the network into training mode, but for what is frozen."""
        freeze(self.network, stages=self._table.frozen_stages, norm=self._table.frozen_norm)

    def batches(self, start: int, rank: int, world: int) -> Iterator[PoseBatch]:
        """This process's parts of batches without end, from a sample number of the run on."""
        make = PoseBatches(
            self._sets,
            [data.weight for data in self._table.data],
            self._table,
            self._given,
            self._skeleton,
            device=self._device,
            rank=rank,
            world=world,
        )
        return make(start)

    def counts(self, batch: PoseBatch) -> dict[str, Tensor]:
        """What each loss of a batch is divided by: labels alone decide."""
        levels, refined = self._levels
        counts = pose_loss_counts(batch, self._table.loss, levels=levels, refined=refined)
        if self._table.distil.teacher:
            counts["distil"] = distil_count(batch.pixels, batch.weights)
        return counts

    def validate(self, network: nn.Module, folder: Path | None) -> dict[str, float]:
        """OKS AP with labelled boxes of every set to measure on, and an image of the first one's.

        Args:
            network: of this task's kind.
            folder: for the image; None for none.
        """
        model = PoseModel(
            name=self._recipe.name,
            network=network.eval(),
            preprocessing=self._given,
            decoding=self._decoding,
            skeleton=self._skeleton,
            device=self._device,
            dtype=resolve_precision(self._table.precision, self._device),
        )
        metrics = pose_metrics(model, self._validation, workers=self._table.workers)
        if folder is not None and self._table.validate:
            draw_crops(model, self._shown(), folder / CROPS_FILE)
        return metrics

    def _shown(self) -> list[PoseSample]:
        (people,) = read_pose_sets(self._table.validate[:1], pseudo_weight=1.0, data=self._data)
        return people


class _PoseLosses(nn.Module):
    """A network with its losses: what is run, and wrapped for several processes."""

    def __init__(
        self,
        network: nn.Module,
        table: PoseTrainingTable,
        given: PreprocessingTable,
        grid: HeatmapGrid,
        teacher: Teacher | None,
    ) -> None:
        super().__init__()
        self.network = network
        self._table, self._given, self._grid = table, given, grid
        self._teacher = teacher

    def forward(self, batch: PoseBatch) -> tuple[Losses, Tensor]:
        """The losses of a batch of crops, and how often each keypoint was mined, (K,) int64."""
        predicted = _all_heatmaps(self.network, self._given.normalisation(batch.pixels))
        losses, mined = pose_loss(
            predicted,
            batch,
            self._table.loss,
            stride=self._grid.stride,
            amplitude=self._grid.amplitude,
            cells=self._grid.cells,
        )
        if self._teacher is not None:
            losses["distil"] = self._teacher.loss(predicted, batch.pixels)
        return losses, mined


def _all_heatmaps(network: nn.Module, images: Tensor) -> TrainingHeatmaps:
    predicted = network.forward_all(images)  # type: ignore[operator]  # checked at the beginning
    return TrainingHeatmaps(list(predicted.levels), predicted.refined)


def _check_predictions(
    network: nn.Module, recipe: Recipe, table: PoseTrainingTable, given: PreprocessingTable
) -> tuple[int, bool]:
    """How many intermediate predictions a network has, and whether it has a final one."""
    if not hasattr(network, "forward_all"):
        raise RecipeError(f"{recipe.name}: this kind of network cannot be trained here")
    width, height = given.input_size_wh
    with torch.inference_mode():
        predicted = _all_heatmaps(network.eval(), torch.zeros(1, 3, height, width))
    levels, refined = len(predicted.levels), predicted.refined is not None
    check_loss(table.loss, levels=levels, refined=refined)
    return levels, refined


def _scale_heads(network: nn.Module, scale: float) -> None:
    """Give the batch normalisations at the end of heatmap heads this initial scale."""
    for module in network.modules():
        if isinstance(module, HeatmapHead):
            nn.init.constant_(module.norm.weight, scale)


def _begin_as(network: nn.Module, recipe: Recipe, model: str) -> None:
    """Make a CPN predict what a plain network on the same backbone predicts.

    Raises:
        RecipeError: no such model, or networks of other kinds.
        WeightsError: its weights are missing or damaged, or of another backbone.
    """
    seed = load_pose_model(model, device="cpu", precision="fp32", runtime=TORCH)
    if isinstance(network, CPN) and isinstance(seed.network, PlainHeatmaps):
        grow(network, seed.network)
        return
    raise RecipeError(
        f"{recipe.name}: training.begin_as makes a CPN start as a plain network on its backbone, "
        f"and cannot make this network start as {seed.name}"
    )


def _load_backbone(network: nn.Module, recipe: Recipe, file: Path) -> None:
    """Put a classifier's weights into the backbone.

    Raises:
        RecipeError: the network has no backbone of a classifier's kind.
        WeightsError: no such file, or of another network.
    """
    name = recipe.tables.get("network", {}).get("backbone")
    backbone = getattr(network, "backbone", None)
    if name is None or not isinstance(backbone, nn.Module):
        raise RecipeError(
            f"{recipe.name}: training.imagenet_weights is set, but this kind of network has no "
            "backbone with ImageNet weights"
        )
    read_state(file)  # raises in our own words if it cannot be read
    backbone.load_state_dict(build_backbone(name, file).state_dict())
