"""Who is who from frame to frame.

Every person gets a number and keeps it. A track predicts where its box and keypoints will be, and
people are assigned to tracks so that the sum of likenesses is largest (the Hungarian method): first
those of whom the detector is sure, then, as in ByteTrack (Zhang et al. 2022), the doubtful ones to
tracks that are still free. A track that finds nobody is kept for a while, in case the person comes
back. Likeness is the mean of the boxes' IoU and of the poses' OKS: boxes alone exchange people who
pass each other, keypoints alone fail where few are seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from posepipe.core.boxes import area, iou
from posepipe.core.poses import Poses
from posepipe.errors import OptionError
from posepipe.tracking.motion import Motion

FloatArray = npt.NDArray[np.float64]
NOBODY = -1  # the number of people who are not tracked


@dataclass(frozen=True, kw_only=True)
class TrackingOptions:
    """How people are tracked. Scores are the detector's.

    Attributes:
        sure: people with this score or more are assigned first, and can start a track.
        doubtful: people with this score or more can continue a track; others are not tracked.
        likeness: lowest similarity (mean of box IoU and OKS, in [0, 1]) of a person with a track.
        likeness_doubtful: the same for people with a score below `sure`.
        keep: how many seconds a lost track is kept.

    Raises:
        OptionError: a value is out of range.
    """

    sure: float = 0.5
    doubtful: float = 0.1
    likeness: float = 0.2
    likeness_doubtful: float = 0.4
    keep: float = 1.5

    def __post_init__(self) -> None:
        for name in ("sure", "doubtful", "likeness", "likeness_doubtful"):
            if not 0 <= getattr(self, name) <= 1:
                raise OptionError(f"{name} must lie in [0, 1], got {getattr(self, name)}")
        if self.doubtful > self.sure:
            raise OptionError(f"doubtful must not exceed sure, got {self.doubtful} and {self.sure}")
        if not 0 <= self.keep < np.inf:
            raise OptionError(f"keep must be 0 seconds or more, got {self.keep}")


@dataclass(frozen=True, eq=False)
class Track:
    """A person who is followed.

    Attributes:
        id: the person's number, from 1.
        motion: of the box, at the time of the last frame.
        keypoints: (K, 3) as last seen, moved along with the box since.
        score: the detector's when it was last seen.
        last_seen: seconds.
    """

    id: int
    motion: Motion
    keypoints: FloatArray
    score: float
    last_seen: float

    def after(self, seconds: float) -> Track:
        """The track some seconds later; its keypoints move with the middle of its box."""
        later = self.motion.after(seconds)
        keypoints = self.keypoints.copy()
        keypoints[:, :2] += later.mean[:2] - self.motion.mean[:2]
        return replace(self, motion=later, keypoints=keypoints)


class Tracker:
    """Numbers people, frame after frame.

    Frames go through in the order of their time. What it gives depends on nothing but what went in
    before, so that going through the same frames again gives the same numbers.
    """

    def __init__(self, options: TrackingOptions | None = None) -> None:
        self.options = options or TrackingOptions()
        self.tracks: tuple[Track, ...] = ()
        self._next_id = 1
        self._seconds: float | None = None

    def predicted(self, seconds: float) -> tuple[Track, ...]:
        """The tracks as they will be at a time, those whose person was seen in the last frame."""
        passed = self._passed(seconds)
        return tuple(
            track.after(passed) for track in self.tracks if track.last_seen == self._seconds
        )

    def __call__(self, poses: Poses, seconds: float) -> Poses:
        """The poses of the next frame with `track_ids`, in their order; -1 for people not tracked.

        Args:
            poses: of the frame; nobody is a legal answer.
            seconds: the frame's time; it must not be before the last one's.

        Raises:
            ValueError: a time before the last frame's.
        """
        passed = self._passed(seconds)
        tracks = [track.after(passed) for track in self.tracks]
        seen_last = [track.last_seen == self._seconds for track in self.tracks]
        ids = np.full(len(poses), NOBODY, np.int64)
        sure = np.flatnonzero(poses.box_scores >= self.options.sure)
        doubtful = np.flatnonzero(
            (poses.box_scores >= self.options.doubtful) & (poses.box_scores < self.options.sure)
        )
        free = list(range(len(tracks)))
        for people, among, least in (
            (sure, free, self.options.likeness),
            (doubtful, [n for n in free if seen_last[n]], self.options.likeness_doubtful),
        ):
            candidates = [n for n in among if n in free]
            for person, place in _assigned(poses, people, [tracks[n] for n in candidates], least):
                number = candidates[place]
                tracks[number] = _continued(tracks[number], poses, person, seconds)
                ids[person] = tracks[number].id
                free.remove(number)
        for person in sure[ids[sure] == NOBODY]:
            tracks.append(_begun(self._next_id, poses, person, seconds))
            ids[person] = self._next_id
            self._next_id += 1
        self.tracks = tuple(t for t in tracks if seconds - t.last_seen <= self.options.keep)
        self._seconds = seconds
        return replace(poses, track_ids=ids)

    def _passed(self, seconds: float) -> float:
        if self._seconds is not None and seconds < self._seconds:
            raise ValueError(f"frames must come in order, got {seconds} s after {self._seconds} s")
        return 0.0 if self._seconds is None else seconds - self._seconds


def _assigned(
    poses: Poses, people: npt.NDArray[np.intp], tracks: Sequence[Track], least: float
) -> list[tuple[int, int]]:
    """Pairs of a person and the place of a track, each at most once, of the largest likeness."""
    if not len(people) or not tracks:
        return []
    alike = _likeness(poses, people, tracks)
    alike = np.where(alike >= least, alike, 0.0)
    rows, columns = linear_sum_assignment(alike, maximize=True)
    return [
        (int(people[row]), int(column))
        for row, column in zip(rows, columns, strict=True)
        if alike[row, column] > 0
    ]


def _likeness(poses: Poses, people: npt.NDArray[np.intp], tracks: Sequence[Track]) -> FloatArray:
    """(people, tracks) mean of the boxes' IoU and the poses' OKS."""
    boxes = np.array([track.motion.box_xyxy for track in tracks])
    overlap = iou(poses.boxes_xyxy[people], boxes)
    here, there = poses.keypoints[people][:, None], np.array([t.keypoints for t in tracks])[None]
    variances = (2 * np.asarray(poses.skeleton.sigmas)) ** 2
    squared = ((here[..., :2] - there[..., :2]) ** 2).sum(axis=-1)
    scale = (area(poses.boxes_xyxy[people])[:, None] + area(boxes)[None])[..., None] / 2
    similar = np.exp(-squared / (2 * variances * np.maximum(scale, 1)))
    weight = np.sqrt((here[..., 2] * there[..., 2]).clip(0)) + 1e-9  # sure keypoints say more
    alike: FloatArray = (overlap + (weight * similar).sum(axis=-1) / weight.sum(axis=-1)) / 2
    return alike


def _begun(number: int, poses: Poses, person: int, seconds: float) -> Track:
    return Track(
        id=number,
        motion=Motion.seen(poses.boxes_xyxy[person]),
        keypoints=poses.keypoints[person],
        score=float(poses.box_scores[person]),
        last_seen=seconds,
    )


def _continued(track: Track, poses: Poses, person: int, seconds: float) -> Track:
    return replace(
        track,
        motion=track.motion.corrected(poses.boxes_xyxy[person]),
        keypoints=poses.keypoints[person],
        score=float(poses.box_scores[person]),
        last_seen=seconds,
    )
