"""What a model's network sees of somebody's images: what 8-bit integers are calibrated with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from posepipe.detection.loading import load_detector
from posepipe.detection.rtmdet import RTMDetDetector
from posepipe.errors import OptionError, PosepipeError
from posepipe.io.find_images import find_images
from posepipe.io.images import ImageFile
from posepipe.networks.runtimes.names import TORCH
from posepipe.pipeline import Pipeline
from posepipe.pose.stage import PoseStage
from posepipe.zoo.recipe import load_recipe

MOST_INPUTS = 64

Inputs = list[npt.NDArray[np.float32]]


def calibration_inputs(model: str | Path, images: str | Path) -> Inputs:
    """At most `MOST_INPUTS` normalised images (1, 3, H, W) that a model's network would see.

    They are spread over all images; people are found by the default detector. Images that cannot
    be read are passed over.

    Args:
        model: name or folder.
        images: a folder, a file or a pattern.

    Raises:
        OptionError: the model has no network that takes images so.
        PosepipeError: the model cannot be loaded, or there are no images.
    """
    recipe, found = load_recipe(model), list(find_images([images]))
    step = max(1, len(found) // MOST_INPUTS)
    spread = found[::step]
    if recipe.model.stage == "pose":
        return _crops(model, spread)
    detector = load_detector(recipe, device="cpu", precision="fp32", runtime=TORCH)
    if not isinstance(detector, RTMDetDetector):
        raise OptionError(f"model {recipe.name!r} cannot be exported, so int8 is not for it")
    inputs: Inputs = []
    for image in spread[:MOST_INPUTS]:
        try:
            pixels = image.read()
        except PosepipeError:
            continue
        seen = detector.padded([detector.prepare(pixels)])
        inputs.append(_array(detector.preprocessing.normalisation(seen)))
    return inputs


def _crops(model: str | Path, images: Sequence[ImageFile]) -> Inputs:
    pipeline = Pipeline(pose=model, device="cpu", precision="fp32")
    detection, pose = pipeline.detection_stage, pipeline.pose_stage
    if not isinstance(pose, PoseStage):
        raise OptionError(f"model {model!s} looks at whole images, so int8 is not for it")
    [network], inputs = pose.models, []
    for image in images:
        try:
            [people] = detection([detection.prepare(image)])
            ready = pose.prepare((image, people))
        except PosepipeError:
            continue
        for crops in ready.crops.values():
            seen = network.preprocessing.normalisation(torch.from_numpy(crops.pixels))
            inputs += [_array(crop[None]) for crop in seen]
        if len(inputs) >= MOST_INPUTS:
            break
    return inputs[:MOST_INPUTS]


def _array(images: torch.Tensor) -> npt.NDArray[np.float32]:
    return np.ascontiguousarray(images.numpy(), np.float32)
