"""Is one run better than another, or is it chance? Bootstrap over images, paired.

Images are drawn with replacement, the same ones for every run, and the numbers are worked out
again (Efron and Tibshirani, *An Introduction to the Bootstrap*, 1993). Whom a pose is matched with
does not depend on which images are drawn, so that is done once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from posepipe.analysis.errors import find_errors, mean_oks, oks_of_images
from posepipe.core.shapes import check_same_length
from posepipe.scoring.coco import POSE_NUMBERS, Stats, keypoint_aps, pose_matches, stats_of
from posepipe.scoring.comparison import PoseComparison
from posepipe.scoring.matching import FloatArray
from posepipe.scoring.precision import precision_recall

_NAMES = (*POSE_NUMBERS, "mean OKS")


@dataclass(frozen=True)
class Difference:
    """One number of two runs.

    Attributes:
        name: of the number, as score cards head it, "mean OKS", or a keypoint, whose AP it is.
        first: the first run's; None where there is no such number.
        second: the second run's.
        low: with `high` the interval in which second - first lies in 95 of 100 drawings; None where
            nothing was drawn for this number.
        high: see `low`.
    """

    name: str
    first: float | None
    second: float | None
    low: float | None = None
    high: float | None = None

    @property
    def change(self) -> float | None:
        """Second - first."""
        if self.first is None or self.second is None:
            return None
        return self.second - self.first

    @property
    def is_real(self) -> bool:
        """Whether the interval leaves out 0: chance alone would hardly do this."""
        return self.low is not None and self.high is not None and not self.low <= 0 <= self.high


@dataclass(frozen=True)
class ImageChange:
    """How much better the second run is on an image.

    Attributes:
        image: its number, from 0, in the order of the image ids.
        first: mean OKS of the labelled people, 0 for those without a pose.
        second: the same for the second run.
    """

    image: int
    first: float
    second: float

    @property
    def is_seen(self) -> bool:
        """Whether anything is left of the change in per cent with one decimal."""
        return abs(self.second - self.first) >= 0.0005


def differences(
    first: PoseComparison,
    second: PoseComparison,
    *,
    images: int,
    resamples: int = 1000,
    seed: int = 0,
    progress: Callable[[int], None] = lambda _: None,
) -> tuple[Difference, ...]:
    """COCO's ten numbers of two runs on the same images, mean OKS, then the AP of each keypoint.

    Mean OKS is that of the labelled people, 0 for those without a pose, matched as in
    `find_errors`. AP changes in jumps, when somebody's OKS passes one of its ten thresholds, and on
    few images a jump is much; mean OKS changes with every OKS.

    Args:
        first: a run.
        second: another, compared with the same labels.
        images: how many there are, those without people too.
        resamples: how often images are drawn; all but keypoints get their intervals from it.
        seed: of the drawings.
        progress: called with 1 after every drawing.

    Raises:
        ValueError: the runs are compared with different labels.
    """
    check_same_length(first=first.labels_xy, second=second.labels_xy)
    runs = (first, second)
    numbers_of = [_numbers_of(run, images) for run in runs]
    whole = [numbers(np.ones(images)) for numbers in numbers_of]
    random = np.random.default_rng(seed)
    drawn = []
    for _ in range(resamples):
        times = random.multinomial(images, np.full(images, 1 / images)).astype(np.float64)
        # None, "no such people among those drawn", becomes NaN
        one, other = (np.array(numbers(times), np.float64) for numbers in numbers_of)
        drawn.append(other - one)
        progress(1)
    numbers = [
        Difference(name, one, other, *_interval(np.array(drawn)[:, place] if drawn else None))
        for place, (name, one, other) in enumerate(zip(_NAMES, *whole, strict=True))
    ]
    keypoints = [
        Difference(name, one, other)
        for name, one, other in zip(
            first.skeleton.keypoints, keypoint_aps(first), keypoint_aps(second), strict=True
        )
    ]
    return (*numbers, *keypoints)


def _numbers_of(run: PoseComparison, images: int) -> Callable[[FloatArray], Stats]:
    """What gives the ten numbers and mean OKS, by how often each image counts."""
    matches = pose_matches(run)
    people, oks = oks_of_images(run, find_errors(run), images=images)

    def numbers(times: FloatArray) -> Stats:
        stats = stats_of(precision_recall(matches, run.found, times=times))
        counted = float(times @ people)
        return (*stats, float(times @ oks) / counted if counted else None)

    return numbers


def changes_of_images(first: PoseComparison, second: PoseComparison) -> tuple[ImageChange, ...]:
    """Mean OKS of every image with people who count in two runs, the largest change first."""
    before, after = (mean_oks(run, find_errors(run)) for run in (first, second))
    order = sorted(before, key=lambda image: -abs(after[image] - before[image]))
    return tuple(ImageChange(image, before[image], after[image]) for image in order)


def _interval(changes: FloatArray | None) -> tuple[float | None, float | None]:
    """The middle 95 % of drawn changes; no interval where there is no such number."""
    if changes is None or np.isnan(changes).all():
        return None, None
    low, high = np.nanpercentile(changes, [2.5, 97.5])
    return float(low), float(high)
