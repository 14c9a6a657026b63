"""End-to-end top-down multi-person 2D pose estimation after the Cascaded Pyramid Network.

The public names, loaded when first used, so that ``import posepipe`` is quick:

- `Pipeline`: models loaded once, then images in and poses out; `DetectionOptions`, `PoseOptions`
- `detect`, `estimate_poses`, `evaluate`: the three stages in a line each
- `run_distributed`, `Cluster`: the same for any number of images, on a Ray cluster
- `train`, `TrainOptions`, `DataTable`: training
- `Video`, `VideoOptions`, `follow`, `TrackingOptions`, `SmoothingOptions`: the poses in a video
- `Detections`, `Poses`, `ScoreCard`, `ImageFile`: what they give
- `draw_poses`, `DrawStyle`: an image with skeletons
- `PosepipeError`: the base of every error
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from posepipe.core.boxes import Detections
    from posepipe.core.poses import Poses
    from posepipe.distributed.cluster import Cluster
    from posepipe.distributed.run import run_distributed
    from posepipe.drawing.draw import draw_poses
    from posepipe.drawing.style import DrawStyle
    from posepipe.errors import PosepipeError
    from posepipe.io.images import ImageFile
    from posepipe.io.videos import Video, VideoOptions
    from posepipe.options import DetectionOptions, PoseOptions
    from posepipe.pipeline import Pipeline, detect, estimate_poses
    from posepipe.scoring.evaluation import evaluate
    from posepipe.scoring.scorecard import ScoreCard
    from posepipe.tracking.smoothing import SmoothingOptions
    from posepipe.tracking.tracker import TrackingOptions
    from posepipe.training.data import DataTable
    from posepipe.training.runs import TrainOptions, train
    from posepipe.videos.follow import follow

_HOMES = {
    "Cluster": "posepipe.distributed.cluster",
    "DataTable": "posepipe.training.data",
    "DetectionOptions": "posepipe.options",
    "Detections": "posepipe.core.boxes",
    "DrawStyle": "posepipe.drawing.style",
    "Video": "posepipe.io.videos",
    "VideoOptions": "posepipe.io.videos",
    "ImageFile": "posepipe.io.images",
    "Pipeline": "posepipe.pipeline",
    "PoseOptions": "posepipe.options",
    "Poses": "posepipe.core.poses",
    "PosepipeError": "posepipe.errors",
    "ScoreCard": "posepipe.scoring.scorecard",
    "SmoothingOptions": "posepipe.tracking.smoothing",
    "TrackingOptions": "posepipe.tracking.tracker",
    "TrainOptions": "posepipe.training.runs",
    "detect": "posepipe.pipeline",
    "draw_poses": "posepipe.drawing.draw",
    "estimate_poses": "posepipe.pipeline",
    "evaluate": "posepipe.scoring.evaluation",
    "follow": "posepipe.videos.follow",
    "run_distributed": "posepipe.distributed.run",
    "train": "posepipe.training.runs",
}

__all__ = [
    "Cluster",
    "DataTable",
    "DetectionOptions",
    "Detections",
    "DrawStyle",
    "ImageFile",
    "Pipeline",
    "PoseOptions",
    "PosepipeError",
    "Poses",
    "ScoreCard",
    "SmoothingOptions",
    "TrackingOptions",
    "TrainOptions",
    "Video",
    "VideoOptions",
    "detect",
    "draw_poses",
    "estimate_poses",
    "evaluate",
    "follow",
    "run_distributed",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'posepipe' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
