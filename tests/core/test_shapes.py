"""The shape check: what it accepts, what it says."""

from __future__ import annotations

import numpy as np
import pytest

from posepipe.core.shapes import check_same_length, checked


@pytest.mark.parametrize(
    ("values", "shape", "expected"),
    [
        ([], ("N", 4), (0, 4)),
        ([], ("N", "K", 3), (0, 0, 3)),
        ([], ("N",), (0,)),
        (np.zeros((0, 4)), ("N", 4), (0, 4)),
        ([[1, 2, 3, 4]], ("N", 4), (1, 4)),
        (np.zeros((2, 5, 3)), ("N", "K", 3), (2, 5, 3)),
    ],
)
def test_letters_stand_for_any_length(values, shape, expected):
    assert checked("a", values, shape, np.float32).shape == expected


@pytest.mark.parametrize(
    ("values", "shape"),
    [
        ([1, 2, 3, 4], ("N", 4)),
        ([[1, 2, 3]], ("N", 4)),
        (np.zeros((0, 3)), ("N", 4)),
        (np.zeros((1, 4, 1)), ("N", 4)),
        (5.0, ("N",)),
    ],
)
def test_a_wrong_shape_is_refused_with_both_shapes_in_the_message(values, shape):
    with pytest.raises(ValueError, match=r"boxes must have shape \(N.*\), got \("):
        checked("boxes", values, shape, np.float32)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_is_refused(value):
    with pytest.raises(ValueError, match="scores must be finite"):
        checked("scores", [0.0, value], ("N",), np.float32)


def test_the_result_is_a_read_only_copy():
    source = np.zeros((1, 4))
    result = checked("boxes", source, ("N", 4), np.float64)
    source[0, 0] = 7
    assert result[0, 0] == 0
    with pytest.raises(ValueError, match="read-only"):
        result[0, 0] = 1


def test_whole_numbers_and_booleans_keep_their_type():
    assert checked("v", [[0, 2]], ("N", "K"), np.int64).dtype == np.int64
    assert checked("v", [True], ("N",), np.bool_).dtype == np.bool_


def test_different_lengths_are_listed_by_name():
    check_same_length()
    check_same_length(a=np.zeros(2), b=np.zeros((2, 3)))
    with pytest.raises(ValueError, match=r"a: 2, b: 3"):
        check_same_length(a=np.zeros(2), b=np.zeros(3))
