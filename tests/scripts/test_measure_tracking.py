"""IDF1 and changes of number, on videos small enough to count by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from posepipe.core.poses import Poses

SCRIPT = Path(__file__).parents[2] / "scripts" / "measure_tracking.py"


@pytest.fixture(scope="module")
def judge():
    scope: dict[str, object] = {"__name__": "measure_tracking"}
    exec(compile(SCRIPT.read_text(encoding="utf-8"), str(SCRIPT), "exec"), scope)  # noqa: S102
    return scope["judge"]


def frames(count):
    boxes = np.array([[0.0, 0, 9, 9], [20, 0, 29, 9]])
    points = np.zeros((2, 17, 3))
    return [
        (Poses(n + 1, points, np.ones(2), boxes, np.ones(2)), np.arange(2)) for n in range(count)
    ]


@pytest.mark.parametrize(
    ("numbers", "idf1", "switches"),
    [
        ([[1, 2]] * 4, 100.0, 0),
        ([[1, 2]] * 2 + [[2, 1]] * 2, 50.0, 2),  # 4 of 8 boxes agree
        ([[1, 2]] * 3 + [[1, 3]], 87.5, 1),  # 7 of 8
        ([[1, -1]] * 4, 100 * 2 * 4 / (8 + 4), 0),
    ],
)
def test_numbers_are_judged(judge, numbers, idf1, switches):
    given = iter(numbers)
    found = judge(frames(4), lambda poses, seconds: np.array(next(given)))
    assert found == (pytest.approx(idf1), switches)
