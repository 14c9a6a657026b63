"""Results as other libraries' types; each library is imported when it is needed.

key_points = posepipe.adapters.to_sv_key_points(poses)       # supervision draws and tracks them
table = posepipe.adapters.to_pandas(pipeline.stream("photos/"))
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from posepipe.core.boxes import Detections
from posepipe.core.poses import Poses
from posepipe.core.skeleton import PERSON
from posepipe.errors import MissingDependencyError

if TYPE_CHECKING:
    import pandas as pd
    import supervision as sv

    from posepipe.io.images import ImageFile


def to_sv_key_points(poses: Poses) -> sv.KeyPoints:
    """Poses as `supervision.KeyPoints`, with keypoint confidences and pose scores.

    Args:
        poses: the poses of one image; may be empty.

    Raises:
        MissingDependencyError: supervision is not installed.
    """
    supervision = _imported("supervision")
    key_points: sv.KeyPoints = supervision.KeyPoints(
        xy=poses.keypoints[..., :2].astype(np.float32),
        keypoint_confidence=poses.keypoints[..., 2].astype(np.float32),
        detection_confidence=poses.scores.astype(np.float32),
        class_id=np.zeros(len(poses), int),
        data={"class_name": np.array([poses.skeleton.category] * len(poses), dtype=str)},
    )
    return key_points


def to_sv_detections(people: Detections | Poses, *, class_name: str | None = None) -> sv.Detections:
    """Boxes as `supervision.Detections`, in the same order, for example for its trackers.

    Args:
        people: of one image: detections, or poses, whose boxes are taken with the poses' scores.
        class_name: what they are. None: the category of the poses' skeleton; of detections, which
            do not say, "person".

    Raises:
        MissingDependencyError: supervision is not installed.
    """
    supervision = _imported("supervision")
    category = people.skeleton.category if isinstance(people, Poses) else PERSON
    name = category if class_name is None else class_name
    detections: sv.Detections = supervision.Detections(
        xyxy=people.boxes_xyxy.astype(np.float32),
        confidence=people.scores.astype(np.float32),
        class_id=np.zeros(len(people), int),
        data={"class_name": np.array([name] * len(people), dtype=str)},
    )
    return detections


def to_pandas(poses: Poses | Iterable[tuple[ImageFile, Poses]]) -> pd.DataFrame:
    """A `pandas.DataFrame` with a row for every keypoint of every person.

    Args:
        poses: the poses of one image, or the stream of `Pipeline.stream`.

    Returns:
        A table with the columns image_id, file_name (only for a stream), person (0, 1, … in each
        image), score (of the pose), keypoint (its name), x, y (in pixels) and confidence.

    Raises:
        MissingDependencyError: pandas is not installed.
    """
    pandas = _imported("pandas")
    images = [("", poses)] if isinstance(poses, Poses) else [(i.file_name, p) for i, p in poses]
    tables = [_columns(name, people) for name, people in [("", Poses.none(0)), *images]]
    columns = {name: np.concatenate([table[name] for table in tables]) for name in tables[0]}
    if isinstance(poses, Poses):
        del columns["file_name"]
    frame: pd.DataFrame = pandas.DataFrame(columns)
    return frame


def _columns(file_name: str, poses: Poses) -> dict[str, npt.NDArray[Any]]:
    people, count, _ = poses.keypoints.shape
    x, y, confidence = poses.keypoints.reshape(-1, 3).T
    return {
        "image_id": np.full(len(x), poses.image_id),
        "file_name": np.full(len(x), file_name),
        "person": np.repeat(np.arange(people), count),
        "score": np.repeat(poses.scores, count),
        "keypoint": np.tile(np.array(poses.skeleton.keypoints), people),
        "x": x,
        "y": y,
        "confidence": confidence,
    }


def _imported(library: str) -> Any:
    try:
        return import_module(library)
    except ImportError:
        raise MissingDependencyError(
            f"this needs {library}: pip install 'posepipe[{library}]', or pip install {library}"
        ) from None
