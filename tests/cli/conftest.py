"""Small images run through the shipped models once, for all tests of the commands."""

from __future__ import annotations

from pathlib import Path

import pytest
from builders import annotation, annotation_file
from commands import blank, boxes_file, content, photo, posepipe, smaller_detector


@pytest.fixture(autouse=True)
def _no_data_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("POSEPIPE_DATA", raising=False)


@pytest.fixture(scope="package")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of what all tests may read: images/, boxes.json, kps.json, annotations.json.

    `images` has two photographs of a person, ids 1 and 2, and one with nobody in it, id 3. The
    labels are the best pose in each, without what of it lies outside the image.
    """
    folder = tmp_path_factory.mktemp("work")
    photo(folder / "pictures" / "a.jpg")
    photo(folder / "pictures" / "b.png", source="grace_hopper.jpg")
    blank(folder / "pictures" / "c.jpg")
    boxes, keypoints = folder / "boxes.json", folder / "kps.json"
    for arguments in (
        ("detect", folder / "pictures", "-o", boxes, "--min-score", "0.5"),
        ("pose", boxes, "-o", keypoints),
    ):
        result = posepipe(*arguments)
        assert result.exit_code == 0, result.output
    best = {}
    for person in content(keypoints):
        rival = best.setdefault(person["image_id"], person)
        best[person["image_id"]] = max(rival, person, key=lambda person: person["score"])
    sizes = {image["id"]: (image["width"], image["height"]) for image in content(boxes)["images"]}
    labels = []
    for image_id, person in best.items():
        x1, y1, x2, y2 = person["box_xyxy"]
        numbers = person["keypoints"]
        points = zip(numbers[0::3], numbers[1::3], strict=True)
        width, height = sizes[image_id]
        visible = [
            number
            for x, y in points
            for number in ((x, y, 2) if 0 <= x < width and 0 <= y < height else (0, 0, 0))
        ]
        box = [x1, y1, x2 - x1, y2 - y1]
        labels.append(annotation(image_id, image_id, keypoints=visible, bbox=box, area=12000.0))
    annotation_file(folder / "annotations.json", labels, content(boxes)["images"])
    return folder


@pytest.fixture(scope="package")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped detector, but looking at images a fifth as large: quick, and worse."""
    return smaller_detector(tmp_path_factory.mktemp("models") / "quick-detector", 96)


@pytest.fixture
def person(tmp_path: Path) -> Path:
    """A boxes.json of one box made by hand, with its image: poses without a detector."""
    photo(tmp_path / "pictures" / "a.jpg")
    return boxes_file(tmp_path / "boxes.json")
