"""Which boxes of an image are kept: hard NMS and Soft-NMS per class, then the best of all classes.

The rule is CPN's, section 4.1: suppress within each class, take the top 100 boxes *of all
classes*, and only then keep the person ones among them. So an object of another class that scores
higher takes a place that a person would have had.

Sources: hard NMS as everywhere since Felzenszwalb et al. 2010; Soft-NMS from Bodla, Singh,
Chellappa and Davis, "Soft-NMS: Improving Object Detection With One Line of Code", ICCV 2017:
instead of removing the boxes that overlap with a picked one it lowers their scores.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from posepipe.core.boxes import area
from posepipe.core.shapes import check_same_length, checked

Method = Literal["soft_gaussian", "soft_linear", "hard", "none"]


@dataclass(frozen=True, kw_only=True)
class Suppression:
    """How overlapping boxes of one class are treated, and how many boxes of an image are kept.

    The paper says "Soft-NMS" and no more. The default is the Gaussian one with sigma 0.5, dropping
    what falls below 0.001: the setting of Soft-NMS's authors, and the Soft-NMS option of CPN's own
    published code.

    Attributes:
        method: what a picked box does to another one of its class with which it has the
            intersection over union `iou`: "soft_gaussian" multiplies its score by
            exp(-iou²/sigma), at any overlap; "soft_linear" multiplies it by 1 - iou where
            iou > threshold; "hard" removes it where iou > threshold; "none" leaves it alone.
        threshold: of "soft_linear" and "hard", in [0, 1]. The paper's table 1 has 0.3, 0.4, 0.5
            and 0.6 for hard NMS; 0.3 is the one of Soft-NMS's authors for "soft_linear".
        sigma: of "soft_gaussian", > 0.
        min_score: boxes whose score is, or falls, below it are dropped; in [0, 1].
        top_k: at most this many boxes of all classes together are kept.

    Raises:
        ValueError: a value outside its range.
    """

    method: Method = "soft_gaussian"
    threshold: float = 0.3
    sigma: float = 0.5
    min_score: float = 0.001
    top_k: int = 100

    def __post_init__(self) -> None:
        if self.method not in get_args(Method):
            known = ", ".join(get_args(Method))
            raise ValueError(f"no suppression method {self.method!r}: use {known}")
        if not 0 <= self.threshold <= 1:
            raise ValueError(f"threshold is an overlap in [0, 1], got {self.threshold}")
        if not 0 < self.sigma < float("inf"):
            raise ValueError(f"sigma must be positive, got {self.sigma}")
        if not 0 <= self.min_score <= 1:
            raise ValueError(f"min_score must lie in [0, 1], got {self.min_score}")
        if self.top_k < 1:
            raise ValueError(f"top_k must be at least 1, got {self.top_k}")


@dataclass(frozen=True, eq=False)
class Picks:
    """The boxes that are kept, best first.

    Attributes:
        indices: (K,) int64, positions in the arrays that were handed to `suppress`.
        scores: (K,) float32, not increasing; what Soft-NMS left of the original scores.
    """

    indices: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.indices)


def suppress(
    boxes_xyxy: npt.ArrayLike,
    scores: npt.ArrayLike,
    classes: npt.ArrayLike,
    settings: Suppression | None = None,
) -> Picks:
    """The boxes of one image that are kept, over all classes, best first.

    Within a class the scores of successive picks never grow, so picking the best of all classes
    again and again gives what suppressing each class to its end and sorting would give, and stops
    after `top_k` picks. Each pick touches the boxes of its own class only, so that the cost is
    top_k times the size of a class, never its square.

    Of equal scores the box that comes first in the input is picked first. Boxes without area
    overlap with nothing.

    Args:
        boxes_xyxy: (N, 4) pixels; overlaps are computed in its float type (float32 as torchvision
            does). N = 0 gives no picks.
        scores: (N,) not negative.
        classes: (N,) integers, any numbering.
        settings: method, thresholds and limit; the defaults of `Suppression` if None.

    Raises:
        ValueError: a wrong shape, lengths that differ, a value that is not finite.

    >>> boxes, scores = [[0, 0, 10, 10], [0, 0, 10, 8], [50, 0, 60, 10]], [0.9, 0.8, 0.7]
    >>> suppress(boxes, scores, [1, 1, 1], Suppression(method="hard", threshold=0.5)).indices
    array([0, 2])
    >>> soft = suppress(boxes, scores, [1, 1, 1], Suppression(method="soft_linear"))
    >>> soft.indices, soft.scores.round(2)
    (array([0, 2, 1]), array([0.9 , 0.7 , 0.16], dtype=float32))
    """
    settings = settings or Suppression()
    given = np.asarray(boxes_xyxy)
    dtype = given.dtype if np.issubdtype(given.dtype, np.floating) else np.float64
    pool = _Pool(
        checked("boxes_xyxy", given, ("N", 4), dtype),
        checked("scores", scores, ("N",), np.float64),
        checked("classes", classes, ("N",), np.int64),
        settings,
    )
    indices: list[int] = []
    kept_scores: list[float] = []
    while len(indices) < settings.top_k and (best := pool.pick()) is not None:
        index, score = best
        indices.append(index)
        kept_scores.append(score)
    return Picks(np.array(indices, np.int64), np.array(kept_scores, np.float32))


class _Pool:
    """The boxes not yet picked, those of a class side by side, with the best of each class at hand.

    A box that is picked or removed gets the score -1 and stays where it is.
    """

    def __init__(
        self,
        boxes: npt.NDArray[Any],
        scores: npt.NDArray[np.float64],
        classes: npt.NDArray[np.int64],
        settings: Suppression,
    ) -> None:
        check_same_length(boxes_xyxy=boxes, scores=scores, classes=classes)
        self._settings = settings
        enough = np.flatnonzero(scores >= settings.min_score)
        # Stable: within a class the order of the input stays, which settles ties.
        self._order = enough[np.argsort(classes[enough], kind="stable")]
        in_order = classes[self._order]
        starts = np.flatnonzero(np.diff(in_order, prepend=in_order[:1] - 1))
        ends = np.append(starts, len(in_order))[1:]
        self._groups = [slice(*pair) for pair in zip(starts.tolist(), ends.tolist(), strict=True)]
        ordered = boxes[self._order]
        # (2, N) each: a row is contiguous within a class.
        self._low = np.ascontiguousarray(ordered[:, :2].T)
        self._high = np.ascontiguousarray(ordered[:, 2:].T)
        self._areas = area(ordered)
        self._smallest = np.finfo(boxes.dtype).tiny  # in place of the union of two empty boxes
        self._scores = scores[self._order]
        # One entry per class, its best box: minus the score, then the place in the input.
        self._best: list[tuple[float, int, int, int]] = []
        for number in range(len(self._groups)):
            self._offer_best_of(number)

    def pick(self) -> tuple[int, float] | None:
        """Take the best box of all classes, and lower the others of its class.

        Returns:
            Its place in the input and its score; None if nothing is left.
        """
        if not self._best:
            return None
        minus_score, index, taken, number = heapq.heappop(self._best)
        self._lower(self._groups[number], taken)
        self._scores[taken] = -1.0
        self._offer_best_of(number)
        return index, -minus_score

    def _offer_best_of(self, number: int) -> None:
        """Enter the best box of a class, if one is left that scores high enough."""
        members = self._groups[number]
        best = int(members.start + self._scores[members].argmax())
        score = float(self._scores[best])
        if score >= self._settings.min_score:
            heapq.heappush(self._best, (-score, int(self._order[best]), best, number))

    def _lower(self, members: slice, taken: int) -> None:
        method, scores = self._settings.method, self._scores[members]
        if method == "none":
            return
        overlaps = self._overlaps(members, taken)
        # A float64 scalar makes numpy compare in float64, as torchvision does with float32 boxes.
        threshold = np.float64(self._settings.threshold)
        if method == "hard":
            scores[overlaps > threshold] = -1.0
            return
        if method == "soft_linear":
            factors = np.where(overlaps > threshold, 1.0 - overlaps, 1.0)
        else:
            factors = np.exp(-np.square(overlaps) / self._settings.sigma)
        np.multiply(scores, factors, out=scores, where=scores >= 0)  # -1 stays -1

    def _overlaps(self, members: slice, taken: int) -> npt.NDArray[Any]:
        """(n,) intersections over unions of the members of a class with one of them."""
        low = np.maximum(self._low[:, members], self._low[:, taken, None])
        high = np.minimum(self._high[:, members], self._high[:, taken, None])
        width, height = np.maximum(high - low, 0)
        shared = width * height
        union = self._areas[members] + self._areas[taken] - shared
        overlaps: npt.NDArray[Any] = shared / np.maximum(union, self._smallest)
        return overlaps
