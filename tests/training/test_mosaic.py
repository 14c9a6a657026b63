"""Mosaics: boxes stay on their people, and nobody without a box is left in the picture."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from posepipe.training.mosaic import MosaicTable, draw_mosaic
from posepipe.training.samples import DetectionSample

FILL = (0, 0, 0)
TABLE = MosaicTable(side=128, four=0.5, fill=FILL)
RED, BLUE = 0, 2


def painted(people=(), ignored=(), size_wh=(160, 120)):
    """A green picture in which people are red and ignored regions blue."""
    pixels = np.zeros((size_wh[1], size_wh[0], 3), np.uint8)
    pixels[..., 1] = 90
    for boxes, channel in ((ignored, BLUE), (people, RED)):
        for x1, y1, x2, y2 in boxes:
            pixels[y1:y2, x1:x2] = 0
            pixels[y1:y2, x1:x2, channel] = 200
    return DetectionSample(
        pixels, np.reshape(np.array(people, float), (-1, 4)), np.reshape(ignored, (-1, 4))
    )


CROWDED = painted(people=[(20, 30, 60, 110), (90, 10, 140, 70)], ignored=[(100, 80, 150, 110)])
EMPTY = painted()


def mosaics(sets, shares=None, count=40, **changes):
    generator = np.random.default_rng(0)
    table = msgspec.structs.replace(TABLE, **changes)
    for _ in range(count):
        yield draw_mosaic(sets, shares or [1.0] * len(sets), table, generator)


@pytest.mark.parametrize("four", [0.0, 1.0])
def test_boxes_stay_on_the_people_they_are_of(four):
    seen = 0
    for drawn in mosaics([[CROWDED]], four=four):
        red = drawn.pixels[..., RED] > 60
        covered = np.zeros_like(red)
        for x1, y1, x2, y2 in drawn.boxes_xyxy:
            inside = red[round(y1) : round(y2), round(x1) : round(x2)]
            assert inside.mean() > 0.85
            covered[int(y1) : int(np.ceil(y2)), int(x1) : int(np.ceil(x2))] = True
            seen += 1
        # No person without a box is left, but for the rounding of what was blotted out.
        assert (red & ~covered).mean() < 0.01
    assert seen > 20


def test_ignored_regions_are_blotted_out():
    for drawn in mosaics([[CROWDED]]):
        assert (drawn.pixels[..., BLUE] > 60).mean() < 0.01
        assert drawn.ignored_xyxy.shape == (0, 4)


def test_boxes_lie_in_the_mosaic_and_are_large_enough_to_learn():
    for drawn in mosaics([[CROWDED]], smallest=12.0):
        assert drawn.pixels.shape == (128, 128, 3)
        assert drawn.pixels.dtype == np.uint8
        sides = drawn.boxes_xyxy[:, 2:] - drawn.boxes_xyxy[:, :2]
        assert (sides >= 12).all()
        assert (drawn.boxes_xyxy >= 0).all()
        assert (drawn.boxes_xyxy <= 128).all()


def test_a_picture_without_people_gives_a_mosaic_without_boxes():
    for drawn in mosaics([[EMPTY]], count=5):
        assert drawn.boxes_xyxy.shape == (0, 4)
        assert (drawn.pixels[..., 1] > 0).any()


def test_sets_are_drawn_by_their_shares():
    counts = [len(drawn.boxes_xyxy) for drawn in mosaics([[CROWDED], [EMPTY]], [0.0, 1.0])]
    assert counts == [0] * 40


def test_the_same_generator_draws_the_same_mosaics():
    for one, other in zip(
        mosaics([[CROWDED]], count=5), mosaics([[CROWDED]], count=5), strict=True
    ):
        assert np.array_equal(one.pixels, other.pixels)
        assert np.array_equal(one.boxes_xyxy, other.boxes_xyxy)


def test_a_sample_that_is_no_picture_of_people_is_refused():
    with pytest.raises(ValueError, match="boxes_xyxy must have shape"):
        DetectionSample(np.zeros((4, 4, 3), np.uint8), np.zeros((2, 3)), np.zeros((0, 4)))
