"""Keypoints that do not jitter: the One-Euro filter for each keypoint of each person.

Casiez, Roussel and Vogel, *1€ Filter: A Simple Speed-based Low-pass Filter for Noisy Input in
Interactive Systems* (CHI 2012): a low-pass filter whose cut-off rises with speed, so that what
stands still is steady and what moves does not lag. Ours differs in three ways. Speeds are in
heights of the person per second, so that one setting serves people near and far. Keypoints are
filtered relative to their person, who is taken to go on as all keypoints together did lately: so
people who walk do not lag, and are as steady as those who stand. And a keypoint that the network is
unsure of moves less.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from posepipe.core.poses import Poses
from posepipe.errors import OptionError

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class SmoothingOptions:
    """How strongly keypoints are smoothed.

    Attributes:
        cutoff: cut-off frequency in Hz for a keypoint that does not move relative to its person;
            lower values smooth more.
        speed: increase of the cut-off in Hz for a speed, relative to the person, of one height per
            second; higher values lag less.
        speed_cutoff: cut-off frequency in Hz of the filters of the speeds.
        forget_after: seconds without a person after which the filter starts again.

    Raises:
        OptionError: a value that is not above 0 (`speed` may be 0).
    """

    cutoff: float = 1.0
    speed: float = 6.0
    speed_cutoff: float = 1.0
    forget_after: float = 0.5

    def __post_init__(self) -> None:
        for name in ("cutoff", "speed_cutoff", "forget_after"):
            if not 0 < getattr(self, name) < np.inf:
                raise OptionError(f"{name} must be above 0, got {getattr(self, name)}")
        if not 0 <= self.speed < np.inf:
            raise OptionError(f"speed must be 0 or more, got {self.speed}")


@dataclass(frozen=True, eq=False)
class _Person:
    """The filter's state of one person, and when it was seen.

    Attributes:
        given_xy, keypoints_xy: (K, 2) pixels before and after the filter.
        velocity: (2,) pixels a second, of all keypoints together.
        velocities: (K, 2) pixels a second, of each relative to that.
        seconds: when it was seen.
    """

    given_xy: FloatArray
    keypoints_xy: FloatArray
    velocity: FloatArray
    velocities: FloatArray
    seconds: float


class Smoother:
    """Smooths the keypoints of people with ids, frame after frame.

    Poses go through in the order of their time; people without an id stay as they are. What it
    gives depends on nothing but what went in before.
    """

    def __init__(self, options: SmoothingOptions | None = None) -> None:
        self.options = options or SmoothingOptions()
        self._people: dict[int, _Person] = {}

    def __call__(self, poses: Poses, seconds: float) -> Poses:
        """The poses of the next frame with smoothed keypoints; confidences stay.

        Args:
            poses: with `track_ids`; without, they come out unchanged.
            seconds: the frame's time; it must not be before the last one's.

        Raises:
            ValueError: a time before the last frame's.
        """
        if poses.track_ids is None:
            return poses
        keypoints = poses.keypoints.copy()
        heights = np.maximum(poses.boxes_xyxy[:, 3] - poses.boxes_xyxy[:, 1], 1.0)
        for place, track_id in enumerate(poses.track_ids.tolist()):
            if track_id < 0:
                continue
            person = self._next(track_id, keypoints[place], float(heights[place]), seconds)
            self._people[track_id] = person
            keypoints[place, :, :2] = person.keypoints_xy
        self._people = {
            track_id: person
            for track_id, person in self._people.items()
            if seconds - person.seconds <= self.options.forget_after
        }
        return replace(poses, keypoints=keypoints)

    def _next(self, track_id: int, keypoints: FloatArray, height: float, seconds: float) -> _Person:
        here, confidences = keypoints[:, :2], keypoints[:, 2:].clip(0, 1)
        before = self._people.get(track_id)
        if before is None or seconds - before.seconds > self.options.forget_after:
            return _Person(here.copy(), here.copy(), np.zeros(2), np.zeros_like(here), seconds)
        passed = seconds - before.seconds
        if passed < 0:
            raise ValueError(f"frames must come in order, got {seconds} s after {before.seconds} s")
        if passed == 0:
            return before
        chosen, trust = self.options, _trust(confidences)
        steps = (here - before.given_xy) / passed
        newer = _share(chosen.speed_cutoff, passed)
        # Of everybody's own keypoints the sure ones say where the person goes.
        together = (trust * steps).sum(axis=0) / max(float(trust.sum()), 1e-9)
        velocity = before.velocity + newer * trust.mean() * (together - before.velocity)
        velocities = before.velocities + newer * (steps - velocity - before.velocities)
        # (K, 1) heights a second
        speeds = np.linalg.norm(velocities, axis=1, keepdims=True) / height
        share = _share(chosen.cutoff + chosen.speed * speeds, passed) * trust
        expected = before.keypoints_xy + passed * velocity
        moved = expected + share * (here - expected)
        return _Person(here.copy(), moved, velocity, velocities, seconds)


def _share(cutoff: FloatArray | float, seconds: float) -> FloatArray:
    """How far a low-pass filter of some cut-off (Hz) goes to the new value in a time."""
    return np.asarray(1 / (1 + 1 / (2 * np.pi * np.asarray(cutoff) * seconds)))


def _trust(confidences: FloatArray) -> FloatArray:
    """(K, 1) how much of a step a keypoint takes: all of it from a confidence of one half."""
    return np.minimum(2 * confidences, 1.0)
