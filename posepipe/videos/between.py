"""Frames in which the detector rests: people are where their poses say that they have moved to.

A box that was detected moves and grows with its person's keypoints. It is always the detected box
that is moved, not the one of the frame before, so that errors do not add up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from posepipe.core.boxes import Detections, area, clip
from posepipe.core.poses import Poses
from posepipe.io.images import ImageFile
from posepipe.io.videos import Video, as_image
from posepipe.pipeline import Pipeline
from posepipe.tracking.tracker import Track, Tracker

FloatArray = npt.NDArray[np.float64]
# A keypoint of this confidence says where its person goes; people whose mean confidence falls
# below this share of what it was when detected are looked for again.
_SURE = 0.3
_LOST = 0.6
# A box grows by as much as its keypoints say if they are spread over more of it than this share.
_STIFFNESS = 0.2
_MOST_GROWTH = 2.0
# Of people who leave the image so little of the box is left inside that they are gone.
_GONE = 0.1


@dataclass(frozen=True, eq=False)
class Anchor:
    """A person as detected: (4,) box, (K, 3) keypoints."""

    box_xyxy: FloatArray
    keypoints: FloatArray

    @property
    def confidence(self) -> float:
        """The mean confidence of the keypoints."""
        return float(self.keypoints[:, 2].mean())

    def moved(self, keypoints: FloatArray) -> FloatArray | None:
        """(4,) the box where its person is now, whose keypoints (K, 3) these are.

        It is shifted and scaled as fits the sure keypoints best (least squares); where they lie
        close together, and say little about size, it rather keeps its own. None if fewer than two
        are sure.
        """
        before, after = self.keypoints, keypoints
        sure = (before[:, 2] >= _SURE) & (after[:, 2] >= _SURE)
        if np.count_nonzero(sure) < 2:
            return None
        weights = np.where(sure, np.sqrt(np.abs(before[:, 2] * after[:, 2])), 0.0)[:, None]
        weights = weights / weights.sum()
        old_middle = (weights * before[:, :2]).sum(axis=0)
        new_middle = (weights * after[:, :2]).sum(axis=0)
        old, new = before[:, :2] - old_middle, after[:, :2] - new_middle
        longer = float(max(self.box_xyxy[2:] - self.box_xyxy[:2]))
        prior = (_STIFFNESS * longer) ** 2
        growth = float(((weights * old * new).sum() + prior) / ((weights * old**2).sum() + prior))
        growth = min(max(growth, 1 / _MOST_GROWTH), _MOST_GROWTH)
        moved: FloatArray = np.tile(new_middle, 2) + growth * (
            self.box_xyxy - np.tile(old_middle, 2)
        )
        return moved


def between_detections(
    pipeline: Pipeline,
    video: Video,
    tracker: Tracker,
    detect_every: int,
    known: Mapping[int, Poses],
    noted: Callable[[Poses], None],
) -> Iterator[tuple[ImageFile, Poses]]:
    """Frames with the numbered people in them; see `posepipe.videos.follow.follow`.

    The detector looks at every n-th frame; and where nobody is followed, or somebody got lost in
    the frame before.
    """
    since = detect_every
    anchors: dict[int, Anchor] = {}
    for frame in video:
        image = as_image(video, frame)
        tracks = tracker.predicted(frame.seconds)
        detects = since >= detect_every or not tracks
        found = known.get(image.id)
        if found is None:
            found = pipeline(image) if detects else _of_tracks(pipeline, image, tracks, anchors)
            noted(found)
        poses = tracker(found, frame.seconds)
        if detects:
            anchors = _anchors(poses)
            since = 1
        else:
            now = {number: anchor.confidence for number, anchor in _anchors(poses).items()}
            lost = [n for n, was in anchors.items() if now.get(n, 0.0) < _LOST * was.confidence]
            since = detect_every if lost else since + 1
        yield image, poses


def _anchors(poses: Poses) -> dict[int, Anchor]:
    """Everybody who is followed, by number."""
    if poses.track_ids is None:
        return {}
    people = zip(poses.track_ids.tolist(), poses.boxes_xyxy, poses.keypoints, strict=True)
    return {n: Anchor(np.asarray(box, np.float64), points) for n, box, points in people if n > 0}


def _of_tracks(
    pipeline: Pipeline,
    image: ImageFile,
    tracks: tuple[Track, ...],
    anchors: Mapping[int, Anchor],
) -> Poses:
    """The poses of people looked for in predicted boxes, in boxes that follow these poses."""
    boxes = np.array([track.motion.box_xyxy for track in tracks])
    scores = np.array([track.score for track in tracks])
    found = Detections(image.id, boxes.astype(np.float32), scores.astype(np.float32))
    poses = pipeline.poses(image, found.boxes_xyxy, scores=found.scores)
    for place, track in enumerate(tracks):
        anchor = anchors.get(track.id)
        moved = None if anchor is None else anchor.moved(poses.keypoints[place])
        if moved is not None:
            boxes[place] = moved
    inside = clip(boxes, image.size_wh).astype(np.float64)
    here = area(inside) > _GONE * area(boxes)
    return replace(poses, boxes_xyxy=inside).of(here)
