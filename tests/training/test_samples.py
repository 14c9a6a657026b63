"""Samples: each data set is drawn by its share, and each person of it in turn."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest

from posepipe.training.samples import PoseSample, draw_forever


def drawn(sets, shares, count, seed=0):
    stream = draw_forever(sets, shares, np.random.default_rng(seed))
    return list(itertools.islice(stream, count))


def test_sets_are_drawn_by_their_shares_not_their_lengths():
    small, large = ["small"] * 2, ["large"] * 50
    counts = Counter(drawn([small, large, ["never"]], [3, 1, 0], 4000))
    assert counts["small"] == pytest.approx(3000, abs=150)
    assert counts["never"] == 0


def test_everybody_is_drawn_once_before_anybody_is_drawn_again():
    people = list(range(7))
    order = drawn([people], [1.0], 28)
    for start in range(0, 28, 7):
        assert sorted(order[start : start + 7]) == people
    assert order[:7] != order[7:14]


def test_the_same_seed_draws_the_same_people():
    sets = [list(range(10)), list(range(100, 103))]
    assert drawn(sets, [1, 2], 50) == drawn(sets, [1, 2], 50)
    assert drawn(sets, [1, 2], 50) != drawn(sets, [1, 2], 50, seed=1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"box_xyxy": [0, 0, 5]}, "box_xyxy must have shape"),
        ({"keypoints_xy": np.zeros((17, 3))}, "keypoints_xy must have shape"),
        ({"weights": np.ones(16)}, "weights must have shape"),
        ({"keypoints_xy": np.full((17, 2), np.nan)}, "keypoints_xy must be finite"),
    ],
)
def test_a_sample_that_does_not_fit_together_is_refused(change, message):
    fields = {
        "pixels": np.zeros((4, 4, 3), np.uint8),
        "box_xyxy": [0, 0, 5, 5],
        "keypoints_xy": np.zeros((17, 2)),
        "weights": np.ones(17),
        "area": 20.0,
    }
    with pytest.raises(ValueError, match=message):
        PoseSample(**(fields | change))
