"""The pipeline in Python: models are loaded once, then images go in and people's poses come out.

pipeline = posepipe.Pipeline()
poses = pipeline("group.jpg")                       # a path, an array or a Pillow image
for image, poses in pipeline.stream("photos/"):     # a folder, a list, a generator of frames
    print(image.file_name, len(poses), "people")
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Literal, TypeAlias

import msgspec
import numpy.typing as npt

from posepipe.core.boxes import Detections
from posepipe.core.poses import Poses
from posepipe.detection.stage import DetectionStage
from posepipe.errors import OptionError
from posepipe.io.documents import MadeBy, ModelUsed, as_written, made_by
from posepipe.io.images import ImageFile
from posepipe.io.inputs import AnyImage, AnyImages, Colour, one_image, own_boxes
from posepipe.loading import load_detection, load_pose
from posepipe.networks.devices import precision_name, resolve_device, resolve_precision
from posepipe.networks.resources import default_workers
from posepipe.networks.runtimes.registry import check_runtime
from posepipe.options import DetectionOptions, PoseOptions
from posepipe.pose.loading import PoseEstimator
from posepipe.pose.stage import PoseStage
from posepipe.runtime.both import run_through_both
from posepipe.runtime.in_parts import Trouble, in_parts, results_of, threads_for
from posepipe.runtime.local import run
from posepipe.scoring.oks import without_duplicates
from posepipe.scoring.rescore import rescored

Command: TypeAlias = Literal["detect", "pose", "run"]


class Pipeline:
    """Finds people in images and estimates their poses, with models that are loaded once.

    Each stage is loaded on first use, or by `load`. A pipeline can be shared between threads:
    images are read and cropped in parallel, and the networks run for one thread at a time.

    Args:
        detection: the detector's name or folder, or its options; None for the defaults.
        pose: the pose model's name or folder, or its options; None for the defaults.
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        precision: "auto", "fp32", "bf16" or "fp16", for the networks' convolutions.
        runtime: what runs the networks: "torch", "onnxruntime" or "openvino"; "auto" is the fastest
            one that is installed and supports them (docs/speed.md).

    Attributes:
        detection: how people are detected.
        pose: how poses are estimated.
        device, precision, runtime: as given.

    Raises:
        OptionError: an option is out of range, or a device, precision or runtime is not available.
    """

    def __init__(
        self,
        detection: DetectionOptions | str | Path | None = None,
        pose: PoseOptions | str | Path | None = None,
        *,
        device: str = "auto",
        precision: str = "auto",
        runtime: str = "auto",
    ) -> None:
        self.detection = DetectionOptions.of(detection)
        self.pose = PoseOptions.of(pose)
        self.device, self.precision, self.runtime = device, precision, runtime
        resolve_precision(precision, resolve_device(device))
        check_runtime(runtime)
        self._place = {"device": device, "precision": precision, "runtime": runtime}
        self._loading = threading.Lock()
        self._detection_stage: DetectionStage | None = None
        self._pose_stage: PoseEstimator | None = None

    def load(self) -> Pipeline:
        """Load both stages; returns the pipeline itself.

        Raises:
            PosepipeError: a model cannot be loaded, or the two do not go together.
        """
        self.both_stages  # noqa: B018
        return self

    def compile(self, command: Command = "run") -> Pipeline:
        """Compile the networks with torch.compile; returns the pipeline itself.

        That takes up to minutes and pays for very long runs on a GPU only (docs/gpu.md).

        Args:
            command: "detect" or "pose" compiles those of one stage alone.

        Raises:
            OptionError: the pose model looks at whole images, another runtime than torch runs a
                network, or it cannot be compiled here.
            PosepipeError: a model cannot be loaded.
        """
        if command in ("detect", "run"):
            self.detection_stage.compile()
        if command == "detect":
            return self
        stage = self.pose_stage
        if not isinstance(stage, PoseStage):
            raise OptionError(
                f"model {stage.models[0].name} looks at whole images: only networks that look at "
                "crops can be compiled: leave out --compile"
            )
        stage.compile()
        return self

    @property
    def detection_stage(self) -> DetectionStage:
        """The first stage: images to detections.

        Raises:
            PosepipeError: a model cannot be loaded, or an option is out of range.
        """
        with self._loading:
            if self._detection_stage is None:
                self._detection_stage = load_detection(self.detection, **self._place)
            return self._detection_stage

    @property
    def pose_stage(self) -> PoseEstimator:
        """The second stage: images with detections to poses, with the detections' scores.

        Raises:
            PosepipeError: a model cannot be loaded, models that do not go together, or an option
                is out of range.
        """
        with self._loading:
            if self._pose_stage is None:
                self._pose_stage = load_pose(self.pose, **self._place)
            return self._pose_stage

    def __call__(self, image: AnyImage, *, colour: Colour = "rgb") -> Poses:
        """The poses of all people in one image; empty if there are none.

        Args:
            image: a path, a Pillow image, or an array of uint8: (H, W, 3), greyscale (H, W), or
                (H, W, 4), which is composited on white. Other types raise an error.
            colour: the channel order of an array: "bgr" for OpenCV's.

        Raises:
            PosepipeError: a model cannot be loaded, or the image cannot be read.
        """
        self.both_stages  # noqa: B018  # they go together
        item = _read(image, colour)
        return self._poses(item, self._detections(item))

    def detect(self, image: AnyImage, *, colour: Colour = "rgb") -> Detections:
        """The boxes of all people in one image, best first, as in boxes.json.

        Args:
            image: see `__call__`.
            colour: see `__call__`.

        Raises:
            PosepipeError: a model cannot be loaded, or the image cannot be read.
        """
        return self._detections(_read(image, colour))

    def poses(
        self,
        image: AnyImage,
        boxes_xyxy: npt.ArrayLike,
        *,
        scores: npt.ArrayLike | None = None,
        colour: Colour = "rgb",
    ) -> Poses:
        """The poses of the people in given boxes, in the order of the boxes.

        Args:
            image: see `__call__`.
            boxes_xyxy: (N, 4) corners in pixels; N may be 0.
            scores: (N,) scores of the boxes in [0, 1]; None: 1.
            colour: see `__call__`.

        Raises:
            OptionError: boxes or scores have another shape, or are out of range.
            PosepipeError: a model cannot be loaded, or the image cannot be read.
        """
        item = one_image(image, colour=colour)
        return self._poses(item, own_boxes(item.id, boxes_xyxy, scores))

    def stream(
        self,
        images: AnyImages,
        *,
        colour: Colour = "rgb",
        recursive: bool = False,
        workers: int | None = None,
        together: int | None = None,
        unreadable: Trouble = "raise",
    ) -> Iterator[tuple[ImageFile, Poses]]:
        """The poses in many images, in order, each as soon as it is ready.

        Inputs with a length (a folder, a list, an array of frames) are read ahead and processed in
        batches. From other inputs (a generator, a camera), each image's poses are ready before the
        next image is requested.

        Args:
            images: a folder, file or pattern, or a list of them; images as `__call__` takes them,
                in a list or any iterable; or a (B, H, W, 3) array of B images. Arrays in a
                list must stay as they are until their poses are there.
            colour: the channel order of arrays.
            recursive: also search subfolders.
            workers: threads that read and crop images ahead; None: by cores, memory and device
                (docs/speed.md).
            together: how many images are taken before the first one's poses are ready: more is
                faster, 1 has the lowest latency. None: as described above.
            unreadable: "raise" ends the stream at an unreadable image, "skip" leaves it out.

        Yields:
            Each image with its poses.

        Raises:
            PosepipeError: a model cannot be loaded, an input does not exist, or an image cannot be
                read.
        """
        first, second = self.both_stages
        parts = in_parts(images, colour=colour, recursive=recursive, together=together)
        workers = self._default_workers if workers is None else workers
        outcomes = (
            outcome
            for part in parts
            for outcome in run_through_both(first, second, part, workers=threads_for(part, workers))
        )
        results = results_of(outcomes, unreadable)
        return ((image, self.finish(poses)) for image, poses in results)

    def stream_detections(
        self,
        images: AnyImages,
        *,
        colour: Colour = "rgb",
        recursive: bool = False,
        workers: int | None = None,
        together: int | None = None,
        unreadable: Trouble = "raise",
    ) -> Iterator[tuple[ImageFile, Detections]]:
        """The boxes of the people in many images, in order; see `stream`."""
        stage = self.detection_stage
        parts = in_parts(images, colour=colour, recursive=recursive, together=together)
        workers = self._default_workers if workers is None else workers
        outcomes = (
            outcome
            for part in parts
            for outcome in run(stage, part, workers=threads_for(part, workers))
        )
        return ((image, as_written(found)) for image, found in results_of(outcomes, unreadable))

    def finish(self, poses: Poses) -> Poses:
        """The poses of one image, rescored and without duplicates, as the options say."""
        if not len(poses):
            return poses
        scored = rescored(poses) if self.pose.rescore else poses
        if self.pose.oks_nms is None:
            return scored
        return without_duplicates(scored, threshold=self.pose.oks_nms)

    def made_by(self, command: Command) -> MadeBy:
        """What determines the results of a command: models, settings and versions."""
        models: list[ModelUsed] = []
        settings: dict[str, dict[str, object]] = {}
        if command in ("detect", "run"):
            origins = self.detection_stage.origins
            models += [ModelUsed(origin.model, origin.weights_sha256) for origin in origins]
            settings["detection"] = self._detection_settings()
        if command in ("pose", "run"):
            networks = self.pose_stage.models
            models += [ModelUsed(network.name, network.weights_sha256) for network in networks]
            settings["pose"] = self._pose_settings()
        return made_by(command, models, settings if command == "run" else settings.popitem()[1])

    @cached_property
    def _default_workers(self) -> int:
        return default_workers(self.device)

    def _detections(self, image: ImageFile) -> Detections:
        [found] = self.detection_stage([self.detection_stage.prepare(image)])
        return as_written(found)

    @property
    def both_stages(self) -> tuple[DetectionStage, PoseEstimator]:
        """Both stages, checked to be of the same category.

        Raises:
            OptionError: the detector finds another category than the pose model needs.
            PosepipeError: a model cannot be loaded.
        """
        first, second = self.detection_stage, self.pose_stage
        found, wanted = first.settings.category, second.skeleton.category
        if found != wanted:
            raise OptionError(
                f"the detector finds {found!r}, but the pose model {second.models[0].name} is for "
                f"{wanted!r}: name a detector whose recipe has [skeleton] category = "
                f"{wanted!r}, or give boxes"
            )
        return first, second

    def _poses(self, image: ImageFile, found: Detections) -> Poses:
        [poses] = self.pose_stage([self.pose_stage.prepare((image, found))])
        return self.finish(poses)

    def _detection_settings(self) -> dict[str, object]:
        """Everything but the models that affects the boxes."""
        chosen, stage = self.detection, self.detection_stage
        return {
            "suppression": asdict(stage.settings.suppression),
            "scales": list(stage.settings.scales),
            "flip": chosen.flip,
            "min_score": stage.settings.min_score,
            "backends": [origin.backend for origin in stage.origins],
            **({"set": list(chosen.changes)} if chosen.changes else {}),
            **self._where([origin.precision for origin in stage.origins]),
        }

    def _pose_settings(self) -> dict[str, object]:
        """Everything but the models and boxes that affects the poses."""
        return {
            "head": self.pose.head,
            "decoding": msgspec.to_builtins(self.pose_stage.decoding),
            "rescore": self.pose.rescore,
            "oks_nms": self.pose.oks_nms,
            **({"set": list(self.pose.changes)} if self.pose.changes else {}),
            "runtimes": [model.runtime for model in self.pose_stage.models],
            **self._where([precision_name(model.dtype) for model in self.pose_stage.models]),
        }

    def _where(self, precisions: Sequence[str]) -> dict[str, object]:
        """The kind of device and the number formats, which change results in their last digits."""
        device = resolve_device(self.device)
        return {"device": device.type, "precision": ", ".join(dict.fromkeys(precisions))}


def detect(
    images: AnyImages, *, options: DetectionOptions | None = None, **streaming: Any
) -> Iterator[tuple[ImageFile, Detections]]:
    """The people in each image: `Pipeline.stream_detections` with its arguments.

    Without options, the models are loaded once for all calls. With options, they are loaded at
    every call; create a `Pipeline` to avoid that.

    Raises:
        PosepipeError: as `Pipeline.stream_detections`.
    """
    pipeline = Pipeline(options) if options else _default_pipeline()
    return pipeline.stream_detections(images, **streaming)


def estimate_poses(
    images: AnyImages,
    *,
    options: PoseOptions | None = None,
    detection: DetectionOptions | None = None,
    **streaming: Any,
) -> Iterator[tuple[ImageFile, Poses]]:
    """The poses of the people in each image: `Pipeline.stream` with its arguments.

    Without options, the models are loaded once for all calls. With options, they are loaded at
    every call; create a `Pipeline` to avoid that.

    Raises:
        PosepipeError: as `Pipeline.stream`.
    """
    pipeline = Pipeline(detection, options) if detection or options else _default_pipeline()
    return pipeline.stream(images, **streaming)


@cache
def _default_pipeline() -> Pipeline:
    return Pipeline()


def _read(given: AnyImage, colour: Colour) -> ImageFile:
    image = one_image(given, colour=colour)
    return replace(image, pixels=image.read())
