"""How many are right of those with a score."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from posepipe.core.boxes import Detections
from posepipe.scoring.evaluation import evaluate_boxes
from posepipe.scoring.reliability import BANDS

PERSON = {"category_id": 1, "iscrowd": 0, "area": 400.0}


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    """Two images with a person each, and a crowd in the second one."""
    path = tmp_path / "labels.json"
    content = {
        "images": [{"id": 1}, {"id": 2}],
        "categories": [{"id": 1, "name": "person"}],
        "annotations": [
            {"id": 1, "image_id": 1, "bbox": [0, 0, 20, 20], **PERSON},
            {"id": 2, "image_id": 2, "bbox": [0, 0, 20, 20], **PERSON},
            {"id": 3, "image_id": 2, "bbox": [100, 0, 80, 80], **PERSON, "iscrowd": 1},
        ],
    }
    path.write_text(json.dumps(content))
    return path


def boxes(image_id: int, *found: tuple[float, list[float]]) -> Detections:
    return Detections(image_id, [box for _, box in found], [score for score, _ in found])


def test_bands_say_who_is_right_and_what_a_least_score_keeps(labels: Path) -> None:
    found = [
        boxes(1, (0.35, [0, 0, 20, 20]), (0.9, [50, 50, 70, 70])),
        boxes(2, (0.52, [0, 0, 20, 19]), (0.95, [110, 10, 130, 40])),  # the latter: of the crowd
    ]
    card = evaluate_boxes(found, labels, by_score=True)
    bands = {band.low: band for band in card.by_score}
    assert list(bands) == pytest.approx(list(BANDS))
    assert sum(band.count for band in card.by_score) == 3
    assert [(b.count, b.right) for b in card.by_score if b.count] == [(1, 1), (1, 1), (1, 0)]
    assert bands[0.35].count == 1  # the band begins with its lowest score
    assert (bands[0.9].precision, bands[0.9].recall) == (0, 0)
    assert (bands[0.5].precision, bands[0.5].recall) == (0.5, 0.5)
    assert (bands[0.0].precision, bands[0.0].recall) == (pytest.approx(2 / 3), 1)
    assert bands[0.95].right is None
    lines = card.as_table().splitlines()[-4:]
    assert [line.split() for line in lines[1:]] == [
        ["≥", "0.90", "1", "0.0", "0.0", "0.0"],
        ["≥", "0.50", "1", "100.0", "50.0", "50.0"],
        ["≥", "0.35", "1", "100.0", "66.7", "100.0"],
    ]


def test_without_boxes_nothing_is_right_and_nothing_found(labels: Path) -> None:
    card = evaluate_boxes([boxes(1), boxes(2)], labels, by_score=True)
    assert {(b.count, b.right, b.precision, b.recall) for b in card.by_score} == {
        (0, None, None, 0)
    }


def test_it_is_left_out_unless_asked_for(labels: Path) -> None:
    assert evaluate_boxes([boxes(1), boxes(2)], labels).by_score == ()
