"""From recipes to a pose stage, whatever kind of network they name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from posepipe.core.boxes import Detections
from posepipe.core.poses import Poses
from posepipe.core.skeleton import Skeleton
from posepipe.errors import OptionError
from posepipe.io.images import ImageFile
from posepipe.networks.backbones.lite_hrnet import Stem
from posepipe.networks.folding import fold_batch_norms
from posepipe.networks.native.tables import PreprocessingTable
from posepipe.networks.precision import cast_weights
from posepipe.networks.runtimes.base import Placement
from posepipe.networks.runtimes.registry import place_network
from posepipe.pose.model import RECIPE_TABLES, PoseModel, load_pose_model
from posepipe.pose.networks.base import PoseNetwork
from posepipe.pose.networks.build import WHOLE_IMAGES, Head, backend_of
from posepipe.pose.networks.globalnet import HeatmapHead
from posepipe.pose.networks.keypoint_rcnn import (
    KeypointRCNNDecoding,
    KeypointRCNNTable,
    NativeKeypointRCNNTable,
)
from posepipe.pose.networks.quicken import quicken
from posepipe.pose.stage import PoseStage
from posepipe.zoo.recipe import Recipe, Table, load_recipe
from posepipe.zoo.skeleton import recipe_skeleton
from posepipe.zoo.weights import find_weights, fit_state, read_state


class NamedModel(Protocol):
    """A model, for the record."""

    @property
    def name(self) -> str:
        """The recipe's."""
        ...

    @property
    def weights_sha256(self) -> str:
        """Of its weights file."""
        ...

    @property
    def runtime(self) -> str:
        """What computes it, with its version."""
        ...

    @property
    def dtype(self) -> torch.dtype:
        """The number format of its convolutions."""
        ...


class PoseEstimator(Protocol):
    """A stage from images with detections to poses, with what the record says of it."""

    @property
    def models(self) -> Sequence[NamedModel]:
        """What it consists of."""
        ...

    @property
    def skeleton(self) -> Skeleton:
        """What the keypoints are."""
        ...

    @property
    def decoding(self) -> Table:
        """How keypoints are read off the networks' response."""
        ...

    @property
    def batch_size(self) -> int:
        """See `posepipe.runtime.stage.Stage`."""
        ...

    def prepare(self, item: tuple[ImageFile, Detections]) -> Any:
        """See `posepipe.runtime.stage.Stage`."""
        ...

    def weight(self, ready: Any) -> int:
        """See `posepipe.runtime.stage.Stage`."""
        ...

    def __call__(self, batch: Sequence[Any]) -> Sequence[Poses]:
        """See `posepipe.runtime.stage.Stage`."""
        ...


def load_pose_stage(
    models: Sequence[str | Path],
    *,
    weights: str | Path | None = None,
    head: Head = "final",
    changes: Sequence[str] = (),
    device: str = "auto",
    precision: str = "auto",
    runtime: str = "auto",
    batch_size: int | None = None,
) -> PoseEstimator:
    """The pose stage of one model, or of the average of several.

    Args:
        models: names or folders.
        weights: a weights file in place of the model's own; for a single model.
        head: "global" leaves out a CPN's RefineNet.
        changes: fields of the recipes to override, see `Recipe.with_changes`.
        device: see `posepipe.networks.devices.resolve_device`.
        precision: see `posepipe.pose.model.load_pose_model`.
        runtime: see `posepipe.networks.runtimes.registry.place_network`.
        batch_size: crops per pass, see `PoseStage`.

    Raises:
        RecipeError: no such model, or its recipe has a wrong field.
        WeightsError: its weights are missing, damaged or of another network.
        OptionError: an option that is not available here, or models that do not go together.
        MissingDependencyError: a network needs a library that is not installed.
    """
    recipes = [load_recipe(model) for model in models]
    whole = [recipe for recipe in recipes if backend_of(recipe) in WHOLE_IMAGES]
    if not whole:
        loaded = [
            load_pose_model(
                model,
                weights=weights,
                head=head,
                changes=changes,
                device=device,
                precision=precision,
                runtime=runtime,
            )
            for model in models
        ]
        for model in loaded:
            if isinstance(model.network, PoseNetwork):
                _make_ready(model)
        return PoseStage(loaded, batch_size=batch_size)
    if len(models) > 1:
        raise OptionError(
            f"model {whole[0].name!r} looks at whole images, not at crops: it cannot be averaged"
        )
    if head != "final":
        raise OptionError(f"the head {head!r} is a CPN's; model {whole[0].name!r} is not a CPN")
    [recipe] = whole
    recipe = recipe.with_changes(changes, known=RECIPE_TABLES)
    placement = place_network(
        runtime, device=device, precision=precision, model=recipe.name, exports=False
    )
    return _keypoint_rcnn(recipe, weights, placement)


def _make_ready(model: PoseModel) -> None:
    """Make a model's network in torch as quick as its device and its precision allow, in place."""
    if model.device.type == "cpu":
        quicken(model.network)
    else:
        fold_batch_norms(model.network)
    cast_weights(model.network, model.dtype, exact=_exact_parts(model))


def _exact_parts(model: PoseModel) -> list[nn.Module]:
    """The parts of a network that compute in float32 all the same.

    Heatmaps in bf16 have several cells that are equally high. And what a Lite-HRNet loses by bf16
    it loses in its first layers: with these in float32, its heatmaps come five times as close to
    exact ones, which takes a CPU 2 or 3 % longer.
    """
    kinds = (HeatmapHead, Stem) if model.device.type == "cpu" else HeatmapHead
    return [part for part in model.network.modules() if isinstance(part, kinds)]


def _keypoint_rcnn(
    recipe: Recipe, weights: str | Path | None, placement: Placement
) -> PoseEstimator:
    from posepipe.pose.keypoint_rcnn import KeypointRCNN, KeypointRCNNStage
    from posepipe.pose.networks import keypoint_heads

    skeleton, decoding = recipe_skeleton(recipe), recipe.table("decoding", KeypointRCNNDecoding)
    if backend_of(recipe) == "torchvision":
        table = recipe.table("network", KeypointRCNNTable)
        keypoints: Any = keypoint_heads.build_torchvision(table, len(skeleton))
    else:
        keypoints = keypoint_heads.build_native(
            recipe.table("network", NativeKeypointRCNNTable),
            recipe.table("preprocessing", PreprocessingTable),
            len(skeleton),
        )
    path, digest = find_weights(recipe, weights)
    fit_state(keypoints.network, read_state(path), path, ignored=keypoints.not_used)
    where, dtype = placement.device, placement.dtype
    model = KeypointRCNN(recipe.name, keypoints, skeleton, where, digest, dtype)
    return KeypointRCNNStage(model, decoding=decoding)
