"""A COCO annotation file and its images, the images scaled down to a longest side.

    python scripts/shrink_set.py ANNOTATIONS.json IMAGES SIDE OUT.json OUT_IMAGES

Sets whose images differ in size train alike once they are of one size, and small images are
read faster. Boxes, keypoints, areas and outlines are scaled with their image; smaller images
stay as they are.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from PIL import Image


def shrunk(path: Path, target: Path, side: int) -> tuple[float, float, int, int]:
    """Write an image scaled so that its longer side is `side`; the scale in x and y, the size."""
    with Image.open(path) as image:
        width, height = image.size
        scale = min(1.0, side / max(width, height))
        size = max(1, round(width * scale)), max(1, round(height * scale))
        small = image.convert("RGB").resize(size, Image.Resampling.HAMMING)
    small.save(target, quality=90)
    return size[0] / width, size[1] / height, *size


def scaled(person: dict[str, Any], x: float, y: float) -> dict[str, Any]:
    """An annotation in the pixels of its scaled image."""

    def points(values: list[float], step: int) -> list[float]:
        factors = ([x, y, 1] if step == 3 else [x, y]) * (len(values) // step)
        return [round(value * factor, 2) for value, factor in zip(values, factors, strict=True)]

    changed = {**person, "bbox": points(person["bbox"], 2)}
    if "area" in person:
        changed["area"] = round(person["area"] * x * y, 2)
    if "keypoints" in person:
        changed["keypoints"] = points(person["keypoints"], 3)
    if isinstance(person.get("segmentation"), list):
        changed["segmentation"] = [points(outline, 2) for outline in person["segmentation"]]
    else:  # run-length masks cannot be scaled
        changed.pop("segmentation", None)
    return changed


def main(source: str, images: str, side: str, target: str, small_images: str) -> None:
    """Write the small set and say how many images it has."""
    document = json.loads(Path(source).read_text(encoding="utf-8"))
    Path(small_images).mkdir(parents=True)
    scales = {}
    for image in document["images"]:
        name = image["file_name"]
        place = Path(small_images, name)
        x, y, width, height = shrunk(Path(images, name), place, int(side))
        image |= {"width": width, "height": height}
        scales[image["id"]] = (x, y)
    document["annotations"] = [scaled(a, *scales[a["image_id"]]) for a in document["annotations"]]
    Path(target).write_text(json.dumps(document), encoding="utf-8")
    print(f"{target}: {len(scales)} images, {len(document['annotations'])} annotations")


if __name__ == "__main__":
    if len(sys.argv) != 6:
        sys.exit(__doc__)
    main(*sys.argv[1:])
