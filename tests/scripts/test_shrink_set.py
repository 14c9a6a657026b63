"""A set that is scaled down keeps its people where they are in the images."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from PIL import Image

SCRIPT = Path(__file__).parents[2] / "scripts" / "shrink_set.py"


def test_people_are_scaled_with_their_images(tmp_path: Path) -> None:
    (tmp_path / "large").mkdir()
    images = []
    for number, size in enumerate([(400, 200), (60, 100)]):
        Image.new("RGB", size).save(tmp_path / "large" / f"{number}.jpg")
        image = {"id": number, "file_name": f"{number}.jpg", "width": size[0], "height": size[1]}
        images.append(image)
    person = {"bbox": [40, 20, 80, 100], "area": 4000, "keypoints": [50, 30, 2, 0, 0, 0]}
    outline = {"segmentation": [[40, 20, 120, 20, 120, 120]]}
    people = [
        {"id": 1, "image_id": 0, **person, **outline},
        {"id": 2, "image_id": 1, "bbox": [1, 2, 3, 4], "segmentation": {"counts": "0"}},
    ]
    labels = tmp_path / "large.json"
    labels.write_text(json.dumps({"images": images, "annotations": people}))
    places = [labels, tmp_path / "large", 100, tmp_path / "small.json", tmp_path / "small"]
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *map(str, places)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.endswith("small.json: 2 images, 2 annotations\n")
    small = json.loads((tmp_path / "small.json").read_text())
    assert [(i["width"], i["height"]) for i in small["images"]] == [(100, 50), (60, 100)]
    assert small["annotations"] == [
        {
            "id": 1,
            "image_id": 0,
            "bbox": [10, 5, 20, 25],
            "area": 250,
            "keypoints": [12.5, 7.5, 2, 0, 0, 0],
            "segmentation": [[10, 5, 30, 5, 30, 30]],
        },
        {"id": 2, "image_id": 1, "bbox": [1, 2, 3, 4]},
    ]
    for image in small["images"]:
        with Image.open(tmp_path / "small" / image["file_name"]) as picture:
            assert picture.size == (image["width"], image["height"])
