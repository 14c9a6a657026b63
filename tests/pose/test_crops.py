"""Crops: nothing distorted, nothing lost, and every pixel knows where it came from."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest
import torch
from builders import detections
from hypothesis import given
from hypothesis import strategies as st

from posepipe.core.affine import Affine
from posepipe.pose.crops import (
    PreprocessingTable,
    crop_windows,
    cut_crops,
    whole_pixel_windows,
)
from posepipe.zoo.recipe import Recipe, RecipeError

GOLDEN = Path(__file__).parents[2] / "../shared/golden/crop"
PORTRAIT = PreprocessingTable(input_size_wh=(192, 256))
PLAIN = PreprocessingTable(input_size_wh=(96, 128), margins_xy=(0.0, 0.0), antialias=False)


def smooth_image(width=300, height=200):
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


# --- windows of whole pixels, and what the public CPN code bases make of them


def test_whole_pixel_windows_of_nobody():
    assert whole_pixel_windows([], (0.1, 0.15), (192, 256), (640, 480)).shape == (0, 4)


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ([30, 40, 60, 80], [30, 40, 60, 80]),  # of the crop's shape
        ([30.9, 40.9, 60.2, 80.1], [30, 40, 60, 80]),
        ([-30, -40, 0, 0], [-30, -40, 0, 0]),
        ([-0.5, -0.5, 29.5, 39.5], [-1, -1, 29, 39]),
        ([20, 10, 20, 10], [20, 10, 21, 11]),
        ([900, 900, 930, 940], [915, 920, 916, 921]),  # beyond the widened image
    ],
)
def test_whole_pixel_windows_by_hand(box, expected):
    [window] = whole_pixel_windows([box], (0, 0), (96, 128), (100, 100))
    assert window.tolist() == expected


def test_an_enormous_box_has_a_window_inside_the_widened_image():
    [window] = whole_pixel_windows([[-900, -900, 1000, 1000]], (0, 0), (96, 96), (100, 100))
    assert window.tolist() == [-100, -100, 199, 199]


def code_base_image(number, height, width):
    """(height, width, 3) uint8 BGR: the golden crops' images, as their README defines them."""
    y, x = np.mgrid[:height, :width]
    planes = []
    for c in range(3):
        a = (3 * x + (c + 2) * y + x * y // 97 + 61 * number + 40 * c) % 512
        b = ((7 - c) * x - 5 * y + x * x // 211 + y * y // 173 + 29 * number + 90 * c) % 512
        planes.append((2 * np.minimum(a, 511 - a) + np.minimum(b, 511 - b)) // 3)
    return np.stack(planes, axis=-1).astype(np.uint8)


def sha256(array):
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


@pytest.mark.skipif(not GOLDEN.is_dir(), reason="no ../shared/golden/crop beside the checkout")
@pytest.mark.parametrize("height", [256, 384])
def test_windows_and_pixels_are_those_of_both_public_code_bases(height):
    facts = json.loads((GOLDEN / "crop.json").read_text(encoding="utf-8"))
    arrays = np.load(GOLDEN / "crop.npz")
    images = []
    for number, image in enumerate(facts["images"]):
        images.append(code_base_image(number, image["height"], image["width"]))
        assert sha256(images[-1]) == image["sha256_uint8_hwc_bgr"]
    rgb = PreprocessingTable(
        input_size_wh=(height * 3 // 4, height),
        mean=(122.7717, 115.9465, 102.9801),
        std=(255.0, 255.0, 255.0),
        antialias=False,
        window="whole_pixels",
    )
    bgr = msgspec.structs.replace(rgb, colour_order="bgr", mean=(102.9801, 115.9465, 122.7717))
    expected = facts[str(height)]
    for person, (number, x, y, w, h) in enumerate(facts["boxes_image_x_y_w_h"]):
        image = np.ascontiguousarray(images[number][..., ::-1])
        found = detections(boxes_xyxy=[[x, y, x + w, y + h]])
        size_wh = (image.shape[1], image.shape[0])
        [window] = whole_pixel_windows(found.boxes_xyxy, (0.1, 0.15), rgb.input_size_wh, size_wh)
        assert window.tolist() == expected["details_x0_y0_x1_y1"][person]
        # Its evaluation with labelled boxes cuts their corners to whole numbers first.
        corners = np.trunc([[x, y, x + w, y + h]])
        [window] = whole_pixel_windows(corners, (0.1, 0.15), rgb.input_size_wh, size_wh)
        assert window.tolist() == arrays[f"pc_truncated_box_details_{height}"][person].tolist()
        pixels = cut_crops(image, found, rgb).pixels
        digest = sha256(pixels[0][..., ::-1])
        assert digest == expected["crop_sha256_uint8_hwc_bgr"][person]
        for table, name in ((rgb, "pc"), (bgr, "tf")):
            tensor = table.normalisation(torch.from_numpy(pixels))[0, :, ::16, ::16].numpy()
            golden = arrays[f"{name}_tensor_{height}_stride16"][person]
            assert np.abs(tensor - golden).max() < 1e-6


def test_a_window_of_whole_pixels_is_cut_out_as_it_is_where_it_has_the_crops_size():
    image = smooth_image()
    table = msgspec.structs.replace(PLAIN, window="whole_pixels", fill=(1, 2, 3))
    crops = cut_crops(image, detections(boxes_xyxy=[[-10, 100, 86, 228]]), table)
    assert (crops.pixels[0, :100, 10:] == image[100:200, :86]).all()
    assert (crops.pixels[0, :, :10] == (1, 2, 3)).all()
    assert (crops.pixels[0, 100:] == (1, 2, 3)).all()
    assert crops.to_image[0].tolist() == [[1, 0, -10], [0, 1, 100]]


@pytest.mark.parametrize("window", ["exact", "whole_pixels"])
def test_keypoints_counted_from_a_pixels_corner_have_half_a_pixel_more(window):
    here = msgspec.structs.replace(PLAIN, window=window)
    there = msgspec.structs.replace(here, keypoint_origin="pixel_corner")
    image, found = smooth_image(), detections(boxes_xyxy=[[30.3, 20.2, 90.1, 100.9]])
    difference = cut_crops(image, found, there).to_image - cut_crops(image, found, here).to_image
    assert difference[0] == pytest.approx(np.array([[0, 0, 0.5], [0, 0, 0.5]]))


# --- crops


def test_nobody_gives_no_crops():
    crops = cut_crops(smooth_image(), detections(boxes_xyxy=[]), PORTRAIT)
    assert len(crops) == 0
    assert crops.pixels.shape == (0, 256, 192, 3)
    assert crops.to_image.shape == (0, 2, 3)


@pytest.mark.parametrize("box", [[30, 20, 90, 100], [100, 30, 196, 158], [150, 90, 174, 122]])
def test_crops_equal_those_that_opencv_resizes(box):
    image = smooth_image()
    [pixels] = cut_crops(image, detections(boxes_xyxy=[box]), PLAIN).pixels
    x1, y1, x2, y2 = box
    resized = cv2.resize(image[y1:y2, x1:x2], (96, 128), interpolation=cv2.INTER_LINEAR)
    # cv2.resize sees nothing beyond the box: its outermost pixels differ.
    assert np.abs(pixels[3:-3, 3:-3].astype(int) - resized[3:-3, 3:-3]).max() <= 2


def test_a_window_as_large_as_the_crop_is_copied():
    image = smooth_image()
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
    crops = cut_crops(smooth_image(), detections(boxes_xyxy=[[30, 20, 90, 100]]), PLAIN)
    corners = Affine(crops.to_image[0]).apply([[-0.5, -0.5], [95.5, 127.5]])
    assert corners == pytest.approx(np.array([[29.5, 19.5], [89.5, 99.5]]))


def test_people_are_not_distorted():
    boxes = [[30, 20, 90, 40], [10, 10, 20, 190], [50, 50, 50, 50]]
    crops = cut_crops(smooth_image(), detections(boxes_xyxy=boxes), PORTRAIT)
    assert crops.to_image[:, 0, 0] == pytest.approx(crops.to_image[:, 1, 1])
    assert (crops.to_image[:, 0, 1] == 0).all()
    assert (crops.to_image[:, 1, 0] == 0).all()


@pytest.mark.parametrize(
    "box",
    [[-400, -300, -350, -200], [300, 0, 340, 90], [0, 200, 90, 300], [5000, 5000, 5000, 5000]],
)
def test_a_box_outside_the_image_shows_the_mean_colour(box):
    [pixels] = cut_crops(smooth_image(), detections(boxes_xyxy=[box]), PLAIN).pixels
    share = (pixels == PLAIN.fill).all(axis=-1).mean()
    assert share > 0.6  # the window of a lying box reaches into the image again


@pytest.mark.parametrize("box", [[7, 7, 7, 7], [0, 0, 0, 40], [299.9, 10, 300, 10]])
def test_a_box_without_area_gives_a_crop_all_the_same(box):
    crops = cut_crops(smooth_image(), detections(boxes_xyxy=[box]), PORTRAIT)
    assert crops.pixels.shape == (1, 256, 192, 3)
    assert np.isfinite(crops.to_image).all()


def test_a_person_alone_and_among_others_looks_the_same():
    boxes = [[30, 20, 90, 100], [-10, 0, 120, 180], [100, 100, 101, 102]]
    image = smooth_image()
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
    images = table.normalisation(pixels)
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
