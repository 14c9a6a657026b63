"""What a page of `posepipe view` shows in tests: people whose keypoints stand in a column."""

from __future__ import annotations

import numpy as np

from posepipe.core.poses import PoseLabels, Poses
from posepipe.io.images import ImageFile
from posepipe.viewing.content import Content

K = 17


def poses(image_id, *lefts, score=0.9):
    """People whose keypoints stand in a column, 10 px apart."""
    points = np.stack([np.stack([np.full(K, left), 10.0 * np.arange(K)], 1) for left in lefts])
    keypoints = np.concatenate([points, np.ones((len(lefts), K, 1))], axis=2)
    boxes = np.array([[left - 20, 0, left + 20, 160] for left in lefts], float)
    return Poses(image_id, keypoints, np.full(len(lefts), score), boxes, np.ones(len(lefts)))


def labels_of(of):
    return PoseLabels(
        of.image_id,
        of.keypoints[..., :2],
        np.full((len(of), K), 2),
        of.boxes_xyxy,
        np.full(len(of), 6400.0),
        np.zeros(len(of), bool),
        np.arange(len(of)),
    )


def content(names=("a.jpg", "b.jpg"), **options):
    images = [
        ImageFile(n, None, name, pixels=np.full((200, 300, 3), 40 * n, np.uint8))
        for n, name in enumerate(names)
    ]
    found = [poses(image.id, 50, 150) for image in images]
    return Content("kps.json", images, found, [labels_of(of) for of in found], **options)
