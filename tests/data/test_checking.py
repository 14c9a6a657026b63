from __future__ import annotations

import pytest
from builders import detections

from posepipe.data.checking import check_boxes, check_inside
from posepipe.data.records import BoxRecord


def test_no_boxes_give_nobody_in_every_picture() -> None:
    checked = check_boxes([], {3: "c.jpg", 1: "a.jpg"}, {})
    assert [(found.image_id, len(found)) for found in checked.detections] == [(3, 0), (1, 0)]
    assert checked.problems == ()


def test_boxes_are_sorted_by_picture_and_keep_their_order_there() -> None:
    records = [BoxRecord(n, (n, k, 5, 5), 0.1 * k) for k in (1, 2) for n in (2, 1)]
    first, second = check_boxes(records, {1: "a.jpg", 2: "b.jpg"}, {}).detections
    assert first.boxes_xyxy.tolist() == [[1, 1, 6, 6], [1, 2, 6, 7]]
    assert second.scores.tolist() == pytest.approx([0.1, 0.2])


def test_where_the_size_is_not_known_only_left_and_top_can_be_outside() -> None:
    records = [BoxRecord(1, (900, 5, 5, 5), 1), BoxRecord(1, (-9, 5, 5, 5), 1)]
    checked = check_boxes(records, {1: "a.jpg"}, {})
    assert len(checked.detections[0]) == 1
    (problem,) = checked.problems
    assert problem.endswith("outside its picture")


def test_boxes_outside_are_found_out_once_the_size_is_known() -> None:
    found = detections(7, [[0, 0, 5, 5], [99, 0, 120, 5], [100, 0, 120, 5]])
    checked = check_inside(found, (100, 80), "g.jpg")
    assert checked.detections[0].boxes_xyxy.tolist() == [[0, 0, 5, 5], [99, 0, 120, 5]]
    assert checked.detections[0].scores.tolist() == found.scores[:2].tolist()
    assert checked.problems == (
        "image 7 (g.jpg): box with corners [100, 0, 120, 5]: outside its picture of 100 x 80 "
        "pixels",
    )
    inside = check_inside(found, (500, 80), "g.jpg")
    assert inside.detections == (found,)
    assert inside.problems == ()
