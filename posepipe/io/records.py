"""What boxes.json and kps.json hold: as nouns, and on the disk, key by key.

Described for users, with an example of each, in docs/file-formats.md.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from posepipe.core.boxes import Detections
from posepipe.core.poses import Poses
from posepipe.core.skeleton import COCO_PERSON, PERSON, Skeleton
from posepipe.io.categories import PERSON_ID
from posepipe.io.findings import Finding
from posepipe.io.images import ImageFile, ImageSet
from posepipe.io.result_list import TOOL, Skipped

# A thousandth of a pixel is far below what a detector or a pose network can tell; a score keeps
# nearly all that a float32 has.
COORDINATE_DECIMALS = 3
SCORE_DECIMALS = 6
SECONDS_DECIMALS = 6

# What determines results besides posepipe itself; what is not installed is left out.
_LIBRARIES = ("numpy", "opencv-python-headless", "pillow", "torch", "torchvision", "detectron2")


class ModelUsed(msgspec.Struct, frozen=True):
    """A model that took part.

    Attributes:
        name: its recipe's name, or the path it was named by.
        weights_sha256: of its weights file.
    """

    name: str
    weights_sha256: str = ""


class MadeBy(msgspec.Struct, frozen=True, kw_only=True):
    """What made a document; no time and no host, so that the same work gives the same bytes.

    Attributes:
        tool: "posepipe".
        version: posepipe's.
        command: "detect" or "run".
        models: in the order in which they were named.
        settings: every setting that affects the result, as JSON values.
        versions: of Python and the libraries.
    """

    tool: str = TOOL
    version: str
    command: str
    models: tuple[ModelUsed, ...] = ()
    settings: dict[str, Any] = {}
    versions: dict[str, str] = {}


@dataclass(frozen=True, eq=False)
class BoxesDocument:
    """The people found in a set of images: what boxes.json and detection lists hold.

    Attributes:
        images: the images, those with nobody in them included.
        detections: one per image, in the same order.
        skipped: images that could not be read when the document was made.
        made_by: None for documents that posepipe did not make.
        problems: what was left out on reading, one line each.
        other_categories: how many boxes of categories other than person were left out on reading.
        findings: what was odd about the file that it was read from.
        category: what was looked for.

    Raises:
        ValueError: detections that do not belong to the images.
    """

    images: ImageSet
    detections: tuple[Detections, ...]
    skipped: tuple[Skipped, ...] = ()
    made_by: MadeBy | None = None
    problems: tuple[str, ...] = ()
    other_categories: int = 0
    findings: tuple[Finding, ...] = ()
    category: str = PERSON

    def __post_init__(self) -> None:
        _check_same_images(self.images, self.detections)


@dataclass(frozen=True, eq=False)
class KeypointsDocument:
    """The poses found in a set of images: what kps.json holds.

    Attributes:
        images: the images; as read back, those with somebody in them.
        poses: one per image, in the same order.
        other_categories: how many poses of categories other than person were left out on reading.
        findings: what was odd about the file that it was read from.

    Raises:
        ValueError: poses that do not belong to the images.
    """

    images: ImageSet
    poses: tuple[Poses, ...]
    other_categories: int = 0
    findings: tuple[Finding, ...] = ()

    def __post_init__(self) -> None:
        _check_same_images(self.images, self.poses)


def made_by(
    command: str, models: Sequence[ModelUsed] = (), settings: Mapping[str, Any] | None = None
) -> MadeBy:
    """What a document says of its origin, with the versions of what is installed here."""
    versions = {"python": ".".join(map(str, sys.version_info[:3]))}
    versions |= {
        library: version for library in _LIBRARIES if (version := installed_version(library))
    }
    return MadeBy(
        version=installed_version(TOOL),
        command=command,
        models=tuple(models),
        settings=dict(settings or {}),
        versions=versions,
    )


def as_written(detections: Detections) -> Detections:
    """Detections as they come back from boxes.json: rounded to what is written there.

    With this between the stages, detecting and posing in one go gives the same numbers as one
    after the other.

    >>> as_written(Detections(1, [[0.1254, 0, 9, 9]], [0.5])).boxes_xyxy[0, 0].item()
    0.125
    """
    return Detections(
        detections.image_id,
        rounded(detections.boxes_xyxy, COORDINATE_DECIMALS).astype(np.float32),
        rounded(detections.scores, SCORE_DECIMALS).astype(np.float32),
        detections.size_wh,
    )


class ImageRecord(msgspec.Struct, frozen=True, gc=False):
    """An image of boxes.json, as it is written; `frame` and `seconds` as in `PoseRecord`."""

    id: int
    file_name: str
    width: int
    height: int
    frame: int | msgspec.UnsetType = msgspec.UNSET
    seconds: float | msgspec.UnsetType = msgspec.UNSET


class PoseRecord(msgspec.Struct, frozen=True, gc=False):
    """An entry of kps.json, as it is written.

    Attributes:
        image_id: which image.
        category_id: 1, person or what the skeleton is of.
        keypoints: x px, y px, confidence of every keypoint in turn.
        score: the pose's score.
        file_name: the image's, relative to the image root.
        image_root: as in boxes.json.
        box_xyxy: the box the pose was looked for in, pixels.
        box_score: the detector's score of it.
        skeleton: what the keypoints are; left out where they are those of COCO's person.
        frame: of a video, the number of the frame, from 0; left out for images.
        seconds: of a video, the frame's time; left out for images.
        track_id: whose pose it is, where people are followed; -1 for people who are not.
    """

    image_id: int
    category_id: int
    keypoints: tuple[float, ...]
    score: float
    file_name: str
    image_root: str
    box_xyxy: tuple[float, float, float, float]
    box_score: float
    skeleton: Skeleton | msgspec.UnsetType = msgspec.UNSET
    frame: int | msgspec.UnsetType = msgspec.UNSET
    seconds: float | msgspec.UnsetType = msgspec.UNSET
    track_id: int | msgspec.UnsetType = msgspec.UNSET


def box_records(found: Iterable[Detections]) -> Iterator[dict[str, object]]:
    """The entries of boxes.json, numbered from 1, rounded to what is written."""
    number = 0
    for detections in found:
        corners = rounded(detections.boxes_xyxy, COORDINATE_DECIMALS)
        # Corners are rounded first: left + width is then the right edge to the last digit.
        sizes = rounded(corners[:, 2:] - corners[:, :2], COORDINATE_DECIMALS)
        bboxes = np.concatenate([corners[:, :2], sizes], axis=1)
        scores = rounded(detections.scores, SCORE_DECIMALS)
        for bbox, score in zip(bboxes.tolist(), scores.tolist(), strict=True):
            number += 1
            yield {
                "id": number,
                "image_id": detections.image_id,
                "category_id": PERSON_ID,
                "bbox": bbox,
                "score": score,
            }


def pose_records(poses: Poses, image: ImageFile, image_root: str) -> Iterator[PoseRecord]:
    """The entries of kps.json of one image, rounded to what is written."""
    keypoints = rounded(poses.keypoints, COORDINATE_DECIMALS)
    keypoints[..., 2] = rounded(poses.keypoints[..., 2], SCORE_DECIMALS)
    boxes = rounded(poses.boxes_xyxy, COORDINATE_DECIMALS)
    scores = rounded(poses.scores, SCORE_DECIMALS)
    box_scores = rounded(poses.box_scores, SCORE_DECIMALS)
    for person in range(len(poses)):
        yield PoseRecord(
            image_id=poses.image_id,
            category_id=PERSON_ID,
            keypoints=tuple(keypoints[person].ravel().tolist()),
            score=float(scores[person]),
            file_name=image.file_name,
            image_root=image_root,
            box_xyxy=tuple(boxes[person].tolist()),
            box_score=float(box_scores[person]),
            skeleton=msgspec.UNSET if poses.skeleton == COCO_PERSON else poses.skeleton,
            frame=msgspec.UNSET if image.frame is None else image.frame,
            seconds=rounded_seconds(image.seconds),
            track_id=msgspec.UNSET if poses.track_ids is None else int(poses.track_ids[person]),
        )


def rounded_seconds(seconds: float | None) -> float | msgspec.UnsetType:
    """A frame's time as it is written; nothing for an image."""
    return msgspec.UNSET if seconds is None else round(seconds, SECONDS_DECIMALS)


def rounded(values: npt.NDArray[np.floating[Any]], decimals: int) -> npt.NDArray[np.float64]:
    """The same numbers in float64 with that many decimals at most; never a negative zero.

    >>> rounded(np.array([0.1, -0.00001], np.float32), 3).tolist()
    [0.1, 0.0]
    """
    result: npt.NDArray[np.float64] = values.astype(np.float64).round(decimals) + 0.0
    return result


def _check_same_images(images: ImageSet, results: Sequence[Detections] | Sequence[Poses]) -> None:
    ids = [image.id for image in images]
    if ids != [result.image_id for result in results]:
        raise ValueError("one result per image is needed, in the same order")
    if len(set(ids)) != len(ids):
        raise ValueError("image ids must differ")


def installed_version(package: str) -> str:
    """The version of a package; "" if it is not installed, as posepipe in a folder of its code."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""
