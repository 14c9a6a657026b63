"""Where people went: lines behind those who are followed, which fade with time."""

from __future__ import annotations

from collections import deque

import cv2
import numpy as np
import numpy.typing as npt

from posepipe.core.poses import Poses
from posepipe.drawing.shapes import draw_segment
from posepipe.drawing.style import DrawStyle, person_colour

STEPS = 8  # of fading
WIDTH = 1 / 160  # of the longer side of the image


class Trails:
    """Draws where each person stood in the last frames, which come in the order of their time.

    Args:
        length: seconds for which a trail stays.
    """

    def __init__(self, length: float = 1.5) -> None:
        self._length = length
        self._paths: dict[int, deque[tuple[float, float, float]]] = {}

    def __call__(
        self,
        image: npt.NDArray[np.uint8],
        poses: Poses,
        seconds: float,
        *,
        style: DrawStyle | None = None,
    ) -> npt.NDArray[np.uint8]:
        """The image with the trails, under everything that is drawn on it later.

        Args:
            image: (H, W, 3) uint8 RGB; it stays as it is.
            poses: of this frame; people without a number leave no trail; nobody is legal.
            seconds: the frame's time.
            style: `min_score` is looked at; None is the default style.

        Returns:
            (H, W, 3) uint8 RGB, a new array.
        """
        self._note(poses, seconds, (style or DrawStyle()).min_score)
        canvas = np.array(image, order="C")
        width = max(1.5, WIDTH * max(canvas.shape[:2]))
        for step in range(1, STEPS + 1):
            plain = canvas.copy()
            drawn = False
            for number, path in self._paths.items():
                colour = person_colour(number)
                points = list(path)
                for (_, *start), (time, *end) in zip(points, points[1:], strict=False):
                    left = max(0.0, 1 - (seconds - time) / self._length - 1e-9)
                    if step == 1 + int(STEPS * left):
                        draw_segment(canvas, start, end, width, colour)
                        drawn = True
            if drawn:
                cv2.addWeighted(canvas, step / STEPS, plain, 1 - step / STEPS, 0, dst=canvas)
        return canvas

    def _note(self, poses: Poses, seconds: float, min_score: float) -> None:
        if poses.track_ids is not None:
            people = zip(poses.track_ids.tolist(), poses.boxes_xyxy, poses.scores, strict=True)
            for number, (left, _, right, bottom), score in people:
                if number > 0 and score >= min_score:
                    path = self._paths.setdefault(number, deque())
                    path.append((seconds, float(left + right) / 2, float(bottom)))
        for path in self._paths.values():
            while path and path[0][0] < seconds - self._length:
                path.popleft()
        self._paths = {number: path for number, path in self._paths.items() if path}
