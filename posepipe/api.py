"""The Python API: the stages on pictures, a few lines each.

for image, poses in posepipe.estimate_poses("photos/"):
    print(image.file_name, len(poses), "people")
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal, TypeVar, get_args

import msgspec
import numpy as np
import numpy.typing as npt

from posepipe.core.boxes import Detections
from posepipe.core.poses import Poses
from posepipe.core.suppression import Method, Suppression
from posepipe.detection.backends import DETECTRON2
from posepipe.detection.stage import (
    DetectionSettings,
    DetectionStage,
    detector_recipe,
    load_detector,
    recipe_suppression,
)
from posepipe.errors import OptionError
from posepipe.io.documents import MadeBy, ModelUsed, made_by
from posepipe.io.images import ImageFile, find_images, images_from_arrays
from posepipe.networks.devices import precision_name, resolve_device, resolve_precision
from posepipe.pose.model import load_pose_model
from posepipe.pose.networks.build import Head
from posepipe.pose.stage import DecodingSwitches, PoseStage
from posepipe.runtime.local import Outcome, run
from posepipe.scoring.evaluation import evaluate
from posepipe.scoring.oks import without_duplicates
from posepipe.scoring.rescore import rescored
from posepipe.training.runs import TrainOptions, train
from posepipe.training.samples import DataTable

__all__ = [
    "DEFAULT_DETECTOR",
    "DEFAULT_POSE_MODEL",
    "DataTable",
    "DetectionOptions",
    "PoseOptions",
    "TrainOptions",
    "detect",
    "estimate_poses",
    "evaluate",
    "train",
]

DEFAULT_DETECTOR = "person-detector-mobilenetv2-fpn"
DEFAULT_POSE_MODEL = "cpn-mobilenetv2-256x192"

Array = npt.NDArray[np.uint8]
Inputs = str | Path | Array | Sequence[str | Path] | Iterable[Array]
In = TypeVar("In")
Out = TypeVar("Out")
Trouble = Literal["raise", "skip"]


@dataclass(frozen=True, kw_only=True)
class DetectionOptions:
    """How people are detected; None means what the first model's recipe says.

    Attributes:
        models: names or folders; their boxes are pooled before NMS (the paper's table 2). Weights
            that are not here are fetched if the model's recipe says from where
            (`posepipe.zoo.cache`).
        config: with the model "detectron2": a YAML file or a name of its model zoo.
        weights: another weights file than the model's own; for a single model.
        nms: the kind of suppression.
        nms_threshold: IoU of hard and linear Soft-NMS.
        nms_sigma: of Gaussian Soft-NMS.
        top_k: how many boxes of all classes stay before the persons are chosen.
        scales: sizes at which each picture is looked at, relative to the recipe's.
        flip: look at the mirror image, too.
        min_score: people with a lower score are left out; the paper leaves out none (0).
        batch_size: pictures per pass.
        device, precision: see `posepipe.networks.devices`.
    """

    models: tuple[str | Path, ...] = (DEFAULT_DETECTOR,)
    config: str | Path | None = None
    weights: str | Path | None = None
    nms: Method | None = None
    nms_threshold: float | None = None
    nms_sigma: float | None = None
    top_k: int | None = None
    scales: tuple[float, ...] = (1.0,)
    flip: bool = False
    min_score: float = 0.1
    batch_size: int = 4
    device: str = "auto"
    precision: str = "auto"

    def stage(self) -> DetectionStage:
        """The detection stage, its models loaded.

        Raises:
            PosepipeError: a model cannot be loaded, or an option is out of range.
        """
        _check_models(self.models, self.weights)
        detectors = [
            load_detector(
                model,
                config=self._config_of(model),
                weights=self.weights,
                device=self.device,
                precision=self.precision,
            )
            for model in self.models
        ]
        first = detector_recipe(self.models[0], config=self._config_of(self.models[0]))
        settings = DetectionSettings(
            suppression=self.suppression(recipe_suppression(first)),
            scales=self.scales,
            flip=self.flip,
            min_score=self.min_score,
            batch_size=self.batch_size,
        )
        return DetectionStage(detectors, settings)

    def _config_of(self, model: str | Path) -> str | Path | None:
        """The config, for the one model that takes one; alone, any model must answer for it."""
        return self.config if len(self.models) == 1 or str(model) == DETECTRON2 else None

    def made_by(self, stage: DetectionStage, command: str) -> MadeBy:
        """What boxes.json says of its origin, for a stage of these options."""
        return made_by(command, _detectors_used(stage), self.settings(stage))

    def settings(self, stage: DetectionStage) -> dict[str, object]:
        """Everything but the models that has a say in the boxes."""
        return {
            "suppression": asdict(stage.settings.suppression),
            "scales": list(self.scales),
            "flip": self.flip,
            "min_score": self.min_score,
            "backends": [origin.backend for origin in stage.origins],
            **_where(self.device, self.precision),
        }

    def suppression(self, of_recipe: Suppression) -> Suppression:
        """The recipe's suppression with these options' changes.

        Raises:
            OptionError: a value out of range.
        """
        changes = {
            "method": self.nms,
            "threshold": self.nms_threshold,
            "sigma": self.nms_sigma,
            "top_k": self.top_k,
        }
        try:
            return replace(of_recipe, **{k: v for k, v in changes.items() if v is not None})  # type: ignore[arg-type]  # a table of options of several types
        except ValueError as error:
            raise OptionError(str(error)) from None


@dataclass(frozen=True, kw_only=True)
class PoseOptions:
    """How poses are estimated; None means what the first model's recipe says.

    Attributes:
        models: names or folders; their heatmaps are averaged (the paper's CPN+).
        weights: another weights file than the model's own; for a single model.
        head: "final", or "global": leave out a CPN's RefineNet, which is faster and less exact.
        flip: average with the mirror image.
        blur_kernel: cells of the Gaussian filter on heatmaps, odd; 1 for none.
        quarter_offset: a quarter cell from the highest towards the second highest response.
        rescore: pose score = box score x mean keypoint confidence; else the box score.
        oks_nms: leave out poses whose OKS with a better one exceeds this; None for none.
        batch_size: crops per pass, gathered across pictures.
        device, precision: see `posepipe.networks.devices`.

    Raises:
        OptionError: the OKS is outside [0, 1].
    """

    models: tuple[str | Path, ...] = (DEFAULT_POSE_MODEL,)
    weights: str | Path | None = None
    head: Head = "final"
    flip: bool | None = None
    blur_kernel: int | None = None
    quarter_offset: bool | None = None
    rescore: bool = True
    oks_nms: float | None = None
    batch_size: int = 32
    device: str = "auto"
    precision: str = "auto"

    def __post_init__(self) -> None:
        if self.oks_nms is not None and not 0 <= self.oks_nms <= 1:
            raise OptionError(f"the OKS of NMS must lie in [0, 1], got {self.oks_nms}")

    def stage(self) -> PoseStage:
        """The pose stage, its models loaded.

        Raises:
            PosepipeError: a model cannot be loaded, models that do not go together, or an option
                is out of range.
        """
        _check_models(self.models, self.weights)
        models = [
            load_pose_model(
                model,
                weights=self.weights,
                head=self.head,
                device=self.device,
                precision=self.precision,
            )
            for model in self.models
        ]
        switches = DecodingSwitches(self.flip, self.blur_kernel, self.quarter_offset)
        return PoseStage(models, batch_size=self.batch_size, switches=switches)

    def made_by(self, stage: PoseStage, command: str) -> MadeBy:
        """What determines the poses, for a stage of these options."""
        return made_by(command, _networks_used(stage), self.settings(stage))

    def settings(self, stage: PoseStage) -> dict[str, object]:
        """Everything but the models and boxes that has a say in the poses."""
        return {
            "head": self.head,
            "decoding": msgspec.to_builtins(stage.decoding),
            "rescore": self.rescore,
            "oks_nms": self.oks_nms,
            **_where(self.device, self.precision),
        }

    def finish(self, poses: Poses) -> Poses:
        """Scoring: the poses of a picture, rescored and without duplicates as asked."""
        scored = rescored(poses) if self.rescore else poses
        if self.oks_nms is None:
            return scored
        return without_duplicates(scored, threshold=self.oks_nms)


def detect(
    inputs: Inputs,
    *,
    options: DetectionOptions | None = None,
    recursive: bool = False,
    workers: int = 2,
    unreadable: Trouble = "raise",
) -> Iterator[tuple[ImageFile, Detections]]:
    """The people of each picture, as a stream in the order of the pictures.

    Args:
        inputs: a folder, file, pattern or list of them, or (H, W, 3) uint8 RGB arrays
            (a (B, H, W, 3) array is B of them).
        options: which models, and how.
        recursive: whether folders inside folders are searched.
        workers: threads that read pictures ahead.
        unreadable: "raise" ends the stream at a picture that cannot be read, "skip" leaves it out.

    Raises:
        PosepipeError: a model cannot be loaded, an input leads nowhere, a picture cannot be read.
    """
    _check_trouble(unreadable)
    stage = (options or DetectionOptions()).stage()
    return _results(run(stage, _images(inputs, recursive), workers=workers), unreadable)


def estimate_poses(
    inputs: Inputs,
    *,
    options: PoseOptions | None = None,
    detection: DetectionOptions | None = None,
    recursive: bool = False,
    workers: int = 2,
    unreadable: Trouble = "raise",
) -> Iterator[tuple[ImageFile, Poses]]:
    """The poses of the people of each picture, as a stream in the order of the pictures.

    Args:
        inputs: a folder, file, pattern or list of them, or (H, W, 3) uint8 RGB arrays
            (a (B, H, W, 3) array is B of them).
        options: which pose models, and how.
        detection: which detectors, and how.
        recursive: whether folders inside folders are searched.
        workers: threads that read pictures and cut crops ahead.
        unreadable: "raise" ends the stream at a picture that cannot be read, "skip" leaves it out.

    Raises:
        PosepipeError: a model cannot be loaded, an input leads nowhere, a picture cannot be read.
    """
    options = options or PoseOptions()
    stage = options.stage()
    found = detect(
        inputs, options=detection, recursive=recursive, workers=workers, unreadable=unreadable
    )
    results = _results(run(stage, found, workers=workers), unreadable)
    return ((image, options.finish(poses)) for (image, _), poses in results)


def _check_models(models: object, weights: str | Path | None) -> None:
    if not isinstance(models, tuple | list) or not models:
        raise OptionError(f"models takes at least one model, in a tuple; got {models!r}")
    if weights is not None and len(models) > 1:
        raise OptionError("another weights file goes with a single model")


def made_by_both(
    detection: DetectionOptions,
    detection_stage: DetectionStage,
    pose: PoseOptions,
    pose_stage: PoseStage,
) -> MadeBy:
    """What determines the poses of a run through both stages."""
    return made_by(
        "run",
        [*_detectors_used(detection_stage), *_networks_used(pose_stage)],
        {"detection": detection.settings(detection_stage), "pose": pose.settings(pose_stage)},
    )


def _detectors_used(stage: DetectionStage) -> list[ModelUsed]:
    return [ModelUsed(origin.model, origin.weights_sha256) for origin in stage.origins]


def _networks_used(stage: PoseStage) -> list[ModelUsed]:
    return [ModelUsed(model.name, model.weights_sha256) for model in stage.models]


def _where(device: str, precision: str) -> dict[str, object]:
    """The kind of device and the number format, which change results in their last digits."""
    chosen = resolve_device(device)
    return {
        "device": chosen.type,
        "precision": precision_name(resolve_precision(precision, chosen)),
    }


def _check_trouble(unreadable: str) -> None:
    if unreadable not in get_args(Trouble):
        raise OptionError(f"unreadable takes 'raise' or 'skip', got {unreadable!r}")


def _results(outcomes: Iterable[Outcome[In, Out]], unreadable: Trouble) -> Iterator[tuple[In, Out]]:
    for outcome in outcomes:
        if outcome.result is not None:
            yield outcome.item, outcome.result
        elif unreadable == "raise" and outcome.error is not None:
            raise outcome.error


def _images(inputs: Inputs, recursive: bool) -> Iterable[ImageFile]:
    if isinstance(inputs, str | Path):
        return find_images([inputs], recursive=recursive)
    if isinstance(inputs, np.ndarray):
        return images_from_arrays(inputs if inputs.ndim == 4 else [inputs])
    if not isinstance(inputs, Iterable):
        raise OptionError(f"pictures are paths or arrays, got {type(inputs).__name__}")
    if isinstance(inputs, Sequence) and inputs and isinstance(inputs[0], str | Path):
        paths: list[str | Path] = [path for path in inputs if isinstance(path, str | Path)]
        if len(paths) < len(inputs):
            raise OptionError("paths and arrays cannot be mixed in one list: give one or the other")
        return find_images(paths, recursive=recursive)
    arrays: Iterable[Array] = inputs  # type: ignore[assignment]  # what is left of the union
    return images_from_arrays(arrays)
