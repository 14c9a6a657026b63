"""Stands in for a pipeline over videos: it knows where its one person is in every frame."""

from __future__ import annotations

import numpy as np

from posepipe.core.boxes import Detections
from posepipe.core.poses import Poses
from posepipe.io.documents import made_by

K = 17
SHAPE = np.random.default_rng(0).uniform(0, 1, (K, 2)) * [40, 100]


class Walker:
    """One person who goes 5 px to the right from frame to frame.

    Args:
        confidence: of the keypoints in a frame, by its number.
        noise: pixels of trembling.
        stop_at: the number of a frame at which somebody presses Ctrl-C.

    Attributes:
        detected: the ids of the frames in which it looked for people.
        posed: those in which it was told where they are.
    """

    device = "cpu"

    def __init__(self, confidence=lambda number: 0.9, noise=0.0, stop_at=None):
        self.detected, self.posed = [], []
        self._confidence, self._noise, self._stop_at = confidence, noise, stop_at

    def _poses(self, image, box=None):
        number = image.id - 1
        if number == self._stop_at:
            raise KeyboardInterrupt
        random = np.random.default_rng(number)
        corner = np.array([5.0 * number, 20])
        points = corner + SHAPE + random.normal(0, 1, (K, 2)) * self._noise
        confidence = np.full((K, 1), self._confidence(number))
        true_box = np.concatenate([corner, corner + np.array([40, 100])])
        boxes = np.array([true_box if box is None else box])
        keypoints = np.concatenate([points, confidence], axis=1)[None]
        return Poses(image.id, keypoints, np.full(1, 0.8), boxes, np.full(1, 0.9))

    def load(self):
        return self

    def made_by(self, command):
        return made_by(command, (), {})

    def __call__(self, image):
        self.detected.append(image.id)
        return self._poses(image)

    def poses(self, image, boxes_xyxy, *, scores=None):
        self.posed.append(image.id)
        [box] = boxes_xyxy
        return self._poses(image, box)

    def stream(self, images, *, workers, together):
        for image in images:
            yield image, self(image)

    def stream_detections(self, images, *, workers, together):
        for image, poses in self.stream(images, workers=workers, together=together):
            size_wh = image.size_wh
            yield image, Detections(image.id, poses.boxes_xyxy, poses.box_scores, size_wh)

    @property
    def detection_stage(self):
        return type("Stage", (), {"settings": type("Settings", (), {"category": "person"})})
