"""Warps planned together are those planned one by one."""

from __future__ import annotations

import numpy as np
import pytest

from posepipe.core.affine import Affine
from posepipe.core.warp_plans import WarpPlans, upright_inverses

SIZE_WH = (48, 64)


def boxes(count: int) -> np.ndarray:
    """Boxes of all sizes, many of them partly or wholly outside of their images."""
    numbers = np.random.default_rng(4)
    corner = numbers.uniform(-300, 900, (count, 2))
    sides = 10 ** numbers.uniform(-0.5, 3.5, (count, 2))
    whole = numbers.integers(0, 2, count) == 0  # where rounding decides
    corner[whole], sides[whole] = corner[whole].round(), np.ceil(sides[whole])
    return np.concatenate([corner, corner + sides], axis=1)


@pytest.mark.parametrize("antialias", [True, False])
def test_boxes_planned_together_are_planned_as_each_alone(antialias) -> None:
    some = boxes(2000)
    sources_wh = np.random.default_rng(5).integers(1, 900, (len(some), 2))
    together = WarpPlans.upright(some, sources_wh, SIZE_WH, antialias=antialias)
    maps = [Affine.from_box(box, SIZE_WH) for box in some]
    alone = WarpPlans.of(
        [
            to_crop.plan(tuple(source_wh), SIZE_WH, antialias=antialias)
            for to_crop, source_wh in zip(maps, sources_wh.tolist(), strict=True)
        ]
    )
    there = alone.sizes_wh.any(axis=1)
    assert 300 < there.sum() < len(some) - 300
    assert np.array_equal(together.windows, alone.windows)
    assert np.array_equal(together.reduced_wh, alone.reduced_wh)
    assert (alone.reduced_wh < alone.sizes_wh).any() == antialias
    assert np.array_equal(together.to_source[there], alone.to_source[there])
    inverses = np.array([to_crop.inverse.matrix for to_crop in maps])
    assert np.array_equal(upright_inverses(some, SIZE_WH), inverses)


def test_enormous_boxes_show_the_whole_source_or_nothing_of_it() -> None:
    some = np.array([[-1e25, -1e25, 1e25, 1e25], [1e20, 1e20, 1e25, 1e25]])
    plans = WarpPlans.upright(some, np.full((2, 2), 500), SIZE_WH, antialias=False)
    assert plans.windows.tolist() == [[0, 0, 500, 500], [0, 0, 0, 0]]


def test_there_may_be_none_and_there_may_be_a_part() -> None:
    none = WarpPlans.upright(np.zeros((0, 4)), np.zeros((0, 2), int), SIZE_WH, antialias=True)
    assert len(none) == len(WarpPlans.of([])) == 0
    some = WarpPlans.upright(boxes(5), np.full((5, 2), 500), SIZE_WH, antialias=True)
    assert np.array_equal(some.part(1, 3).to_source, some.to_source[1:3])
    assert np.array_equal(some.part(1, 3).sizes_wh, some.sizes_wh[1:3])
