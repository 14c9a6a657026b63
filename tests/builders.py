"""Readable test data: tiny images, annotation files, boxes and poses.

Everything has a default that makes sense, so that a test names only what it is about.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from posepipe.core.boxes import Detections
from posepipe.core.poses import Poses
from posepipe.core.skeleton import COCO_PERSON, Skeleton
from posepipe.io.images import ImageFile, ImageSet

K = 17  # COCO's keypoints
DOG = Skeleton(
    name="dog",
    keypoints=(
        *("nose", "left_ear", "right_ear", "withers", "croup", "tail"),
        *("left_front_paw", "right_front_paw", "left_back_paw", "right_back_paw"),
    ),
    mirror_pairs=((1, 2), (6, 7), (8, 9)),
    limbs=((0, 1), (0, 2), (0, 3), (3, 4), (4, 5), (3, 6), (3, 7), (4, 8), (4, 9)),
    sigmas=(0.03, 0.04, 0.04, 0.08, 0.08, 0.1, 0.07, 0.07, 0.09, 0.09),
    category="dog",
    upper_body=(0, 1, 2, 3, 6, 7),  # the front
)
ORIENTATION = 0x0112  # the EXIF tag
# The least that an entry of a list of results has.
BOX = {"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5}
POSE = {"image_id": 1, "category_id": 1, "keypoints": [1.0] * 51, "score": 0.5}


def an_image(width: int = 8, height: int = 6) -> npt.NDArray[np.uint8]:
    """(height, width, 3) uint8 RGB in which every quarter has a colour of its own.

    Red and green on top, blue and white below: no two of its eight orientations look alike.
    """
    pixels = np.zeros((height, width, 3), np.uint8)
    top, left = slice(None, height // 2), slice(None, width // 2)
    bottom, right = slice(height // 2, None), slice(width // 2, None)
    pixels[top, left] = 255, 0, 0
    pixels[top, right] = 0, 255, 0
    pixels[bottom, left] = 0, 0, 255
    pixels[bottom, right] = 255, 255, 255
    return pixels


def save_image(path: Path, width: int = 8, height: int = 6, *, orientation: int = 1) -> Path:
    """A file with `image`'s pixels; its folder is made; the suffix says the format."""
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    Image.fromarray(an_image(width, height)).save(path, exif=exif)
    return path


def detections(
    image_id: int = 1,
    boxes_xyxy: npt.ArrayLike = ((1, 2, 5, 6),),
    scores: npt.ArrayLike | None = None,
    size_wh: tuple[int, int] | None = None,
) -> Detections:
    """Boxes in one image; the scores left out are 0.9, 0.8, 0.7 and so on."""
    boxes = np.asarray(boxes_xyxy, np.float32).reshape(-1, 4)
    if scores is None:
        scores = 0.9 - 0.1 * np.arange(len(boxes))
    return Detections(image_id, boxes, np.asarray(scores, np.float32), size_wh)


def poses(image_id: int = 1, people: int = 1, skeleton: Skeleton = COCO_PERSON) -> Poses:
    """People in one image whose numbers all differ and are not round."""
    numbers = np.arange(people * len(skeleton), dtype=float).reshape(people, len(skeleton))
    keypoints = np.stack([10 + numbers / 7, 20 + numbers / 3, 1 / (2 + numbers)], axis=-1)
    scores = 1 / (3 + np.arange(people))
    boxes = np.array([[n, n, 50 + n / 3, 80.5] for n in range(people)]).reshape(-1, 4)
    return Poses(image_id, keypoints, scores, boxes, scores / 1.5, skeleton)


def keypoints_xyv(labelled: int = K) -> list[float]:
    """51 numbers as COCO's files have them: the first keypoints visible, the rest not labelled."""
    visible = [number for k in range(labelled) for number in (10.0 + k, 20.0 + k, 2)]
    return visible + [0] * (3 * (K - labelled))


def annotation(id: int = 1, image_id: int = 1, **changes: Any) -> dict[str, Any]:
    """A labelled person; a change to None removes the field."""
    entry = {
        "id": id,
        "image_id": image_id,
        "category_id": 1,
        "bbox": [10, 20, 30, 40],
        "area": 500.0,
        "iscrowd": 0,
        "keypoints": keypoints_xyv(),
        "segmentation": [],
    } | changes
    keypoints = entry["keypoints"]
    if isinstance(keypoints, list) and all(isinstance(v, int | float) for v in keypoints):
        entry.setdefault("num_keypoints", sum(v > 0 for v in keypoints[2::3]))
    return {key: value for key, value in entry.items() if value is not None}


def image_entry(id: int = 1, **changes: Any) -> dict[str, Any]:
    """An image as annotation files list it."""
    return {"id": id, "file_name": f"{id:012d}.jpg", "width": 100, "height": 80} | changes


def annotation_file(
    path: Path,
    annotations: Sequence[dict[str, Any]] = (),
    images: Sequence[dict[str, Any]] | None = None,
    **changes: Any,
) -> Path:
    """A COCO annotation file; without `images` those that the annotations are of."""
    if images is None:
        images = [image_entry(n) for n in sorted({entry["image_id"] for entry in annotations})]
    document = {
        "images": list(images),
        "annotations": list(annotations),
        "categories": [{"id": 1, "name": "person"}],
    } | changes
    return save_json(path, document)


def save_json(path: Path, value: object) -> Path:
    """A JSON file as Python writes it, NaN included."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


def pose_entry(**changes: object) -> dict[str, object]:
    """An entry of a kps.json of one person."""
    entry = {"image_id": 1, "category_id": 1, "keypoints": keypoints_xyv(), "score": 0.7}
    return entry | {"file_name": "a.jpg", "image_root": "pictures"} | changes


def image_set(root: Path, count: int) -> ImageSet:
    """Images 1.png to n.png, which need not be there."""
    names = {n: f"{n}.png" for n in range(1, count + 1)}
    return ImageSet(root, tuple(ImageFile(n, root / name, name) for n, name in names.items()))
