"""Affine maps: laws that hold for all of them, and images that move with their points.

The test that matters most is the one with a lit pixel: whatever a map does, the image and the
points drawn in it must go to the same place. A wrong sign, a swapped order or half a pixel too much
shows there at once.
"""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from posepipe.core.affine import Affine

WIDTH, HEIGHT = 40, 30
WINDOW = [15, 5, 35, 25]  # 20 x 20 pixels of the image
GREY = (123, 116, 103)

MAPS = {
    "identity": Affine.identity(),
    "the image four times as big": Affine.from_box([0, 0, WIDTH, HEIGHT], (160, 120)),
    "a window stretched unevenly": Affine.from_box(WINDOW, (50, 90)),
    "a window with broken edges": Affine.from_box([15.3, 5.2, 35.7, 25.9], (83, 81)),
    "a window that reaches outside": Affine.from_box([10, -20, 60, 40], (100, 120)),
    "turned by 30 degrees": Affine.rotation(30, (20, 15)),
    "turned back by 77 and enlarged": Affine.rotation(-77, (20, 15), 2.5),
    "mirrored": Affine.mirror(WIDTH),
    "cut, turned, mirrored": (
        Affine.from_box(WINDOW, (80, 80))
        .then(Affine.rotation(45, (40, 40)))
        .then(Affine.mirror(80))
    ),
}

halves = st.integers(-400, 400).map(lambda n: n / 4)


@st.composite
def affines(draw):
    """Maps of every kind that the project makes, and two of them one after the other."""

    def one():
        x, y = draw(halves), draw(halves)
        width, height = draw(st.integers(1, 60)), draw(st.integers(1, 60))
        return draw(
            st.sampled_from(
                [
                    Affine.from_box([x, y, x + width, y + height], (48, 64)),
                    Affine.rotation(draw(st.integers(-180, 180)), (x, y), draw(st.floats(0.5, 2))),
                    Affine.mirror(width),
                ]
            )
        )

    return one().then(one()) if draw(st.booleans()) else one()


points = hnp.arrays(np.float64, st.tuples(st.integers(0, 5), st.just(2)), elements=halves)


def lit_image(x, y):
    """A black image with one white pixel."""
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    image[y, x] = 255
    return image


def brightness_centre(image):
    """(x, y), the mean of an image's pixel centres, weighted by their brightness."""
    weights = image[..., 0].astype(float)
    rows, columns = np.indices(weights.shape)
    return np.array([(weights * columns).sum(), (weights * rows).sum()]) / weights.sum()


def noise(width, height, channels=3):
    return np.random.default_rng(0).integers(0, 256, (height, width, channels), dtype=np.uint8)


# --- points


@pytest.mark.parametrize("shape", [(0, 2), (2,), (1, 2), (4, 2), (3, 0, 2), (3, 4, 2)])
@pytest.mark.parametrize("name", MAPS)
def test_points_keep_their_leading_axes(name, shape):
    given_points = np.arange(np.prod(shape), dtype=float).reshape(shape)
    moved = MAPS[name].apply(given_points)
    assert moved.shape == shape
    assert moved.dtype == np.float64
    one_by_one = [MAPS[name].apply(point) for point in given_points.reshape(-1, 2)]
    assert np.allclose(moved.reshape(-1, 2), np.reshape(one_by_one, (-1, 2)))


@pytest.mark.parametrize(
    ("affine", "source", "target"),
    [
        (Affine.identity(), [3, 4], [3, 4]),
        # Twice as big: the first pixel covers the pixels 0 and 1, so its centre is between them.
        (Affine.from_box([0, 0, 4, 4], (8, 8)), [0, 0], [0.5, 0.5]),
        # Half as big: the first two pixels become one.
        (Affine.from_box([0, 0, 8, 8], (4, 4)), [0.5, 0.5], [0, 0]),
        (Affine.from_box([10, 20, 14, 28], (4, 8)), [10, 20], [0, 0]),
        (Affine.from_box([0, 0, 10, 10], (20, 50)), [-0.5, 9.5], [-0.5, 49.5]),
        (Affine.mirror(8), [0, 5], [7, 5]),
        (Affine.mirror(8), [3.5, 5], [3.5, 5]),
        # y points down: what lies right of the centre goes below it.
        (Affine.rotation(90, (5, 5)), [7, 5], [5, 7]),
        (Affine.rotation(180, (5, 5), 3), [7, 6], [-1, 2]),
        (Affine.rotation(45, (1, 1), np.sqrt(2)), [2, 1], [2, 2]),
    ],
)
def test_where_points_go_by_hand(affine, source, target):
    assert affine.apply(source) == pytest.approx(np.array(target))


@given(points)
def test_the_identity_moves_no_point(some):
    assert np.array_equal(Affine.identity().apply(some), some)


@given(affines(), points)
def test_there_and_back_is_where_it_was(affine, some):
    assert np.allclose(affine.inverse.apply(affine.apply(some)), some, atol=1e-6)
    assert np.allclose(affine.apply(affine.inverse.apply(some)), some, atol=1e-6)


@given(affines(), affines(), points)
def test_then_is_one_map_after_the_other(first, second, some):
    assert np.allclose(first.then(second).apply(some), second.apply(first.apply(some)))


@given(affines(), affines())
def test_the_inverse_of_two_maps_is_their_inverses_in_reverse(first, second):
    one, other = first.then(second).inverse, second.inverse.then(first.inverse)
    assert np.allclose(one.matrix, other.matrix, atol=1e-6)


@given(affines())
def test_identity_before_or_after_changes_nothing(affine):
    assert np.array_equal(affine.then(Affine.identity()).matrix, affine.matrix)
    assert np.array_equal(Affine.identity().then(affine).matrix, affine.matrix)


@given(st.integers(1, 5000), points)
def test_mirroring_twice_is_not_mirroring(width, some):
    assert np.array_equal(Affine.mirror(width).apply(Affine.mirror(width).apply(some)), some)


@given(st.integers(-360, 360), halves, halves)
def test_the_centre_of_a_rotation_stays(angle, x, y):
    assert np.allclose(Affine.rotation(angle, (x, y), 1.7).apply([x, y]), [x, y])


# --- pixels


@pytest.mark.parametrize("lit", [(23, 12), (18, 19), (25, 14)])
@pytest.mark.parametrize("name", MAPS)
def test_a_lit_pixel_stays_under_its_point(name, lit):
    warped = MAPS[name].warp(lit_image(*lit), (170, 130))
    assert brightness_centre(warped) == pytest.approx(MAPS[name].apply(lit), abs=0.1)


@pytest.mark.parametrize("lit", [(230, 120), (188, 197)])
@pytest.mark.parametrize("angle", [0, 20])
def test_a_lit_pixel_stays_under_its_point_where_the_image_shrinks(lit, angle):
    image = np.zeros((300, 400, 3), np.uint8)
    image[lit[1] - 4 : lit[1] + 5, lit[0] - 4 : lit[0] + 5] = 255  # a single one would go out
    affine = Affine.from_box([100, 50, 350, 250], (50, 40)).then(Affine.rotation(angle, (25, 20)))
    warped = affine.warp(image, (50, 40), antialias=True)
    assert brightness_centre(warped) == pytest.approx(affine.apply(lit), abs=0.1)


def test_the_identity_copies_the_image():
    image = noise(WIDTH, HEIGHT)
    assert np.array_equal(Affine.identity().warp(image, (WIDTH, HEIGHT)), image)


def test_a_window_of_the_target_size_is_cut_out_as_it_is():
    image = noise(WIDTH, HEIGHT)
    assert np.array_equal(
        Affine.from_box(WINDOW, (20, 20)).warp(image, (20, 20)), image[5:25, 15:35]
    )


def test_the_mirror_image_is_the_image_read_backwards():
    image = noise(WIDTH, HEIGHT)
    assert np.array_equal(Affine.mirror(WIDTH).warp(image, (WIDTH, HEIGHT)), image[:, ::-1])


# Factors whose samples lie at whole 32nds of a pixel: OpenCV before version 5 knows no others.
@pytest.mark.parametrize("size_wh", [(24, 32), (32, 32), (48, 64), (96, 64), (12, 16)])
def test_an_upright_box_looks_as_cv2_resize_makes_it(size_wh):
    image = noise(60, 50)
    resized = cv2.resize(image[5:37, 3:27], size_wh, interpolation=cv2.INTER_LINEAR)
    warped = Affine.from_box([3, 5, 27, 37], size_wh).warp(image, size_wh)
    # Close to the edge cv2.resize repeats the box's last pixels; the warp sees those beyond.
    inner = (slice(2, -2), slice(2, -2))
    assert np.abs(warped[inner].astype(int) - resized[inner]).max() <= 1


def test_outside_the_image_is_the_fill_colour_in_the_order_of_the_channels():
    image = np.full((HEIGHT, WIDTH, 3), 200, np.uint8)
    warped = Affine.from_box([-10, -10, 10, 10], (20, 20)).warp(image, (20, 20), fill=GREY)
    assert (warped[:10] == GREY).all()
    assert (warped[:, :10] == GREY).all()
    assert (warped[10:, 10:] == 200).all()


@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize(
    "box",
    [[-50, 0, -10, 30], [0, -50, 40, -9], [50, 0, 90, 30], [0, 40, 40, 90], [1e6, 0, 2e6, 30]],
)
def test_wholly_outside_the_image_there_is_nothing_but_fill(box, antialias):
    image = np.full((HEIGHT, WIDTH, 3), 200, np.uint8)
    warped = Affine.from_box(box, (8, 6)).warp(image, (8, 6), fill=GREY, antialias=antialias)
    assert warped.shape == (6, 8, 3)
    assert (warped == GREY).all()


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_any_number_of_channels_is_kept(channels):
    image = noise(WIDTH, HEIGHT, channels)
    fill = range(channels)
    inside = Affine.from_box(WINDOW, (20, 20)).warp(image, (20, 20), fill=fill)
    assert np.array_equal(inside, image[5:25, 15:35])
    outside = Affine.from_box([90, 90, 99, 99], (3, 2)).warp(image, (3, 2), fill=fill)
    assert outside.tolist() == [[[*fill]] * 3] * 2


@pytest.mark.parametrize("box", [WINDOW, [90, 90, 99, 99]])
@pytest.mark.parametrize("channels", [1, 3])
def test_what_is_written_over_is_what_a_new_array_would_be(box, channels):
    image, affine = noise(WIDTH, HEIGHT, channels), Affine.from_box(box, (8, 6))
    fill, several = range(channels), np.full((3, 6, 8, channels), 77, np.uint8)
    given = affine.warp(image, (8, 6), fill=fill, antialias=True, out=several[1])
    assert np.shares_memory(given, several)
    assert np.array_equal(several[1], affine.warp(image, (8, 6), fill=fill, antialias=True))
    assert (several[::2] == 77).all()


def test_the_image_itself_is_left_alone():
    image = noise(WIDTH, HEIGHT)
    before = image.copy()
    Affine.rotation(20, (5, 5), 0.3).warp(image, (30, 20), antialias=True)
    assert np.array_equal(image, before)


@pytest.mark.parametrize("scale", [0.5, 0.9, 1.0, 3.0])
def test_antialiasing_changes_nothing_unless_the_image_shrinks_by_more_than_two(scale):
    image = noise(60, 60)
    affine = Affine.rotation(10, (30, 30), scale + 0.01)
    plain, smooth = (affine.warp(image, (60, 60), antialias=on) for on in (False, True))
    assert np.array_equal(plain, smooth)


def test_antialiasing_averages_what_becomes_one_pixel():
    stripes = np.zeros((160, 160, 3), np.uint8)
    stripes[:, ::8] = 240  # one column in eight: 30 on average
    affine = Affine.from_box([0, 0, 160, 160], (20, 20))
    assert (affine.warp(stripes, (20, 20)) != 30).all()
    assert (affine.warp(stripes, (20, 20), antialias=True)[2:-2, 2:-2] == 30).all()


def test_antialiasing_loses_no_light():
    image = noise(240, 240)
    affine = Affine.from_box([0, 0, 240, 240], (30, 30))
    smooth = affine.warp(image, (30, 30), antialias=True)
    blocks = image.reshape(30, 8, 30, 8, 3).mean(axis=(1, 3))
    assert np.abs(smooth[1:-1, 1:-1] - blocks[1:-1, 1:-1]).max() <= 1


# OpenCV warps no images of 32,768 pixels and more.
@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize("lit", [(3, 2), (32_767, 1), (39_990, 2)])
def test_a_window_is_cut_from_an_image_of_any_width(lit, antialias):
    image = np.zeros((5, 40_000, 3), np.uint8)
    image[lit[1], lit[0]] = 255
    affine = Affine.from_box([lit[0] - 4, 0, lit[0] + 6, 5], (40, 20))
    warped = affine.warp(image, (40, 20), antialias=antialias)
    assert brightness_centre(warped) == pytest.approx(affine.apply(lit), abs=0.1)


def test_a_whole_image_of_any_width_can_be_shrunk():
    image = np.zeros((8, 40_000, 3), np.uint8)
    image[:, 20_000:] = 200
    warped = Affine.from_box([0, 0, 40_000, 8], (500, 1)).warp(image, (500, 1), antialias=True)
    assert (warped[0, 2:248] == 0).all()
    assert (warped[0, 252:498] > 0).all()


# --- what is refused


@pytest.mark.parametrize("box", [[3, 3, 3, 3], [0, 0, 5, 0], [5, 0, 0, 5]])
def test_a_box_without_area_cannot_be_stretched(box):
    with pytest.raises(ValueError, match="positive area"):
        Affine.from_box(box, (8, 8))


def test_a_map_that_flattens_the_plane_has_no_inverse():
    with pytest.raises(ValueError, match="no inverse"):
        _ = Affine(np.array([[1.0, 2.0, 0.0], [2.0, 4.0, 0.0]])).inverse


@pytest.mark.parametrize("matrix", [[], np.eye(3), np.eye(2), [[1, 0, np.nan], [0, 1, 0]]])
def test_a_matrix_of_another_shape_or_with_holes_is_refused(matrix):
    with pytest.raises(ValueError, match="matrix must"):
        Affine(matrix)


def test_the_matrix_cannot_be_changed_from_outside():
    source = np.eye(2, 3)
    affine = Affine(source)
    source[0, 2] = 9
    assert affine.apply([0, 0]).tolist() == [0, 0]
    with pytest.raises(ValueError, match="read-only"):
        affine.matrix[0, 0] = 2


def test_a_plan_says_what_a_warp_looks_at_and_how_far_it_averages():
    to_small = Affine.from_box([100, 200, 420, 440], (80, 60))
    plan = to_small.plan((1000, 800), (80, 60), antialias=True)
    left, top, right, bottom = plan.window
    assert left <= 100 < 420 <= right
    assert top <= 200 < 440 <= bottom
    assert (right - left, bottom - top) < (330, 250)  # no more than the edge needs
    assert plan.reduced_wh == ((right - left) // 4, (bottom - top) // 4)
    # The two steps together are the map: up to the rounding of the averaged size.
    seen = plan.to_target.apply([[plan.reduced_wh[0] / 2 - 0.5, plan.reduced_wh[1] / 2 - 0.5]])
    centre = to_small.apply([[(left + right) / 2 - 0.5, (top + bottom) / 2 - 0.5]])
    assert seen == pytest.approx(centre)
    plain = to_small.plan((1000, 800), (80, 60))
    assert plain.reduced_wh == (right - left, bottom - top)
    assert to_small.plan((90, 90), (80, 60)) is None


@pytest.mark.parametrize(
    ("box", "image_wh", "window_wh"),
    [
        ([100, 200, 421, 441], (1000, 800), (328, 248)),  # longer at the right and at the bottom
        ([678.5, 558.5, 999.5, 799.5], (1000, 800), (324, 244)),  # at the left and at the top
        ([0, 0, 1000, 800], (1000, 800), (1000, 800)),
        ([2, 2, 998, 798], (999, 800), (999, 800)),  # no room for the 12 * 84 columns needed
    ],
)
def test_what_is_averaged_is_whole_blocks_where_the_image_has_room(box, image_wh, window_wh):
    to_small = Affine.from_box(box, (80, 60))
    left, top, right, bottom = to_small.plan(image_wh, (80, 60), antialias=True).window
    shown = to_small.plan(image_wh, (80, 60)).window
    assert (right - left, bottom - top) == window_wh
    assert 0 <= left <= shown[0] < shown[2] <= right <= image_wh[0]
    assert 0 <= top <= shown[1] < shown[3] <= bottom <= image_wh[1]


def test_each_channel_is_warped_as_it_would_be_alone():
    image = np.random.default_rng(5).integers(0, 256, (90, 70, 3), np.uint8)
    for scale in (1.3, 0.4):  # in which blocks of two pixels are averaged
        to_target = Affine.rotation(20, (30, 40), scale=scale)
        together = to_target.warp(image, (64, 48), fill=(10, 20, 30), antialias=True)
        for channel, level in enumerate((10, 20, 30)):
            one = image[..., channel, None]
            alone = to_target.warp(one, (64, 48), fill=[level], antialias=True)
            assert np.array_equal(together[..., channel], alone.reshape(48, 64))
