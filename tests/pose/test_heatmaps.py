"""Heatmaps: encoding and decoding undo each other; decoding as the paper and its code do it."""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from posepipe.core.skeleton import COCO_PERSON
from posepipe.pose.heatmaps import (
    DecodingTable,
    decode,
    encode,
    encode_blurred_cell,
    mirror_back,
)
from posepipe.zoo.recipe import Recipe, RecipeError, load_recipe

# Numbers of both public CPN code bases: a few of them here, all of them beside the checkout.
OURS = Path(__file__).parent / "golden"
SHARED = Path(__file__).parents[2] / "../shared/golden"
DECODED = (OURS, SHARED / "decode")
TARGETS = (OURS / "targets.npz", SHARED / "targets" / "targets.npz")
CODE_BASES = DecodingTable(amplitude=255, confidence_offset=0.5, clamp_confidence=False)
SHARP = DecodingTable(blur_kernel=1, quarter_offset=False)


def there(file):
    """The file; a test that needs it skips without it."""
    if not file.is_file():
        pytest.skip("no ../shared/golden beside the checkout")
    return file


def random_maps(people, shape_hw=(24, 18), seed=0):
    """Blobs on noise as a network gives them: (people, 17, h, w), peaks of about 1."""
    generator = torch.Generator().manual_seed(seed)
    height, width = shape_hw
    points = torch.rand(people, 17, 2, generator=generator) * torch.tensor(
        [4.0 * width, 4.0 * height]
    )
    blobs = encode(points, shape_hw, stride=4, sigma=1.7, amplitude=1.0)
    return blobs + 0.05 * torch.randn(people, 17, height, width, generator=generator)


def decoded_by_a_loop(heatmap, table):
    """One map's point and confidence, step by step as CONVENTIONS-OF-EARLIER-CODE.md lists them."""
    height, width = heatmap.shape
    normalised = heatmap / heatmap.max()
    radius = table.blur_kernel // 2
    padded = np.zeros((height + 2 * radius, width + 2 * radius))
    padded[radius : radius + height, radius : radius + width] = normalised
    if radius:
        # OpenCV's own rule, spelt out: left to itself it takes fixed tables for kernels up to 7.
        sigma = 0.3 * ((table.blur_kernel - 1) * 0.5 - 1) + 0.8
        padded = cv2.GaussianBlur(padded, (table.blur_kernel, table.blur_kernel), sigma)
    first_y, first_x = np.unravel_index(padded.argmax(), padded.shape)
    padded[first_y, first_x] = 0
    second_y, second_x = np.unravel_index(padded.argmax(), padded.shape)
    x, y = float(first_x - radius), float(first_y - radius)
    distance = math.hypot(second_x - first_x, second_y - first_y)
    if table.quarter_offset and distance > 0:
        x += 0.25 * (second_x - first_x) / distance
        y += 0.25 * (second_y - first_y) / distance
    x, y = min(max(x, 0), width - 1), min(max(y, 0), height - 1)
    confidence = heatmap[round(y), round(x)] / table.amplitude + table.confidence_offset
    # The centre of a cell that covers 4 pixels is 1.5 pixels from its first one.
    return (4 * x + 1.5, 4 * y + 1.5), confidence


# --- there and back


@settings(max_examples=60, deadline=None)
@given(st.floats(60, 90), st.floats(60, 120), st.sampled_from([1, 5, 21]))
def test_a_keypoint_comes_back_within_half_a_cell(x, y, kernel):
    point = torch.tensor([[[x, y]]])  # far from the border, which pulls at wide filters
    maps = encode(point, (48, 36), stride=4, sigma=1.7, amplitude=1.0)
    found = decode(maps, DecodingTable(blur_kernel=kernel))
    # The quarter offset goes along one axis or a diagonal: what is left is less than half a cell.
    assert (found.points_xy - point).abs().max() <= 2.0


@pytest.mark.parametrize(
    "name",
    ["resnet50-256x192", *(f"resnet50-dilated-res{which}-256x192" for which in (5, 45, 345))],
)
def test_a_keypoint_comes_back_within_a_cell_of_any_stride(name):
    table = load_recipe(name).table("decoding", DecodingTable)
    stride, sigma = table.stride, 1.4 if table.stride == 4 else 0.7
    generator = torch.Generator().manual_seed(0)
    points = torch.rand(40, 17, 2, generator=generator) * torch.tensor([128.0, 192.0]) + 32
    maps = encode(points, (256 // stride, 192 // stride), stride=stride, sigma=sigma, amplitude=1)
    found = decode(maps, table)
    errors = (found.points_xy - points).norm(dim=-1)
    assert errors.max() < 0.75 * stride  # of a cell's middle its corner is 0.71 strides away
    assert errors.mean() < 0.4 * stride
    assert found.confidences.min() > 0.5


@pytest.mark.parametrize("kernel", [1, 5, 21])
def test_the_quarter_offset_makes_decoding_more_precise(kernel):
    points = 10 + 50 * torch.rand(40, 17, 2, generator=torch.Generator().manual_seed(1))
    maps = encode(points, (20, 20), stride=4, sigma=1.7, amplitude=1.0)
    with_it, without = (
        (
            decode(maps, DecodingTable(blur_kernel=kernel, quarter_offset=on)).points_xy - points
        ).norm(dim=-1)
        for on in (True, False)
    )
    assert with_it.mean() < 0.75 * without.mean()
    assert with_it.mean() < 1.2  # pixels; a cell has four


@pytest.mark.parametrize("cell", [(0, 0), (17, 23), (5, 11)])
def test_a_lit_cell_is_the_middle_of_the_pixels_it_covers(cell):
    maps = torch.zeros(1, 1, 24, 18)
    maps[0, 0, cell[1], cell[0]] = 0.8
    found = decode(maps, SHARP)
    covered = np.array([[4 * c, 4 * c + 3] for c in cell])  # first and last pixel, per axis
    assert found.points_xy[0, 0].tolist() == covered.mean(axis=1).tolist()
    assert found.confidences.item() == pytest.approx(0.8)


def test_a_target_peaks_with_its_amplitude_at_the_keypoint():
    maps = encode(torch.tensor([[[21.5, 41.5]]]), (24, 18), stride=4, sigma=2.0, amplitude=255.0)
    assert maps.shape == (1, 1, 24, 18)
    assert maps[0, 0, 10, 5] == 255
    assert maps[0, 0, 10, 7].item() == pytest.approx(255 * math.exp(-0.5), rel=1e-5)
    assert maps[0, 0, 14, 5].item() == pytest.approx(255 * math.exp(-2), rel=1e-5)


def test_a_keypoint_far_outside_leaves_its_target_dark():
    maps = encode(torch.tensor([[[-100.0, 900.0]]]), (24, 18), stride=4, sigma=2.0, amplitude=1.0)
    assert maps.max() < 1e-6


# --- the targets of the public CPN code bases


def test_no_people_have_no_blurred_cells():
    maps = encode_blurred_cell(torch.zeros(0, 17, 2), (8, 6), stride=4, kernel=7, amplitude=1.0)
    assert maps.shape == (0, 17, 8, 6)


def test_a_cell_is_lit_and_blurred():
    # -0.5 is the crop's edge: the cell (2, 5) reaches from 7.5 to 11.5 and from 19.5 to 23.5.
    for point in ([7.5, 19.5], [11.4, 23.4]):
        points = torch.tensor([[point]])
        [[heatmap]] = encode_blurred_cell(points, (12, 9), stride=4, kernel=3, amplitude=8.0)
        assert heatmap[5, 2] == 8
        assert heatmap[4:7, 1:4].tolist() == [[2, 4, 2], [4, 8, 4], [2, 4, 2]]
        assert heatmap.count_nonzero() == 9


def test_the_brightest_cell_moves_to_a_border_near_by():
    [[heatmap]] = encode_blurred_cell(
        torch.tensor([[[5.5, 21.5]]]), (12, 9), stride=4, kernel=7, amplitude=255.0
    )
    assert heatmap.argmax().item() == 5 * 9
    assert 200 < heatmap[5, 1] < heatmap[5, 0] == 255


@pytest.mark.parametrize("point", [[-0.6, 10], [10, -0.6], [35.5, 10], [10, 47.5], [-1e6, -1e6]])
def test_a_keypoint_outside_lights_nothing(point):
    maps = encode_blurred_cell(
        torch.tensor([[point]]), (12, 9), stride=4, kernel=7, amplitude=255.0
    )
    assert not maps.any()


def test_a_map_smaller_than_the_filter_is_as_opencv_blurs_it():
    lit = np.zeros((3, 2))
    lit[2, 0] = 1
    expected = cv2.GaussianBlur(lit, (11, 11), 0)
    point = torch.tensor([[[1.5, 9.5]]], dtype=torch.float64)
    maps = encode_blurred_cell(point, (3, 2), stride=4, kernel=11, amplitude=1.0)
    assert maps[0, 0].numpy() == pytest.approx(expected / expected.max())


@pytest.mark.parametrize("kernel", [0, 4])
def test_a_filter_has_a_middle(kernel):
    with pytest.raises(ValueError, match=f"odd and positive, got {kernel}"):
        encode_blurred_cell(torch.zeros(1, 1, 2), (8, 6), stride=4, kernel=kernel, amplitude=1.0)


@pytest.mark.parametrize("file", TARGETS, ids=("ours", "shared"))
@pytest.mark.parametrize(
    ("size", "kernel", "suffix"),
    [
        *(("256x192", kernel, "") for kernel in (15, 11, 9, 7)),
        *(("384x288", kernel, "") for kernel in (23, 17, 13, 9)),
        ("256x192", 9, "_formula"),
        ("384x288", 9, "_formula"),
    ],
)
def test_blurred_cells_equal_both_public_code_bases(size, kernel, suffix, file):
    golden = np.load(there(file))
    keypoints, valid = golden[f"keypoints_{size}"], golden[f"valid_{size}"]
    points = keypoints[..., :2].astype(np.float64)
    points[keypoints[..., 2] == 0] = -1e6  # as they do with what is not labelled
    expected = golden[f"pc_{size}_k{kernel}{suffix}"]
    found = encode_blurred_cell(
        torch.from_numpy(points) - 0.5,  # their points count from the first pixel's corner
        expected.shape[-2:],
        stride=4,
        kernel=kernel,
        amplitude=255.0,
        sigma=1.7 if suffix else None,
    ).numpy()
    assert np.abs(found - expected).max() < 1e-4
    if not suffix:  # the other one lights a border cell for some points outside
        theirs = golden[f"tf_{size}_k{kernel}"]
        assert np.abs(found - theirs)[valid > 0].max() < 1e-4


# --- decoding


@pytest.mark.parametrize("quarter_offset", [True, False])
@pytest.mark.parametrize("kernel", [1, 5, 21])
def test_decoding_equals_a_loop_over_single_maps(kernel, quarter_offset):
    table = msgspec.structs.replace(CODE_BASES, blur_kernel=kernel, quarter_offset=quarter_offset)
    maps = 255 * random_maps(3)
    found = decode(maps, table)
    for n in range(3):
        for k in range(17):
            point, confidence = decoded_by_a_loop(maps[n, k].double().numpy(), table)
            assert found.points_xy[n, k].tolist() == pytest.approx(point, abs=1e-4)
            assert found.confidences[n, k].item() == pytest.approx(confidence, abs=1e-5)


@pytest.mark.parametrize("folder", DECODED, ids=("ours", "shared"))
def test_decoding_equals_both_public_code_bases(folder):
    inputs = np.load(there(folder / "inputs_256x192.npz"))
    expected = np.load(folder / "expected_256x192.npz")
    plain, mirrored = torch.from_numpy(inputs["maps_x4"].astype(np.float32) / 4)
    found = decode((plain + mirror_back(mirrored, COCO_PERSON.mirrored)) / 2, CODE_BASES)
    crop = inputs["crop"].astype(np.float64)
    size_wh = (crop[:, 2:] - crop[:, :2])[:, None]
    # The code bases put a cell's point half a pixel on: (4x + 2) / 192 of the window.
    in_image = (found.points_xy.numpy() + 0.5) / [192, 256] * size_wh + crop[:, None, :2]
    # A search that was won by less than float32's rounding may end elsewhere.
    certain = (expected["first_margin"] >= 1e-5) & (expected["second_margin"] >= 1e-5)
    assert certain.mean() > 0.88
    assert np.abs(in_image - expected["xy"])[certain].max() < 0.01
    assert np.abs(found.confidences.numpy() - expected["conf"])[certain].max() < 1e-4


def test_no_crops_have_no_keypoints():
    found = decode(torch.zeros(0, 17, 24, 18), DecodingTable())
    assert found.points_xy.shape == (0, 17, 2)
    assert found.confidences.shape == (0, 17)


@pytest.mark.parametrize("kernel", [1, 21])
def test_a_map_of_zeros_gives_a_point_in_the_crop_and_no_confidence(kernel):
    found = decode(torch.zeros(2, 17, 24, 18), DecodingTable(blur_kernel=kernel))
    assert torch.isfinite(found.points_xy).all()
    assert (found.points_xy >= 0).all()
    assert (found.points_xy < torch.tensor([72, 96])).all()
    assert (found.confidences == 0).all()


@pytest.mark.parametrize("sign", [1, -1])
def test_points_never_leave_the_crop(sign):
    maps = torch.full((1, 17, 24, 18), -0.2)
    maps[:, :, 0, 0] = maps[:, :, 23, 17] = sign * 0.1
    found = decode(maps, DecodingTable())
    assert (found.points_xy >= 1.5).all()
    assert (found.points_xy <= torch.tensor([69.5, 93.5])).all()


@pytest.mark.parametrize(("clamp", "expected"), [(True, [0.0, 1.0]), (False, [-0.7, 1.7])])
def test_confidences_are_clamped_if_the_recipe_says_so(clamp, expected):
    maps = torch.full((1, 2, 8, 8), -0.7)
    maps[0, 1, 4, 4] = 1.7
    table = msgspec.structs.replace(SHARP, clamp_confidence=clamp)
    assert decode(maps, table).confidences[0].tolist() == pytest.approx(expected)


def test_the_confidence_is_the_unfiltered_peak_in_the_recipes_units():
    maps = torch.zeros(1, 1, 24, 18)
    maps[0, 0, 9, 8] = 51.0
    table = DecodingTable(amplitude=255.0, confidence_offset=0.25)
    assert decode(maps, table).confidences.item() == pytest.approx(0.45)


def test_a_crop_alone_and_among_others_gives_the_same_numbers():
    maps = random_maps(5)
    together = decode(maps, DecodingTable())
    for n in range(5):
        alone = decode(maps[n : n + 1], DecodingTable())
        assert torch.equal(alone.points_xy[0], together.points_xy[n])
        assert torch.equal(alone.confidences[0], together.confidences[n])


def test_decoding_leaves_the_heatmaps_alone():
    maps = random_maps(1)
    before = maps.clone()
    decode(maps, DecodingTable(blur_kernel=1))
    assert torch.equal(maps, before)


def test_half_precision_heatmaps_are_decoded_too():
    found = decode(random_maps(1).bfloat16(), DecodingTable())
    assert found.points_xy.dtype == found.confidences.dtype == torch.float32


@pytest.mark.parametrize("kernel", [0, -3, 4])
def test_an_even_or_no_blur_kernel_is_an_error_of_the_recipe(kernel, tmp_path):
    recipe = Recipe("odd", tmp_path, {"decoding": {"blur_kernel": kernel}})
    with pytest.raises(RecipeError, match=r"\[decoding\].*blur_kernel must be odd"):
        recipe.table("decoding", DecodingTable)


# --- mirror images


def test_mirroring_back_twice_changes_nothing():
    maps = random_maps(2)
    twice = mirror_back(mirror_back(maps, COCO_PERSON.mirrored), COCO_PERSON.mirrored)
    assert torch.equal(twice, maps)


def test_mirroring_back_moves_a_left_wrist_to_the_right_wrist_on_the_other_side():
    left, right = (COCO_PERSON.keypoints.index(f"{side}_wrist") for side in ("left", "right"))
    maps = torch.zeros(1, 17, 6, 8)
    maps[0, left, 2, 1] = 1.0
    back = mirror_back(maps, COCO_PERSON.mirrored)
    assert back.nonzero().tolist() == [[0, right, 2, 6]]


def test_decoding_a_mirrored_map_gives_mirrored_points():
    maps = random_maps(3)
    plain, mirrored = decode(maps, DecodingTable()), decode(maps.flip(-1), DecodingTable())
    width = 4 * maps.shape[-1]
    assert torch.allclose(
        mirrored.points_xy[..., 0], width - 1 - plain.points_xy[..., 0], atol=1e-4
    )
    assert torch.allclose(mirrored.points_xy[..., 1], plain.points_xy[..., 1], atol=1e-4)
    assert torch.allclose(mirrored.confidences, plain.confidences)
