from __future__ import annotations

import numpy as np
import pytest

from posepipe.detection.candidates import Candidates, by_shape, pooled


def test_nothing_is_found_in_nothing() -> None:
    assert len(Candidates.none()) == len(Candidates([], [], [])) == len(pooled([])) == 0
    assert pooled([Candidates.none(), Candidates.none()]).boxes_xyxy.shape == (0, 4)
    assert Candidates.none().mirrored(10).boxes_xyxy.shape == (0, 4)


def test_pooling_keeps_every_box_in_order() -> None:
    first = Candidates([[0, 0, 1, 1], [2, 2, 3, 3]], [0.1, 0.2], [1, 7])
    second = Candidates([[4, 4, 5, 5]], [0.3], [90])
    both = pooled([first, Candidates.none(), second])
    assert both.boxes_xyxy[:, 0].tolist() == [0, 2, 4]
    assert both.scores.tolist() == pytest.approx([0.1, 0.2, 0.3])
    assert both.classes.tolist() == [1, 7, 90]


def test_mirroring_twice_changes_nothing() -> None:
    corner = np.random.default_rng(0).integers(0, 50, (20, 2))
    boxes = np.concatenate([corner, corner + 7], axis=1)
    candidates = Candidates(boxes, np.linspace(0, 1, 20), np.arange(20))
    mirrored = candidates.mirrored(64)
    assert (mirrored.boxes_xyxy[:, 0] < mirrored.boxes_xyxy[:, 2]).all()
    np.testing.assert_array_equal(mirrored.mirrored(64).boxes_xyxy, boxes)
    np.testing.assert_array_equal(mirrored.classes, candidates.classes)


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        (([[0, 0, 1]], [0.5], [1]), "boxes_xyxy"),
        (([[0, 0, 1, 1]], [0.5, 0.5], [1]), "lengths differ"),
        (([[0, 0, 1, float("nan")]], [0.5], [1]), "finite"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(arrays, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Candidates(*arrays)


def test_groups_of_shapes_hold_every_position_once() -> None:
    assert by_shape([]) == []
    assert by_shape([(1, 2), (3, 4), (1, 2), (2, 1)]) == [[0, 2], [1], [3]]
