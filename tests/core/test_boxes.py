"""The geometry of boxes: laws that hold for all boxes, and values worked by hand."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from posepipe.core.boxes import (
    Detections,
    area,
    clip,
    extend,
    grow_to_aspect,
    iou,
    xywh_to_xyxy,
    xyxy_to_xywh,
)

FUNCTIONS = {
    "xyxy_to_xywh": xyxy_to_xywh,
    "xywh_to_xyxy": xywh_to_xyxy,
    "clip": lambda boxes: clip(boxes, (10, 10)),
    "extend": lambda boxes: extend(boxes, (0.1, 0.1)),
    "grow_to_aspect": lambda boxes: grow_to_aspect(boxes, 0.75),
}


@st.composite
def boxes(draw, most=5):
    """(N, 4) float64 boxes with whole corners, N = 0 and empty boxes included."""
    shape = (draw(st.integers(0, most)), 4)
    values = draw(hnp.arrays(np.float64, shape, elements=st.integers(-50, 50).map(float)))
    return np.concatenate(
        [np.minimum(values[:, :2], values[:, 2:]), np.maximum(values[:, :2], values[:, 2:])], axis=1
    )


@pytest.mark.parametrize("name", FUNCTIONS)
def test_no_boxes_stay_no_boxes(name):
    assert FUNCTIONS[name]([]).shape == (0, 4)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_box_alone_and_a_stack_of_boxes_are_treated_alike(name):
    stack = np.array([[[1.0, 2.0, 8.0, 5.0], [0.0, 0.0, 3.0, 9.0]]] * 3)  # (3, 2, 4)
    assert np.array_equal(FUNCTIONS[name](stack)[1, 1], FUNCTIONS[name](stack[1, 1]))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_argument_stays_as_it_is(name):
    given_boxes = np.array([[-5.0, 2.0, 80.0, 5.0]])
    FUNCTIONS[name](given_boxes)
    assert given_boxes.tolist() == [[-5.0, 2.0, 80.0, 5.0]]


@pytest.mark.parametrize("name", ["xyxy_to_xywh", "xywh_to_xyxy", "grow_to_aspect"])
def test_float32_boxes_stay_float32(name):
    assert FUNCTIONS[name](np.ones((1, 4), np.float32)).dtype == np.float32


@given(boxes())
def test_converting_there_and_back_changes_nothing(given_boxes):
    assert np.array_equal(xywh_to_xyxy(xyxy_to_xywh(given_boxes)), given_boxes)


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ([3, 3, 3, 3], 0),
        ([5, 5, 2, 9], 0),
        ([5, 5, 2, 2], 0),
        ([0, 0, 1, 1], 1),
        ([-1, 2, 3, 4.5], 10),
    ],
)
def test_area_by_hand(box, expected):
    assert area(box) == expected


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ([2, 2, 2, 2], [2, 2, 2, 2], 0),
        ([0, 0, 2, 2], [2, 0, 4, 2], 0),
        ([0, 0, 2, 2], [3, 3, 4, 4], 0),
        ([0, 0, 4, 4], [0, 0, 2, 2], 1 / 4),
        ([0, 0, 2, 2], [1, 1, 3, 3], 1 / 7),
        ([0, 0, 3, 1], [0, 0, 3, 1], 1),
    ],
)
def test_iou_by_hand(one, other, expected):
    assert iou([one], [other])[0, 0] == pytest.approx(expected)


@pytest.mark.parametrize(("n", "m"), [(0, 0), (0, 3), (3, 0)])
def test_iou_with_no_boxes_is_an_empty_matrix(n, m):
    assert iou(np.zeros((n, 4)), np.zeros((m, 4))).shape == (n, m)


@given(boxes(), boxes())
def test_iou_is_symmetric_and_a_share(some, others):
    matrix = iou(some, others)
    assert np.array_equal(matrix, iou(others, some).T)
    assert ((matrix >= 0) & (matrix <= 1)).all()


@given(boxes())
def test_a_box_of_some_area_overlaps_itself_wholly(some):
    some = some[area(some) > 0]
    assert (np.diag(iou(some, some)) == 1).all()


@given(boxes(), st.integers(-9, 9), st.integers(-9, 9))
def test_iou_does_not_change_when_both_move(some, x, y):
    shift = np.array([x, y, x, y])
    assert np.allclose(iou(some + shift, some + shift), iou(some, some))


@given(boxes())
def test_clipped_boxes_lie_in_the_image_and_clipping_twice_is_once(some):
    clipped = clip(some, (30, 20))
    assert ((clipped >= 0) & (clipped <= [30, 20, 30, 20])).all()
    assert (clipped[:, :2] <= clipped[:, 2:]).all()
    assert np.array_equal(clip(clipped, (30, 20)), clipped)


@given(boxes())
def test_extending_keeps_the_centre_and_multiplies_the_sides(some):
    larger = extend(some, (0.25, 0.5))
    assert np.allclose(larger[:, :2] + larger[:, 2:], some[:, :2] + some[:, 2:])
    assert np.allclose(xyxy_to_xywh(larger)[:, 2:], xyxy_to_xywh(some)[:, 2:] * [1.5, 2.0])


@given(boxes(), st.sampled_from([0.75, 1.0, 2.5]))
@settings(max_examples=50)
def test_growing_gives_the_aspect_keeps_the_centre_and_loses_nothing(some, aspect_wh):
    grown = grow_to_aspect(some, aspect_wh)
    width, height = xyxy_to_xywh(grown)[:, 2:].T
    assert np.allclose(width, height * aspect_wh)
    assert np.allclose(grown[:, :2] + grown[:, 2:], some[:, :2] + some[:, 2:])
    slack = 1e-9
    assert (grown[:, :2] <= some[:, :2] + slack).all()
    assert (grown[:, 2:] >= some[:, 2:] - slack).all()


@given(boxes())
def test_growing_lengthens_one_side_at_most(some):
    before, after = xyxy_to_xywh(some)[:, 2:], xyxy_to_xywh(grow_to_aspect(some, 0.75))[:, 2:]
    assert np.isclose(before, after).any(axis=1).all()


def test_nobody_is_a_legal_detection():
    nobody = Detections.none(7)
    assert (nobody.image_id, len(nobody), nobody.boxes_xyxy.shape) == (7, 0, (0, 4))


def test_detections_hold_read_only_float32_and_cannot_be_changed():
    found = Detections(1, [[0, 0, 2, 3]], [0.5])
    assert found.boxes_xyxy.dtype == found.scores.dtype == np.float32
    with pytest.raises(ValueError, match="read-only"):
        found.scores[0] = 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.image_id = 2


@pytest.mark.parametrize(
    ("boxes_xyxy", "scores", "message"),
    [
        ([], [0.5], "lengths differ"),
        ([[0, 0, 2, 3]], [], "lengths differ"),
        ([[0, 0, 2]], [0.5], "boxes_xyxy must have shape"),
        ([[3, 0, 2, 3]], [0.5], "x1 <= x2"),
        ([[0, 4, 2, 3]], [0.5], "y1 <= y2"),
        ([[0, 0, 2, np.nan]], [0.5], "finite"),
        ([[0, 0, 2, 3]], [1.01], r"\[0, 1\]"),
        ([[0, 0, 2, 3]], [-0.01], r"\[0, 1\]"),
    ],
)
def test_wrong_detections_are_refused(boxes_xyxy, scores, message):
    with pytest.raises(ValueError, match=message):
        Detections(1, boxes_xyxy, scores)
