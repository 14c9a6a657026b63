"""Images for detectors: boxes stay on their people, and nobody is taken for background."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from posepipe.training.detector.mosaic import (
    DetectorAugmentTable,
    MosaicTable,
    draw_mosaic,
    draw_whole,
)
from posepipe.training.samples import DetectionSample

TABLE = DetectorAugmentTable(fill=(0, 0, 0), smallest=8.0)
RED, BLUE = 0, 2
KINDS = ("whole", "one", "four")


def painted(people=(), ignored=(), size_wh=(160, 120), classes=()):
    """A green image in which people are red and ignored regions blue."""
    pixels = np.zeros((size_wh[1], size_wh[0], 3), np.uint8)
    pixels[..., 1] = 90
    for boxes, channel in ((ignored, BLUE), (people, RED)):
        for x1, y1, x2, y2 in boxes:
            pixels[y1:y2, x1:x2] = 0
            pixels[y1:y2, x1:x2, channel] = 200
    return DetectionSample(
        pixels,
        np.reshape(np.array(people, float), (-1, 4)),
        np.reshape(ignored, (-1, 4)),
        np.array(classes, np.int64),
    )


CROWDED = painted(people=[(20, 30, 60, 110), (90, 10, 140, 70)], ignored=[(100, 80, 150, 110)])
EMPTY = painted()


def views(kind, sample=CROWDED, other=None, count=40, **changes):
    generator = np.random.default_rng(0)
    table = msgspec.structs.replace(TABLE, **changes)
    mosaic = MosaicTable(side=128, four=float(kind == "four"))
    for _ in range(count):
        if kind == "whole":
            yield draw_whole(sample, (96, 128), 200, table, generator)
        else:
            yield draw_mosaic(sample, lambda _: other or sample, mosaic, table, generator)


def covered(boxes_xyxy, shape_hw):
    mask = np.zeros(shape_hw, bool)
    for x1, y1, x2, y2 in boxes_xyxy:
        mask[int(y1) : int(np.ceil(y2)), int(x1) : int(np.ceil(x2))] = True
    return mask


@pytest.mark.parametrize("kind", KINDS)
def test_boxes_stay_on_the_people_they_are_of(kind):
    seen = 0
    for drawn in views(kind):
        red = drawn.pixels[..., RED] > 60
        for x1, y1, x2, y2 in drawn.boxes_xyxy:
            assert red[round(y1) : round(y2), round(x1) : round(x2)].mean() > 0.85
            seen += 1
        # Everybody without a box is in an ignored region.
        known = covered([*drawn.boxes_xyxy, *drawn.ignored_xyxy], red.shape)
        assert (red & ~known).mean() < 0.01
    assert seen > 20


@pytest.mark.parametrize("kind", KINDS)
def test_ignored_regions_stay_in_place(kind):
    for drawn in views(kind):
        blue = drawn.pixels[..., BLUE] > 60
        assert (blue & ~covered(drawn.ignored_xyxy, blue.shape)).mean() < 0.01
        assert (drawn.ignored_xyxy >= 0).all()
        assert (drawn.ignored_xyxy <= drawn.pixels.shape[1]).all()


@pytest.mark.parametrize("kind", KINDS)
def test_blotted_images_have_nothing_left_to_ignore(kind):
    for drawn in views(kind, ignored="blot"):
        red, blue = (drawn.pixels[..., channel] > 60 for channel in (RED, BLUE))
        assert blue.mean() < 0.01
        assert (red & ~covered(drawn.boxes_xyxy, red.shape)).mean() < 0.01
        assert drawn.ignored_xyxy.shape == (0, 4)


@pytest.mark.parametrize("kind", KINDS)
def test_boxes_lie_in_the_image_and_are_large_enough_to_learn(kind):
    for drawn in views(kind, smallest=30.0):
        height, width = drawn.pixels.shape[:2]
        assert drawn.pixels.dtype == np.uint8
        sides = drawn.boxes_xyxy[:, 2:] - drawn.boxes_xyxy[:, :2]
        assert (sides >= 30).all()
        assert (drawn.boxes_xyxy >= 0).all()
        assert (drawn.boxes_xyxy <= [width, height, width, height]).all()


@pytest.mark.parametrize("kind", KINDS)
def test_classes_go_with_their_boxes(kind):
    # The large one is of class 3, the small one of class 7.
    sample = painted(people=[(10, 10, 90, 110), (120, 20, 150, 50)], classes=[3, 7])
    for drawn in views(kind, sample, smallest=1.0):
        sides = drawn.boxes_xyxy[:, 3] - drawn.boxes_xyxy[:, 1]
        assert len(drawn.classes) == len(sides)
        assert set(drawn.classes) <= {3, 7}
        if kind == "whole":
            assert drawn.classes[sides.argmax()] == 3


@pytest.mark.parametrize("kind", KINDS)
def test_an_image_without_people_gives_one_without_boxes(kind):
    for drawn in views(kind, EMPTY, count=5):
        assert drawn.boxes_xyxy.shape == drawn.ignored_xyxy.shape == (0, 4)
        assert drawn.classes.shape == (0,)
        assert (drawn.pixels[..., 1] > 0).any()


def test_one_of_four_images_is_the_one_whose_turn_it_is():
    with_people = [len(drawn.boxes_xyxy) > 0 for drawn in views("four", CROWDED, EMPTY)]
    assert np.mean(with_people) > 0.5
    assert all(len(drawn.boxes_xyxy) <= 2 for drawn in views("four", CROWDED, EMPTY))


def test_whole_images_have_the_sizes_asked_for():
    sizes = {drawn.pixels.shape[:2] for drawn in views("whole")}
    assert sizes == {(96, 128), (128, 170)}
    wide = painted(size_wh=(400, 100))
    assert {drawn.pixels.shape[:2] for drawn in views("whole", wide)} == {(50, 200)}


def test_a_mirrored_image_is_the_image_mirrored():
    plain, mirrored = (next(views("whole", flip=flip, brightness=0.0)) for flip in (0.0, 1.0))
    assert np.array_equal(mirrored.pixels, plain.pixels[:, ::-1])
    width = plain.pixels.shape[1]
    expected = plain.boxes_xyxy[:, [2, 1, 0, 3]] * [-1, 1, -1, 1] + [width, 0, width, 0]
    assert mirrored.boxes_xyxy == pytest.approx(expected)


def test_brightness_changes_by_no_more_than_the_table_says():
    plain = next(views("whole", brightness=0.0, flip=0.0)).pixels.astype(float)
    for drawn in views("whole", brightness=0.3, flip=0.0):
        if drawn.pixels.shape == plain.shape:
            assert (drawn.pixels <= plain * 1.3 * 1.1 + 1).all()
            assert (drawn.pixels >= plain * 0.7 * 0.9 - 1).all()


def greyness(pixels):
    """(H, W) the luma of ITU-R BT.601, which a change of saturation leaves as it is."""
    return pixels.astype(float) @ [0.299, 0.587, 0.114]


def test_saturation_moves_colours_towards_grey_and_away_from_it():
    pastel = painted()
    pastel.pixels[:] = (120, 100, 140)  # far from both ends, where nothing is cut off
    spreads = []
    for drawn in views("whole", pastel, brightness=0.0, saturation=0.5):
        np.testing.assert_allclose(greyness(drawn.pixels), greyness(pastel.pixels[0, 0]), atol=1.0)
        spreads.append(int(np.ptp(drawn.pixels.reshape(-1, 3)[0])))
    assert 20 <= min(spreads) < 30 < 50 < max(spreads) <= 60  # it is 40, times 0.5 to 1.5


def test_grey_images_come_as_often_as_asked_for():
    drawn = list(views("whole", brightness=0.0, grey=0.25, count=200))
    without_colour = [np.ptp(view.pixels, axis=2).max() == 0 for view in drawn]
    assert 30 <= sum(without_colour) <= 70
    coloured = next(v for v, grey in zip(drawn, without_colour, strict=True) if not grey)
    plain = views("whole", brightness=0.0, count=10)
    assert any(np.array_equal(np.unique(coloured.pixels), np.unique(v.pixels)) for v in plain)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_generator_draws_the_same(kind):
    for one, other in zip(views(kind, count=5), views(kind, count=5), strict=True):
        assert np.array_equal(one.pixels, other.pixels)
        assert np.array_equal(one.boxes_xyxy, other.boxes_xyxy)


@pytest.mark.parametrize(
    ("table", "fields", "message"),
    [
        (MosaicTable, {"side": 8}, "side must be at least 32"),
        (MosaicTable, {"zoom": (2.0, 1.0)}, "zoom contain the smallest and the largest"),
        (DetectorAugmentTable, {"flip": 2.0}, r"flip must lie in \[0, 1\]"),
        (DetectorAugmentTable, {"saturation": 1.5}, r"saturation must lie in \[0, 1\]"),
        (DetectorAugmentTable, {"grey": -0.1}, r"grey must lie in \[0, 1\]"),
        (DetectorAugmentTable, {"brightness": 1.0}, r"brightness must lie in \[0, 1\)"),
        (DetectorAugmentTable, {"smallest": 0.0}, "smallest must be above 0"),
        (DetectorAugmentTable, {"fill": (300, 0, 0)}, "fill must be red, green, blue"),
    ],
)
def test_a_table_with_a_value_out_of_range_is_refused(table, fields, message):
    with pytest.raises(ValueError, match=message):
        table(**fields)
