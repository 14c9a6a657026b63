from __future__ import annotations

import pytest

from posepipe.io.checking import check_boxes
from posepipe.io.result_list import ResultEntry


def test_no_boxes_give_nobody_in_every_image() -> None:
    checked = check_boxes([], {3: "c.jpg", 1: "a.jpg"}, {})
    assert [(found.image_id, len(found)) for found in checked.detections] == [(3, 0), (1, 0)]
    assert checked.problems == ()


def test_boxes_are_sorted_by_image_and_keep_their_order_there() -> None:
    records = [ResultEntry(n, score=0.1 * k, bbox=(n, k, 5, 5)) for k in (1, 2) for n in (2, 1)]
    first, second = check_boxes(records, {1: "a.jpg", 2: "b.jpg"}, {}).detections
    assert first.boxes_xyxy.tolist() == [[1, 1, 6, 6], [1, 2, 6, 7]]
    assert second.scores.tolist() == pytest.approx([0.1, 0.2])


def test_where_the_size_is_not_known_only_left_and_top_can_be_outside() -> None:
    records = [ResultEntry(1, score=1, bbox=(x, 5, 5, 5)) for x in (900, -9)]
    checked = check_boxes(records, {1: "a.jpg"}, {})
    assert len(checked.detections[0]) == 1
    (problem,) = checked.problems
    assert problem.endswith("outside its image")
