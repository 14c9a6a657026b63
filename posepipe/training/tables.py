"""The recipe's table ``[training]``: everything that shapes a run."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal

from msgspec import Meta

from posepipe.training.data import DataTable
from posepipe.training.pose.augment import AugmentTable
from posepipe.training.pose.distillation import DistilTable
from posepipe.training.pose.losses import PoseLossTable
from posepipe.zoo.bounds import Large, Number, Samples, Share, Whole
from posepipe.zoo.recipe import Recipe, Table

DataTables = Annotated[tuple[DataTable, ...], Meta(max_length=1_000)]


class TrainingTable(Table, frozen=True):
    """What pose networks and detectors have in common in ``[training]``.

    The defaults of optimiser and batch are the paper's (CPN, section 4.1). Lengths are in samples:
    person crops, or images for a detector.

    Attributes:
        data: data sets to train on, drawn by their weights; paths are relative to the current
            directory. Usually given on the command line.
        validate: data sets to evaluate on; the first one decides which weights are best.
        samples: length of the run; the schedule spans it.
        batch: samples per optimiser step, over all processes.
        accumulate: number of parts that a process splits its share of a batch into, to save memory.
        optimiser: "adam", or "adamw" (decoupled weight decay).
        learning_rate: the peak.
        backbone_rate: the backbone's learning rate relative to `learning_rate`.
        weight_decay: of the optimiser.
        schedule: "step": times `step_factor` every `step_every` samples; "cosine": to 0 at the end.
        step_every, step_factor: of the schedule "step".
        warm_up: samples during which the learning rate rises from 0 to its peak.
        average: decay per step of the averaged weights (EMA), which are then evaluated and saved;
            0: no averaging.
        clip: largest gradient norm; 0: no clipping.
        precision: of convolutions: "fp32", "bf16" (autocast), "auto": bf16 where it is native.
        seed: for everything random.
        workers: threads that prepare samples, per training process.
        frozen_stages: how many of the backbone's four stages are frozen.
        frozen_norm: freeze the statistics of batch normalisation.
        validate_every: samples between evaluations; 0: only at the end.
        checkpoint_minutes: minutes between checkpoints.
        imagenet_weights: safetensors file of an ImageNet classifier that initialises the backbone;
            "": random weights.
    """

    samples: Samples
    data: DataTables = ()
    validate: DataTables = ()
    batch: Large = 32
    accumulate: Large = 1
    optimiser: Literal["adam", "adamw"] = "adam"
    learning_rate: Number = 5e-4
    backbone_rate: Share = 1.0
    weight_decay: Number = 1e-5
    schedule: Literal["step", "cosine"] = "step"
    step_every: Samples = 3_600_000
    step_factor: Share = 0.5
    warm_up: Samples = 0
    average: Number = 0.0
    clip: Number = 0.0
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    seed: Samples = 0
    workers: Whole = 2
    frozen_stages: Whole = 0
    frozen_norm: bool = False
    validate_every: Samples = 0
    checkpoint_minutes: Number = 10.0
    imagenet_weights: str = ""

    def __post_init__(self) -> None:
        for name in ("samples", "batch", "accumulate", "step_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("warm_up", "weight_decay", "clip", "seed", "workers", "frozen_stages"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must be 0 or more, got {getattr(self, name)}")
        for name in ("learning_rate", "backbone_rate", "step_factor", "checkpoint_minutes"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)}")
        if self.validate_every < 0:
            raise ValueError(f"validate_every must be 0 or more, got {self.validate_every}")
        if not 0 <= self.average < 1:
            raise ValueError(f"average must lie in [0, 1), got {self.average}")


class PoseTrainingTable(TrainingTable, frozen=True):
    """``[training]`` of a pose network.

    Attributes:
        loss: see `PoseLossTable`.
        augment: see `AugmentTable`.
        engine: where crops are cut and augmented: on the CPU, or on the device.
        cache: whether decoded images are kept in memory.
        pseudo_weight: weight of keypoints that another network predicted (`pseudo_keypoints`).
        head_scale: initial scale of the heatmap heads' batch normalisation. If it is small,
            heatmaps start near zero, like most of their targets.
        begin_as: name or folder of a plain network on the same backbone: the CPN starts with its
            weights and predicts its heatmaps (`posepipe.pose.networks.growing`); "": none. Meant
            for `frozen_norm`.
        distil: another model as a teacher; see `DistilTable`.
    """

    loss: PoseLossTable = PoseLossTable()
    augment: AugmentTable = AugmentTable()
    engine: Literal["cpu", "device"] = "cpu"
    cache: Literal["memory", "none"] = "memory"
    pseudo_weight: Share = 0.3
    head_scale: Number = 1.0
    begin_as: str = ""
    distil: DistilTable = DistilTable()


def with_data(
    recipe: Recipe, data: tuple[DataTable, ...], validate: tuple[DataTable, ...]
) -> Recipe:
    """The recipe with other data sets, where any are given."""
    given = {"data": data, "validate": validate}
    tables = dict(recipe.tables)
    training = dict(tables.get("training", {}))
    for name, sets in given.items():
        if sets:
            training[name] = [
                {"annotations": one.annotations, "images": one.images, "weight": one.weight}
                for one in sets
            ]
    tables["training"] = training
    return replace(recipe, tables=tables)
