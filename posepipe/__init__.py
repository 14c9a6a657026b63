"""End-to-end top-down multi-person 2D pose estimation after the Cascaded Pyramid Network.

The public names, loaded when first used, so that ``import posepipe`` is quick:

- `detect`, `estimate_poses`, `evaluate`: the three stages (`posepipe.api`)
- `DetectionOptions`, `PoseOptions`: their options
- `train`, `TrainOptions`, `DataTable`: training
- `Detections`, `Poses`, `ScoreCard`, `ImageFile`: what they give
- `draw_poses`: a picture with skeletons
- `PosepipeError`: the base of every error
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from posepipe.api import (
        DataTable,
        DetectionOptions,
        PoseOptions,
        TrainOptions,
        detect,
        estimate_poses,
        evaluate,
        train,
    )
    from posepipe.core.boxes import Detections
    from posepipe.core.poses import Poses
    from posepipe.drawing.draw import draw_poses
    from posepipe.errors import PosepipeError
    from posepipe.io.images import ImageFile
    from posepipe.scoring.scorecard import ScoreCard

_HOMES = {
    "DataTable": "posepipe.api",
    "DetectionOptions": "posepipe.api",
    "Detections": "posepipe.core.boxes",
    "ImageFile": "posepipe.io.images",
    "PoseOptions": "posepipe.api",
    "Poses": "posepipe.core.poses",
    "PosepipeError": "posepipe.errors",
    "ScoreCard": "posepipe.scoring.scorecard",
    "TrainOptions": "posepipe.api",
    "detect": "posepipe.api",
    "draw_poses": "posepipe.drawing.draw",
    "estimate_poses": "posepipe.api",
    "evaluate": "posepipe.api",
    "train": "posepipe.api",
}

__all__ = [
    "DataTable",
    "DetectionOptions",
    "Detections",
    "ImageFile",
    "PoseOptions",
    "PosepipeError",
    "Poses",
    "ScoreCard",
    "TrainOptions",
    "detect",
    "draw_poses",
    "estimate_poses",
    "evaluate",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'posepipe' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
