"""People painted for training: a spot for every keypoint, each in a colour of its own."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from posepipe.training.pictures import Picture
from posepipe.training.samples import PoseSample


@pytest.fixture
def painted_person() -> Callable[..., PoseSample]:
    """Makes a person of 17 coloured spots in a dark picture, a sixth of them not annotated."""

    def make(seed: int = 0, size_wh: tuple[int, int] = (96, 128)) -> PoseSample:
        random = np.random.default_rng(seed)
        width, height = size_wh
        points = random.uniform([0.2 * width, 0.2 * height], [0.8 * width, 0.8 * height], (17, 2))
        pixels = np.full((height, width, 3), 20, np.uint8)
        rows, columns = np.mgrid[:height, :width]
        for k, (x, y) in enumerate(points):
            near = (columns - x) ** 2 + (rows - y) ** 2 < 9
            pixels[near] = [60 + 195 * (k // 9), 60 + 97 * (k // 3 % 3), 60 + 97 * (k % 3)]
        weights = np.ones(17)
        weights[::6] = 0
        box = np.array([0.15 * width, 0.15 * height, 0.85 * width, 0.85 * height])
        return PoseSample(
            Picture.in_memory(pixels),
            box,
            points,
            weights,
            visibility=2 * weights,
            area=0.4 * width * height,
        )

    return make
