"""A model's golden numbers: what it gave for a small image on the day it was made.

They lie beside a model's weights as ``golden.safetensors``, at most 100 kB. If a later version of
this project, another library or another machine gives something else, `verify` shows it. For a pose
model they are heatmaps, from the image through the recipe's crop, colours, network and mirror
image; for a detector the best candidates before NMS.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from posepipe.core.boxes import Detections
from posepipe.detection.candidates import Candidates, Detector
from posepipe.detection.loading import load_detector
from posepipe.errors import WeightsError
from posepipe.io.jsonfiles import write_whole
from posepipe.networks.runtimes.names import TORCH
from posepipe.pose.crops import cut_crops
from posepipe.pose.model import PoseModel, load_pose_model, torch_if_possible
from posepipe.zoo.recipe import Recipe

GOLDEN_FILE = "golden.safetensors"

Arrays = dict[str, npt.NDArray[Any]]

# Relative to the heatmaps' range. In fp32, CPUs and thread counts differ by less than 1e-5.
_HEATMAP_TOLERANCE = 1e-4
# Of a score, or of the image's longer side.
_CANDIDATE_TOLERANCE = 1e-3
_CANDIDATES = 20
_NAMES = {
    "pose": {"picture", "boxes_xyxy", "heatmaps"},
    "detection": {"picture", "boxes_xyxy", "scores", "classes"},
}
_MOST_HEATMAP_BYTES = 60_000
_IMAGE_WH = (96, 128)
# Beyond the image's left and lower edge, so that the colour outside matters.
_BOX_XYXY = (-10.3, 30.6, 60.2, 140.9)


@dataclass(frozen=True)
class Verification:
    """How far a model is from its golden numbers.

    Attributes:
        what: what was compared, and in which unit.
        largest: the largest difference.
        tolerance: what it may be at most.
        other_weights: the golden numbers were made with another weights file.
    """

    what: str
    largest: float
    tolerance: float
    other_weights: bool

    @property
    def passed(self) -> bool:
        """Whether the difference is within the tolerance; NaN is not."""
        return self.largest <= self.tolerance


def verify(recipe: Recipe, *, device: str = "cpu", precision: str = "fp32") -> Verification:
    """Run a model on its golden image and compare.

    Args:
        recipe: of a model with weights and golden numbers.
        device: see `posepipe.networks.devices.resolve_device`.
        precision: see `posepipe.networks.devices.resolve_precision`; the tolerance is one for fp32.

    Raises:
        WeightsError: no weights or golden numbers, damaged ones, or those of another network.
        RecipeError, OptionError, MissingDependencyError: the model cannot be loaded.
    """
    golden, made_with = _read(recipe)
    model = _load(recipe, device, precision)
    if isinstance(model, PoseModel):
        found = _sampled_heatmaps(model, golden["picture"], golden["boxes_xyxy"])
        largest = _heatmap_difference(found, golden["heatmaps"])
        what, tolerance = "heatmaps, relative to their range", _HEATMAP_TOLERANCE
    else:
        expected = Candidates(golden["boxes_xyxy"], golden["scores"], golden["classes"])
        [candidates] = model([model.prepare(golden["picture"])])
        longer_side = max(golden["picture"].shape)
        largest = _candidate_difference(candidates, expected, longer_side)
        what = "boxes, relative to the image's longer side, and scores"
        tolerance = _CANDIDATE_TOLERANCE
    return Verification(what, largest, tolerance, made_with != _digest(model))


def write_golden(recipe: Recipe) -> Path:
    """Store a model's golden numbers, as it computes them now on the CPU, beside its weights.

    Raises:
        WeightsError: its weights are missing, damaged or of another network.
        DocumentError: the file cannot be written.
    """
    path = recipe.folder / GOLDEN_FILE
    write_whole(path, [make_golden(_load(recipe, "cpu", "fp32"))])
    return path


def make_golden(model: PoseModel | Detector[Any]) -> bytes:
    """The golden file of a model: a small image, and what the model gives for it.

    Args:
        model: in fp32; a detector should hand over candidates of any score.
    """
    image = _image()
    arrays: Arrays = {"picture": image}
    if isinstance(model, PoseModel):
        arrays["boxes_xyxy"] = np.array([_BOX_XYXY], dtype=np.float32)
        arrays["heatmaps"] = _sampled_heatmaps(model, image, arrays["boxes_xyxy"])
    else:
        [candidates] = model([model.prepare(image)])
        best = np.argsort(-candidates.scores, kind="stable")[:_CANDIDATES]
        arrays["boxes_xyxy"] = candidates.boxes_xyxy[best]
        arrays["scores"] = candidates.scores[best]
        arrays["classes"] = candidates.classes[best]
    return save(arrays, metadata={"weights_sha256": _digest(model)})


def _load(recipe: Recipe, device: str, precision: str) -> PoseModel | Detector[Any]:
    if recipe.model.stage == "pose":
        runtime = torch_if_possible(recipe.folder)
        return load_pose_model(recipe.folder, device=device, precision=precision, runtime=runtime)
    # Nothing in the small image needs to score as high as the recipe asks.
    candidates = {**recipe.tables.get("candidates", {}), "min_score": 0.0}
    recipe = dataclasses.replace(recipe, tables={**recipe.tables, "candidates": candidates})
    return load_detector(recipe, device=device, precision=precision, runtime=TORCH)


def _digest(model: PoseModel | Detector[Any]) -> str:
    return model.weights_sha256 if isinstance(model, PoseModel) else model.origin.weights_sha256


def _read(recipe: Recipe) -> tuple[Arrays, str]:
    """The golden file's arrays, and the SHA-256 of the weights it was made with."""
    path = recipe.folder / GOLDEN_FILE
    if not path.is_file():
        raise WeightsError(
            f"model {recipe.name!r} has no golden numbers ({path}): if it is known to be good, "
            f"make them with `posepipe models verify --update {recipe.folder}`"
        )
    try:
        with safe_open(path, framework="numpy") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            made_with = (file.metadata() or {}).get("weights_sha256", "")
    except (SafetensorError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise WeightsError(f"{path} cannot be read as golden numbers: {reason}") from None
    if arrays.keys() != _NAMES[recipe.model.stage]:
        raise WeightsError(
            f"{path} is of another kind of model: make it again with "
            f"`posepipe models verify --update {recipe.folder}`"
        )
    return arrays, made_with


def _sampled_heatmaps(
    model: PoseModel, image: npt.NDArray[np.uint8], boxes_xyxy: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    """(N, K, h, w) heatmaps of an image's people, every n-th row and column: as many as fit."""
    scores = np.ones(len(boxes_xyxy), dtype=np.float32)
    crops = cut_crops(image, Detections(1, boxes_xyxy, scores), model.preprocessing)
    maps = model.heatmaps(torch.from_numpy(crops.pixels), flip=model.decoding.flip)
    step = math.ceil(math.sqrt(maps.numel() * maps.element_size() / _MOST_HEATMAP_BYTES))
    sampled: npt.NDArray[np.float32] = maps[:, :, ::step, ::step].contiguous().cpu().numpy()
    return sampled


def _heatmap_difference(found: npt.NDArray[np.float32], expected: npt.NDArray[np.float32]) -> float:
    if found.shape != expected.shape:
        return math.inf
    span = float(expected.max() - expected.min())
    return float(np.abs(found - expected).max()) / max(span, 1e-12)


def _candidate_difference(found: Candidates, expected: Candidates, longer_side: int) -> float:
    """How far the expected candidates are from the nearest found, in scores and in positions.

    Nearest, since candidates of nearly equal score change places for the slightest reason.
    """
    differences = []
    for box, score, kind in zip(
        expected.boxes_xyxy, expected.scores, expected.classes, strict=True
    ):
        same = found.classes == kind
        moved = np.abs(found.boxes_xyxy[same] - box).max(axis=1, initial=0.0) / longer_side
        changed = np.abs(found.scores[same] - score)
        differences.append(np.maximum(moved, changed).min(initial=np.inf))
    return float(max(differences, default=0.0))


def _image() -> npt.NDArray[np.uint8]:
    """An image of noise in coarse, middling and fine grains, the same on every machine."""
    width, height = _IMAGE_WH
    total = np.zeros((height, width, 3), dtype=np.int64)
    for seed, (grain, weight) in enumerate(((32, 2), (8, 1), (1, 1))):
        shape = (height // grain, width // grain, 3)
        # numpy promises that these bits never change; it does not of its distributions.
        bits = np.random.PCG64(seed).random_raw(math.prod(shape)) >> np.uint64(56)
        total += weight * np.kron(
            bits.astype(np.int64).reshape(shape), np.ones((grain, grain, 1), dtype=np.int64)
        )
    return (total // 4).astype(np.uint8)
