"""Stages of what options say, their models loaded."""

from __future__ import annotations

from pathlib import Path

from posepipe.detection.backends import DETECTRON2
from posepipe.detection.loading import (
    detector_recipe,
    load_detector,
    recipe_min_score,
    recipe_scales,
    recipe_suppression,
)
from posepipe.detection.stage import DetectionSettings, DetectionStage
from posepipe.errors import OptionError
from posepipe.networks.devices import resolve_device
from posepipe.networks.resources import default_batch_sizes
from posepipe.options import DetectionOptions, PoseOptions
from posepipe.pose.loading import PoseEstimator, load_pose_stage
from posepipe.zoo.skeleton import recipe_skeleton


def load_detection(
    options: DetectionOptions, *, device: str, precision: str, runtime: str
) -> DetectionStage:
    """The first stage, its detectors loaded.

    Args:
        options: which detectors, and how.
        device: see `posepipe.networks.devices.resolve_device`.
        precision: see `posepipe.networks.devices.resolve_precision`.
        runtime: see `posepipe.networks.runtimes.registry.place_network`.

    Raises:
        PosepipeError: a model cannot be loaded, models that do not go together, or an option is
            out of range.
    """

    def config_of(model: str | Path) -> str | Path | None:
        """The config, for the one model that takes one; a single model gets it, whatever it is."""
        alone = len(options.models) == 1
        return options.config if alone or str(model) == DETECTRON2 else None

    detectors = [
        load_detector(
            model,
            config=config_of(model),
            weights=options.weights,
            changes=options.recipe_changes,
            device=device,
            precision=precision,
            runtime=runtime,
        )
        for model in options.models
    ]
    recipes = [
        detector_recipe(model, config=config_of(model), changes=options.recipe_changes)
        for model in options.models
    ]
    first, batch_size = recipes[0], options.batch_size
    if batch_size is None:
        batch_size = default_batch_sizes(resolve_device(device)).images
    categories = list(dict.fromkeys(recipe_skeleton(recipe).category for recipe in recipes))
    if len(categories) > 1:
        raise OptionError(f"detectors of {' and '.join(categories)} cannot be pooled: name one")
    settings = DetectionSettings(
        suppression=recipe_suppression(first),
        scales=recipe_scales(first),
        flip=options.flip,
        min_score=recipe_min_score(first),
        batch_size=batch_size,
        category=categories[0],
    )
    return DetectionStage(detectors, settings)


def load_pose(options: PoseOptions, *, device: str, precision: str, runtime: str) -> PoseEstimator:
    """The second stage, its pose models loaded; arguments and errors as `load_detection`."""
    return load_pose_stage(
        options.models,
        weights=options.weights,
        head=options.head,
        changes=options.recipe_changes,
        device=device,
        precision=precision,
        runtime=runtime,
        batch_size=options.batch_size,
    )
