"""Stages that take no time: people and poses that depend on an image's id and size alone."""

from __future__ import annotations

import numpy as np

from posepipe.core.boxes import Detections
from posepipe.core.poses import Poses


class SomePeople:
    """As many people in an image as its id says modulo 3, in boxes with broken edges."""

    batch_size = 2

    def __init__(self, interrupted_after=None):
        self.left = interrupted_after

    def prepare(self, image):
        height, width = image.read().shape[:2]
        return image.id, width, height

    def weight(self, ready):
        return 1

    def __call__(self, batch):
        return [self._found(*ready) for ready in batch]

    def _found(self, image_id, width, height):
        if self.left is not None:
            if self.left == 0:
                raise KeyboardInterrupt
            self.left -= 1
        count = image_id % 3
        corners = np.arange(2 * count).reshape(count, 2) / 7 + image_id / 3
        boxes = np.concatenate([corners, corners + np.array([width, height]) / 3], axis=1)
        return Detections(image_id, boxes, 0.9 - np.arange(count) / 7, (width, height))


class StickFigures:
    """Every keypoint of a person lies somewhere in the box."""

    batch_size = 3

    def __init__(self, interrupted_after=None):
        self.left = interrupted_after

    def prepare(self, item):
        image, detections = item
        image.read()
        return detections

    def weight(self, ready):
        return len(ready)

    def __call__(self, batch):
        if self.left is not None:
            if self.left < len(batch):
                raise KeyboardInterrupt
            self.left -= len(batch)
        return [self._poses(detections) for detections in batch]

    def _poses(self, detections):
        boxes = detections.boxes_xyxy.astype(float)
        shares = np.linspace(0, 1, 17)[:, None]
        points = boxes[:, None, :2] * (1 - shares) + boxes[:, None, 2:] * shares
        confidences = np.broadcast_to(1 / (2 + shares), (len(boxes), 17, 1))
        scores = detections.scores.astype(float)
        keypoints = np.concatenate([points, confidences], axis=-1)
        return Poses(detections.image_id, keypoints, scores, boxes, scores)
