"""Made-up labels and poses, as many as somebody wants to measure with.

python scripts/synthetic_poses.py labels.json kps.json --images 5000 --poses 10
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from posepipe.core.skeleton import COCO_PERSON


def write_synthetic(labels: Path, results: Path, *, images: int, poses: int) -> None:
    """Two people an image, poses near them of different quality, and others on nobody."""
    random = np.random.default_rng(0)
    names = list(COCO_PERSON.keypoints)
    people, found = [], []
    for image in range(1, images + 1):
        for _ in range(2):
            size = random.uniform(40, 300, 2)
            points = random.uniform(0, 300, 2) + random.uniform(0, 1, (len(names), 2)) * size
            seen = random.integers(0, 3, len(names))
            low, wh = points.min(axis=0), np.ptp(points, axis=0)
            label = np.column_stack([points, seen]) * (seen > 0)[:, None]
            people.append(
                {
                    **{"id": len(people) + 1, "image_id": image, "category_id": 1, "iscrowd": 0},
                    **{"bbox": [*low, *wh], "area": float(0.6 * wh.prod())},
                    **{"keypoints": label.ravel().tolist(), "num_keypoints": int((seen > 0).sum())},
                }
            )
        for rank in range(poses):
            near = people[-1 - rank % 2]["keypoints"] if rank < 6 else None
            points = (
                np.reshape(near, (-1, 3))[:, :2] + random.normal(0, 3 * rank + 1, (len(names), 2))
                if near is not None
                else random.uniform(0, 600, (len(names), 2))
            )
            keypoints = np.column_stack([points, random.uniform(0, 1, len(names))]).ravel()
            entry = {"image_id": image, "category_id": 1, "score": float(random.uniform())}
            found.append({**entry, "keypoints": keypoints.round(2).tolist()})
    images = [
        {"id": image, "file_name": f"{image}.jpg", "width": 640, "height": 640}
        for image in range(1, images + 1)
    ]
    category = {"id": 1, "name": "person", "keypoints": names}
    labels.write_text(
        json.dumps({"images": images, "categories": [category], "annotations": people})
    )
    results.write_text(json.dumps(found))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("labels", type=Path)
    parser.add_argument("results", type=Path)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--poses", type=int, default=10, help="In each image.")
    given = parser.parse_args()
    write_synthetic(given.labels, given.results, images=given.images, poses=given.poses)
