"""Many warps planned together: `posepipe.core.affine.WarpPlan`s as arrays.

For up to four people `Affine.plan` takes less time, for 128 this takes a twentieth of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from posepipe.core.affine import Affine, WarpPlan

Numbers: TypeAlias = npt.NDArray[np.float64]
_FAR = 2.0**40  # pixels; integers hold them
_OUTSIDE = WarpPlan((0, 0, 0, 0), (0, 0), Affine.identity())


@dataclass(frozen=True, eq=False)
class WarpPlans:
    """The plans of N warps; of one wholly outside its source, window and size are all zeros.

    Attributes:
        windows: (N, 4) int64, see `WarpPlan`.
        reduced_wh: (N, 2) int64, likewise.
        to_source: (N, 2, 3) float64: from the target's pixels to those of the reduced window.
    """

    windows: npt.NDArray[np.int64]
    reduced_wh: npt.NDArray[np.int64]
    to_source: Numbers

    def __len__(self) -> int:
        return len(self.windows)

    @property
    def sizes_wh(self) -> npt.NDArray[np.int64]:
        """(N, 2) width and height of the windows."""
        return self.windows[:, 2:] - self.windows[:, :2]

    @classmethod
    def of(cls, plans: Sequence[WarpPlan | None]) -> WarpPlans:
        """Plans that were made one by one; None is a warp wholly outside its source."""
        known = [plan or _OUTSIDE for plan in plans]
        to_source = [plan.to_target.inverse.numbers for plan in known]
        return cls(
            np.array([plan.window for plan in known], np.int64).reshape(-1, 4),
            np.array([plan.reduced_wh for plan in known], np.int64).reshape(-1, 2),
            np.array(to_source).reshape(-1, 2, 3),
        )

    @classmethod
    def upright(
        cls,
        boxes_xyxy: Numbers,
        sources_wh: npt.NDArray[np.int64],
        size_wh: tuple[int, int],
        *,
        antialias: bool,
    ) -> WarpPlans:
        """What ``Affine.from_box(box, size_wh).plan(source_wh, size_wh)`` gives of every box.

        Args:
            boxes_xyxy: (N, 4) of positive area.
            sources_wh: (N, 2) width and height of each one's source.
            size_wh: of all targets.
            antialias: see `Affine.warp`.
        """
        scale, shift = _to_target(boxes_xyxy, size_wh)
        back, back_shift = _inverse(scale, shift)
        edges = [back * edge + back_shift for edge in (-0.5, np.array(size_wh) - 0.5)]
        edges = [np.clip(edge, -_FAR, _FAR) for edge in edges]
        begin = np.maximum(np.floor(np.minimum(*edges)).astype(np.int64) - 1, 0)
        end = np.minimum(np.ceil(np.maximum(*edges)).astype(np.int64) + 2, sources_wh)
        outside = (begin >= end).any(axis=1)
        begin[outside], end[outside] = 0, 1
        shrink = np.ones((len(begin), 1), np.int64)
        if antialias:
            sides = np.maximum(np.sqrt(scale[:, :1] * scale[:, 1:]), 1e-6)
            shrink = np.maximum((1 / sides + 1e-6).astype(np.int64), 1)
        longer = -(-(end - begin) // shrink) * shrink
        there = longer <= sources_wh  # room for whole blocks
        end = np.where(there, np.minimum(begin + longer, sources_wh), end)
        begin = np.where(there, end - longer, begin)
        reduced_wh = np.maximum((end - begin) // shrink, 1)
        block = (end - begin) / reduced_wh
        to_first = scale * (begin + (block - 1) / 2) + shift
        to_source = _upright(*_inverse(scale * block, to_first))
        windows = np.concatenate([begin, end], axis=1)
        windows[outside], reduced_wh[outside] = 0, 0
        return cls(windows, reduced_wh, to_source)

    def part(self, start: int, end: int) -> WarpPlans:
        """Some of the plans."""
        mine = slice(start, end)
        return WarpPlans(self.windows[mine], self.reduced_wh[mine], self.to_source[mine])


def upright_inverses(boxes_xyxy: Numbers, size_wh: tuple[int, int]) -> Numbers:
    """(N, 2, 3): ``Affine.from_box(box, size_wh).inverse`` of (N, 4) boxes of positive area."""
    return _upright(*_inverse(*_to_target(boxes_xyxy, size_wh)))


def _to_target(boxes_xyxy: Numbers, size_wh: tuple[int, int]) -> tuple[Numbers, Numbers]:
    """(N, 2) each: by how much the maps of boxes to a target scale and then shift x and y."""
    low, high = boxes_xyxy[:, :2], boxes_xyxy[:, 2:]
    scale = np.array(size_wh) / (high - low)
    return scale, (0.5 - low) * scale - 0.5


def _inverse(scale: Numbers, shift: Numbers) -> tuple[Numbers, Numbers]:
    back = 1 / scale
    return back, -back * shift


def _upright(scale: Numbers, shift: Numbers) -> Numbers:
    """(N, 2, 3): the matrices of maps that scale and then shift."""
    maps = np.zeros((len(scale), 2, 3))
    maps[:, [0, 1], [0, 1]], maps[:, :, 2] = scale, shift
    return maps
