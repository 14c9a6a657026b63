"""Crops: nothing distorted, nothing lost, and every pixel knows where it came from."""

from __future__ import annotations

import cv2
import msgspec
import numpy as np
import pytest
import torch
from builders import detections
from hypothesis import given
from hypothesis import strategies as st

from posepipe.core.affine import Affine
from posepipe.pose.crops import PreprocessingTable, crop_windows, cut_crops, network_input
from posepipe.recipe import Recipe, RecipeError

PORTRAIT = PreprocessingTable(input_size_wh=(192, 256))
PLAIN = PreprocessingTable(input_size_wh=(96, 128), margins_xy=(0.0, 0.0), antialias=False)


def smooth_picture(width=300, height=200):
    """Colours that change slowly, so that resampling is nearly exact."""
    rows, columns = np.mgrid[:height, :width]
    planes = [columns * 255 / width, rows * 255 / height, 127 + 100 * np.sin((columns + rows) / 40)]
    return np.stack(planes, axis=-1).astype(np.uint8)


# --- windows


@pytest.mark.parametrize(
    ("box", "margins", "expected"),
    [
        ([], (0.1, 0.15), []),
        ([[0, 0, 30, 40]], (0, 0), [[0, 0, 30, 40]]),
        ([[0, 0, 30, 20]], (0, 0), [[0, -10, 30, 30]]),
        ([[0, 0, 10, 40]], (0, 0), [[-10, 0, 20, 40]]),
        ([[0, 0, 50, 100]], (0.1, 0.15), [[25 - 48.75, -15, 25 + 48.75, 115]]),
        ([[5, 5, 5, 5]], (0, 0), [[4.5, 5 - 2 / 3, 5.5, 5 + 2 / 3]]),
        ([[5, 0, 5, 40]], (0, 0), [[-10, 0, 20, 40]]),
    ],
)
def test_windows_by_hand(box, margins, expected):
    windows = crop_windows(box, margins, 0.75)
    assert windows == pytest.approx(np.reshape(expected, (-1, 4)))


@given(
    st.lists(st.integers(-500, 500), min_size=4, max_size=4), st.sampled_from([0.75, 1.0, 72 / 96])
)
def test_every_window_has_the_crops_shape_and_holds_its_box(numbers, aspect_wh):
    x1, x2 = sorted(numbers[:2])
    y1, y2 = sorted(numbers[2:])
    [window] = crop_windows([[x1, y1, x2, y2]], (0.1, 0.15), aspect_wh)
    width, height = window[2:] - window[:2]
    assert height > 0
    assert width / height == pytest.approx(aspect_wh)
    assert (window[:2] <= [x1, y1]).all()
    assert (window[2:] >= [x2, y2]).all()
    assert (window[:2] + window[2:]) / 2 == pytest.approx([(x1 + x2) / 2, (y1 + y2) / 2])


# --- crops


def test_nobody_gives_no_crops():
    crops = cut_crops(smooth_picture(), detections(boxes_xyxy=[]), PORTRAIT)
    assert len(crops) == 0
    assert crops.pixels.shape == (0, 256, 192, 3)
    assert crops.to_image.shape == (0, 2, 3)


@pytest.mark.parametrize("box", [[30, 20, 90, 100], [100, 30, 196, 158], [150, 90, 174, 122]])
def test_crops_equal_those_that_opencv_resizes(box):
    image = smooth_picture()
    [pixels] = cut_crops(image, detections(boxes_xyxy=[box]), PLAIN).pixels
    x1, y1, x2, y2 = box
    resized = cv2.resize(image[y1:y2, x1:x2], (96, 128), interpolation=cv2.INTER_LINEAR)
    # cv2.resize sees nothing beyond the box: its outermost pixels differ.
    assert np.abs(pixels[3:-3, 3:-3].astype(int) - resized[3:-3, 3:-3]).max() <= 2


def test_a_window_as_large_as_the_crop_is_copied():
    image = smooth_picture()
    [pixels] = cut_crops(image, detections(boxes_xyxy=[[40, 50, 136, 178]]), PLAIN).pixels
    assert np.array_equal(pixels, image[50:178, 40:136])


@pytest.mark.parametrize("box", [[130, 70, 150, 110], [120, 60, 180, 90], [139, 79, 143, 84]])
def test_a_lit_pixel_is_found_where_to_image_says(box):
    image = np.zeros((200, 300, 3), np.uint8)
    image[81, 141] = 255
    crops = cut_crops(image, detections(boxes_xyxy=[[0, 0, 30, 40], box]), PORTRAIT)
    weights = crops.pixels[1, ..., 0].astype(float)
    weights[(crops.pixels[1] == PORTRAIT.fill).all(axis=-1)] = 0
    rows, columns = np.indices(weights.shape)
    centre = [(weights * columns).sum() / weights.sum(), (weights * rows).sum() / weights.sum()]
    assert Affine(crops.to_image[1]).apply(centre) == pytest.approx([141, 81], abs=0.05)


def test_the_corners_of_a_crop_are_those_of_its_window():
    crops = cut_crops(smooth_picture(), detections(boxes_xyxy=[[30, 20, 90, 100]]), PLAIN)
    corners = Affine(crops.to_image[0]).apply([[-0.5, -0.5], [95.5, 127.5]])
    assert corners == pytest.approx(np.array([[29.5, 19.5], [89.5, 99.5]]))


def test_people_are_not_distorted():
    boxes = [[30, 20, 90, 40], [10, 10, 20, 190], [50, 50, 50, 50]]
    crops = cut_crops(smooth_picture(), detections(boxes_xyxy=boxes), PORTRAIT)
    assert crops.to_image[:, 0, 0] == pytest.approx(crops.to_image[:, 1, 1])
    assert (crops.to_image[:, 0, 1] == 0).all()
    assert (crops.to_image[:, 1, 0] == 0).all()


@pytest.mark.parametrize(
    "box",
    [[-400, -300, -350, -200], [300, 0, 340, 90], [0, 200, 90, 300], [5000, 5000, 5000, 5000]],
)
def test_a_box_outside_the_picture_shows_the_mean_colour(box):
    [pixels] = cut_crops(smooth_picture(), detections(boxes_xyxy=[box]), PLAIN).pixels
    share = (pixels == PLAIN.fill).all(axis=-1).mean()
    assert share > 0.6  # the window of a lying box reaches into the picture again


@pytest.mark.parametrize("box", [[7, 7, 7, 7], [0, 0, 0, 40], [299.9, 10, 300, 10]])
def test_a_box_without_area_gives_a_crop_all_the_same(box):
    crops = cut_crops(smooth_picture(), detections(boxes_xyxy=[box]), PORTRAIT)
    assert crops.pixels.shape == (1, 256, 192, 3)
    assert np.isfinite(crops.to_image).all()


def test_a_person_alone_and_among_others_looks_the_same():
    boxes = [[30, 20, 90, 100], [-10, 0, 120, 180], [100, 100, 101, 102]]
    image = smooth_picture()
    together = cut_crops(image, detections(boxes_xyxy=boxes), PORTRAIT)
    for n, box in enumerate(boxes):
        alone = cut_crops(image, detections(boxes_xyxy=[box]), PORTRAIT)
        assert np.array_equal(alone.pixels[0], together.pixels[n])
        assert np.array_equal(alone.to_image[0], together.to_image[n])


# --- network input


@pytest.mark.parametrize("order", ["rgb", "bgr"])
def test_the_network_sees_normalised_channels_in_its_own_order(order):
    table = msgspec.structs.replace(
        PLAIN, colour_order=order, mean=(10.0, 20.0, 30.0), std=(1.0, 2.0, 4.0)
    )
    pixels = torch.tensor([110, 120, 130], dtype=torch.uint8).expand(2, 8, 4, 3)
    images = network_input(pixels, table)
    seen = [100, 50, 25] if order == "rgb" else [(130 - 10) / 1, (120 - 20) / 2, (110 - 30) / 4]
    assert images.shape == (2, 3, 8, 4)
    assert images.dtype == torch.float32
    assert images[1, :, 3, 2].tolist() == seen
    assert images.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("size", [[0, 64], [192, 250], [-32, 64]])
def test_an_input_size_that_no_pyramid_divides_is_an_error_of_the_recipe(size, tmp_path):
    recipe = Recipe("odd", tmp_path, {"preprocessing": {"input_size_wh": size}})
    with pytest.raises(RecipeError, match=r"\[preprocessing\].*multiples of 32"):
        recipe.table("preprocessing", PreprocessingTable)
