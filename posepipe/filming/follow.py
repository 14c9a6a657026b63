"""Poses in films: people keep their numbers, keypoints do not jitter, detectors may rest.

with Film("clip.mp4") as film:
    for frame in follow(pipeline, film):
        print(frame.seconds, frame.poses.track_ids)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np
import numpy.typing as npt

from posepipe.core.boxes import Detections
from posepipe.core.poses import Poses
from posepipe.errors import OptionError
from posepipe.io.films import Film, as_image
from posepipe.io.images import ImageFile
from posepipe.pipeline import Pipeline
from posepipe.tracking.smoothing import Smoother, SmoothingOptions
from posepipe.tracking.tracker import Track, Tracker, TrackingOptions

FRAMES_TOGETHER = 8
# While the detector rests: a keypoint of this confidence says where its person goes; and people
# whose mean confidence falls below this share of what it was when detected are looked for again.
_SURE = 0.2
_LOST = 0.6


@dataclass(frozen=True, eq=False)
class FramePoses:
    """A frame, and the people in it.

    Attributes:
        image: the frame; its id is its number in the film from 1, its pixels are in memory.
        frame: the number in the film, from 0.
        seconds: since the film's beginning.
        poses: with `track_ids`, if people are followed.
    """

    image: ImageFile
    frame: int
    seconds: float
    poses: Poses


def follow(
    pipeline: Pipeline,
    film: Film,
    *,
    tracking: TrackingOptions | None = None,
    smoothing: SmoothingOptions | None = None,
    detect_every: int = 1,
    workers: int = 2,
    known: Mapping[int, Poses] | None = None,
    noted: Callable[[Poses], None] = lambda poses: None,
) -> Iterator[FramePoses]:
    """The poses in every frame of a film that its options choose, in order.

    Args:
        pipeline: finds the people and their poses.
        film: open; from a live source, each frame's poses are ready before the next frame is taken.
        tracking: how people get numbers; None for no numbers.
        smoothing: how keypoints are smoothed, which needs numbers; None for not at all.
        detect_every: the detector looks at every n-th frame; in between, the people of the
            frame before are looked for where they would have moved to. Needs numbers.
        workers: threads that prepare frames ahead.
        known: what was `noted` of frames before, by their images' ids: these are not looked at
            again, and everything after them is as if they had been.
        noted: told what the networks find in a frame, before people get numbers.

    Raises:
        OptionError: smoothing or fewer detections without tracking; `detect_every` below 1.
        PosepipeError: a model cannot be loaded.
    """
    check_following(tracking, smoothing, detect_every)
    tracker = Tracker(tracking) if tracking is not None else None
    smoother = Smoother(smoothing) if smoothing is not None else None
    if tracker is not None and detect_every > 1:
        found = _between_detections(pipeline, film, tracker, detect_every, known or {}, noted)
    else:
        found = _in_every_frame(pipeline, film, workers, known or {}, noted)
    for frame in found:
        poses = frame.poses
        if tracker is not None and poses.track_ids is None:
            poses = tracker(poses, frame.seconds)
        if smoother is not None:
            poses = smoother(poses, frame.seconds)
        yield replace(frame, poses=poses)


def check_following(
    tracking: TrackingOptions | None, smoothing: SmoothingOptions | None, detect_every: int
) -> None:
    """Check that options of `follow` go together.

    Raises:
        OptionError: smoothing or fewer detections without tracking; `detect_every` below 1.
    """
    if detect_every < 1:
        raise OptionError(
            f"the detector looks at every 1st frame or less often, got {detect_every}"
        )
    if tracking is None and (smoothing is not None or detect_every > 1):
        what = "smoothing" if smoothing is not None else "detecting in some frames only"
        raise OptionError(f"{what} needs people who are followed: choose tracking, too (--track)")


def _in_every_frame(
    pipeline: Pipeline,
    film: Film,
    workers: int,
    known: Mapping[int, Poses],
    noted: Callable[[Poses], None],
) -> Iterator[FramePoses]:
    """Frames go through the stages together, as pictures do; of a live source one by one."""
    together = 1 if film.is_live else FRAMES_TOGETHER
    images = (as_image(film, frame) for frame in film)
    for are_known, part in groupby(images, key=lambda image: image.id in known):
        if are_known:
            for image in part:
                yield _of_frame(image, known[image.id])
            continue
        for image, poses in pipeline.stream(part, workers=workers, together=together):
            noted(poses)
            yield _of_frame(image, poses)


def _of_frame(image: ImageFile, poses: Poses) -> FramePoses:
    return FramePoses(image, image.frame or 0, image.seconds or 0.0, poses)


def _between_detections(
    pipeline: Pipeline,
    film: Film,
    tracker: Tracker,
    detect_every: int,
    known: Mapping[int, Poses],
    noted: Callable[[Poses], None],
) -> Iterator[FramePoses]:
    """One frame after the other, the detector resting while poses say where people are."""
    since = detect_every
    at_detection: dict[int, float] = {}
    for frame in film:
        image = as_image(film, frame)
        tracks = tracker.predicted(frame.seconds)
        detects = since >= detect_every or not tracks
        found = known.get(image.id)
        if found is None:
            found = pipeline(image) if detects else _of_tracks(pipeline, image, tracks)
            noted(found)
        poses = tracker(found, frame.seconds)
        if detects:
            at_detection = _confidences(poses)
            since = 1
        else:
            now = _confidences(poses)
            lost = [n for n, was in at_detection.items() if now.get(n, 0.0) < _LOST * was]
            since = detect_every if lost else since + 1
        yield _of_frame(image, poses)


def _of_tracks(pipeline: Pipeline, image: ImageFile, tracks: tuple[Track, ...]) -> Poses:
    """The poses of people who are looked for in predicted boxes, which then follow the poses."""
    boxes = np.array([track.motion.box_xyxy for track in tracks])
    scores = np.array([track.score for track in tracks])
    found = Detections(image.id, boxes.astype(np.float32), scores.astype(np.float32))
    poses = pipeline.poses(image, found.boxes_xyxy, scores=found.scores)
    moved = np.array(
        [
            _moved(box, track.keypoints, keypoints)
            for box, track, keypoints in zip(boxes, tracks, poses.keypoints, strict=True)
        ]
    )
    return replace(poses, boxes_xyxy=moved)


def _moved(
    box_xyxy: npt.NDArray[np.float64],
    before: npt.NDArray[np.float64],
    after: npt.NDArray[np.float64],
) -> npt.NDArray[np.float64]:
    """A box that moves as its person's keypoints (K, 3) do: it moves and grows with them."""
    sure = (before[:, 2] >= _SURE) & (after[:, 2] >= _SURE)
    if np.count_nonzero(sure) < 3:
        return box_xyxy
    weights = np.sqrt(before[sure, 2] * after[sure, 2])[:, None]
    weights = weights / weights.sum()
    old_middle = (weights * before[sure, :2]).sum(axis=0)
    new_middle = (weights * after[sure, :2]).sum(axis=0)
    old_spread = float((weights * (before[sure, :2] - old_middle) ** 2).sum())
    new_spread = float((weights * (after[sure, :2] - new_middle) ** 2).sum())
    growth = float(np.sqrt(new_spread / old_spread)) if old_spread > 0 else 1.0
    from_middle = box_xyxy - np.tile(old_middle, 2)
    moved: npt.NDArray[np.float64] = (
        np.tile(new_middle, 2) + min(max(growth, 0.9), 1.1) * from_middle
    )
    return moved


def _confidences(poses: Poses) -> dict[int, float]:
    """The mean confidence of everybody who is followed, by number."""
    if poses.track_ids is None:
        return {}
    means = poses.keypoints[..., 2].mean(axis=1)
    return {int(n): float(c) for n, c in zip(poses.track_ids, means, strict=True) if n > 0}
