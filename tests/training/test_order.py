"""The order of samples: a function of seed and number; sets by their shares, people in turn."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from posepipe.errors import OptionError
from posepipe.training.order import SampleOrder, sample_generator


def first(count, sizes, shares, seed=0):
    return list(map(SampleOrder(sizes, shares, seed), range(count)))


def test_sets_come_by_their_shares_not_their_lengths_in_every_block():
    order = first(4000, [2, 50, 3], [3, 1, 0])
    for start in range(0, 4000, 1000):
        counts = Counter(which for which, _ in order[start : start + 1000])
        assert counts == {0: 750, 1: 250}
    assert len({which for which, _ in order[:12]}) == 2  # mixed, not one set after the other


@pytest.mark.parametrize("shares", [[1, 1, 1], [1e-9, 5, 5, 1e-9], [0.123, 0.456], [7] * 900])
def test_shares_become_whole_numbers_that_fill_a_block_and_leave_nobody_out(shares):
    counts = Counter(which for which, _ in first(1000, [5] * len(shares), shares))
    assert set(counts) == set(range(len(shares)))
    exact = np.array(shares) / np.sum(shares) * 1000
    assert all(abs(counts[k] - max(exact[k], 1)) < 2 for k in counts)


@pytest.mark.parametrize(("sizes", "shares"), [([7], [1]), ([7, 4], [1, 2]), ([1, 2500], [1, 3])])
def test_everybody_of_a_set_comes_once_before_anybody_comes_again(sizes, shares):
    order = first(6000, sizes, shares)
    for chosen, size in enumerate(sizes):
        items = [item for which, item in order if which == chosen]
        epochs = [items[start : start + size] for start in range(0, len(items) - size + 1, size)]
        assert len(epochs) >= 1
        assert all(sorted(epoch) == list(range(size)) for epoch in epochs)
        if 3 < size < 100:
            assert epochs[0] != epochs[1]


def test_any_number_can_be_asked_for_first():
    whole = first(3000, [10, 3], [1, 2])
    order = SampleOrder([10, 3], [1, 2], 0)
    for number in (2999, 0, 1500, 1000, 999):
        assert order(number) == whole[number]


def test_another_seed_gives_another_order():
    sizes, shares = [10, 3], [1, 2]
    assert first(50, sizes, shares, seed=1) == first(50, sizes, shares, seed=1)
    assert first(50, sizes, shares, seed=1) != first(50, sizes, shares)


@pytest.mark.parametrize(
    ("sizes", "shares", "message"),
    [
        ([], [], "name 1 to 1000 sets"),
        ([5], [1, 1], "name 1 to 1000 sets"),
        ([5, 5], [1, -1], "must be 0 or more"),
        ([5, 5], [0, 0], "some above 0"),
        ([5, 5], [1, float("nan")], "must be 0 or more"),
        ([5, 0], [1, 1], "data set 2 of 2 has nothing to learn from"),
    ],
)
def test_sets_that_cannot_be_mixed_are_refused(sizes, shares, message):
    with pytest.raises(OptionError, match=message):
        SampleOrder(sizes, shares, 0)


def test_an_empty_set_of_weight_0_is_passed_over():
    assert {which for which, _ in first(100, [0, 5], [0, 1])} == {1}


def test_each_number_of_each_run_has_random_numbers_of_its_own():
    drawn = {sample_generator(seed, number).random() for seed in range(5) for number in range(99)}
    assert len(drawn) == 5 * 99
    assert sample_generator(3, 4).random() == sample_generator(3, 4).random()
