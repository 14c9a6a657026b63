"""Drawings: the image given stays as it is, and each pixel says what it should."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from posepipe.core.boxes import Detections
from posepipe.core.poses import Poses
from posepipe.core.skeleton import COCO_PERSON, Skeleton
from posepipe.drawing.draw import draw_detections, draw_poses
from posepipe.drawing.style import DrawStyle
from posepipe.errors import ImageError, OptionError

INDEX = {name: index for index, name in enumerate(COCO_PERSON.keypoints)}
BARE = DrawStyle(boxes=False, scores=False, opacity=1.0)

# A person who faces us, 200 x 400 pixels: the person's left is on the image's right.
FACING = {
    "nose": (100, 40),
    "left_eye": (110, 30),
    "right_eye": (90, 30),
    "left_ear": (130, 40),
    "right_ear": (70, 40),
    "left_shoulder": (150, 100),
    "right_shoulder": (50, 100),
    "left_elbow": (180, 170),
    "right_elbow": (20, 170),
    "left_wrist": (190, 240),
    "right_wrist": (10, 240),
    "left_hip": (130, 240),
    "right_hip": (70, 240),
    "left_knee": (135, 320),
    "right_knee": (65, 320),
    "left_ankle": (140, 390),
    "right_ankle": (60, 390),
}


def an_image(height=480, width=640):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def person(left=100, top=40, scale=1.0, confidence=1.0):
    """(17, 3) the person above, somewhere."""
    xy = np.array([FACING[name] for name in COCO_PERSON.keypoints]) * scale + [left, top]
    return np.column_stack([xy, np.full(17, confidence)])


def poses_of(*people, scores=None):
    keypoints = np.array(people).reshape(-1, 17, 3)
    low, high = (keypoints[..., :2].min(axis=1), keypoints[..., :2].max(axis=1))
    boxes = np.concatenate([low - 10, high + 10], axis=1)
    count = len(keypoints)
    return Poses(1, keypoints, scores or [0.87] * count, boxes, np.ones(count))


def between(points, one, other):
    """The pixel (row, column) in the middle of two keypoints."""
    x, y = np.round((points[INDEX[one], :2] + points[INDEX[other], :2]) / 2).astype(int)
    return y, x


@pytest.mark.parametrize("style", [DrawStyle(), BARE])
def test_nobody_leaves_the_image_as_it_is(style):
    image = an_image()
    drawn = draw_poses(image, Poses(1, [], [], [], []), style=style)
    assert np.array_equal(drawn, image)
    assert not np.shares_memory(drawn, image)


def test_the_image_given_stays_as_it_is():
    image = an_image()
    image.setflags(write=False)
    before = image.copy()
    drawn = draw_poses(image, poses_of(person()))
    assert np.array_equal(image, before)
    assert drawn.shape == image.shape
    assert drawn.dtype == np.uint8
    assert not np.array_equal(drawn, image)


@pytest.mark.parametrize(
    ("one", "other", "side"),
    [
        ("left_shoulder", "left_elbow", "left"),
        ("left_hip", "left_knee", "left"),
        ("left_ear", "left_shoulder", "left"),
        ("right_elbow", "right_wrist", "right"),
        ("right_knee", "right_ankle", "right"),
        ("left_shoulder", "right_shoulder", "middle"),
        ("left_hip", "right_hip", "middle"),
    ],
)
def test_a_limb_has_the_colour_of_its_side(one, other, side):
    points = person()
    drawn = draw_poses(an_image(), poses_of(points), style=BARE)
    assert tuple(drawn[between(points, one, other)]) == getattr(BARE, side)


@pytest.mark.parametrize("name", ["left_wrist", "right_ankle", "nose"])
def test_a_keypoint_has_the_colour_of_its_side(name):
    points = person()
    drawn = draw_poses(an_image(), poses_of(points), style=BARE)
    x, y = points[INDEX[name], :2].astype(int)
    assert tuple(drawn[y, x]) == getattr(BARE, COCO_PERSON.side(INDEX[name]))


def test_the_colours_are_red_green_blue():
    points = person()
    style = DrawStyle(boxes=False, scores=False, opacity=1.0, left=(250, 10, 20))
    drawn = draw_poses(an_image(), poses_of(points), style=style)
    assert tuple(drawn[between(points, "left_hip", "left_knee")]) == (250, 10, 20)


def test_an_unlikely_keypoint_and_its_limbs_leave_the_image_untouched():
    image, points = an_image(), person()
    points[INDEX["left_wrist"], 2] = 0.1
    drawn = draw_poses(image, poses_of(points), style=BARE)
    x, y = points[INDEX["left_wrist"], :2].astype(int)
    around = np.s_[y - 15 : y + 16, x - 15 : x + 16]
    assert np.array_equal(drawn[around], image[around])
    middle = between(points, "left_elbow", "left_wrist")
    assert np.array_equal(drawn[middle], image[middle])
    assert tuple(drawn[between(points, "left_shoulder", "left_elbow")]) == BARE.left


def test_a_confidence_at_the_threshold_is_enough():
    image = an_image()
    points = person(confidence=0.2)
    assert not np.array_equal(draw_poses(image, poses_of(points), style=BARE), image)
    stricter = DrawStyle(boxes=False, scores=False, min_confidence=0.21)
    assert np.array_equal(draw_poses(image, poses_of(points), style=stricter), image)


def test_people_below_the_score_are_left_out():
    image = an_image()
    both = poses_of(person(), person(left=400), scores=[0.9, 0.3])
    drawn = draw_poses(image, both, style=DrawStyle(min_score=0.5))
    only = draw_poses(image, poses_of(person(), scores=[0.9]))
    assert np.array_equal(drawn, only)


def test_a_small_person_is_drawn_over_a_large_one_in_any_order():
    large, small = person(left=60, top=20, scale=1.1), person(left=150, top=160, scale=0.3)
    small[:, 0] += large[INDEX["left_hip"], 0] - small[INDEX["right_hip"], 0]
    image = an_image()
    one = draw_poses(image, poses_of(large, small))
    other = draw_poses(image, poses_of(small, large))
    assert np.array_equal(one, other)
    y, x = between(small, "right_shoulder", "right_hip")
    bare = draw_poses(image, poses_of(large, small), style=BARE)
    assert tuple(bare[y, x]) == BARE.right


def test_a_low_opacity_lets_the_image_through():
    points = person()
    dark = np.zeros((480, 640, 3), np.uint8)
    style = DrawStyle(boxes=False, scores=False, opacity=0.5)
    drawn = draw_poses(dark, poses_of(points), style=style)
    expected = np.array(style.left) / 2
    assert np.abs(drawn[between(points, "left_hip", "left_knee")] - expected).max() <= 1


def changed_share(drawn, image):
    return (drawn != image).any(axis=2).mean()


@pytest.mark.parametrize("option", ["skeletons", "boxes", "scores"])
def test_each_part_can_be_left_out(option):
    image = np.full((480, 640, 3), 128, np.uint8)
    poses = poses_of(person())
    nothing = DrawStyle(skeletons=False, boxes=False, scores=False)
    only = DrawStyle(**(dict.fromkeys(("skeletons", "boxes", "scores"), False) | {option: True}))
    assert np.array_equal(draw_poses(image, poses, style=nothing), image)
    assert 0 < changed_share(draw_poses(image, poses, style=only), image) < 0.2


def width_of_thigh(size, scale, style=BARE):
    """How many pixels of a row have the left thigh's colour."""
    points = person(left=10, top=10, scale=scale)
    drawn = draw_poses(an_image(size, size), poses_of(points), style=style)
    row, column = between(points, "left_hip", "left_knee")
    return (drawn[row, column - 20 : column + 20] == style.left).all(axis=1).sum()


def test_limbs_are_thicker_on_a_larger_person_and_in_a_larger_image():
    assert width_of_thigh(640, 1.4) > width_of_thigh(640, 0.6)
    assert width_of_thigh(3200, 0.6) > width_of_thigh(640, 0.6)


def test_a_given_limb_width_is_kept():
    style = DrawStyle(boxes=False, scores=False, opacity=1.0, limb_width=12)
    assert abs(width_of_thigh(640, 1.0, style) - 12) <= 2


@pytest.mark.parametrize(("x", "y"), [(5000, 100), (-5000, 100), (100, -3e9), (1e12, 1e12)])
def test_people_outside_the_image_change_nothing(x, y):
    image = an_image()
    assert np.array_equal(draw_poses(image, poses_of(person(left=x, top=y))), image)


def test_a_limb_to_a_point_far_outside_is_cut_at_the_edge():
    points = person()
    points[INDEX["left_wrist"], :2] = points[INDEX["left_elbow"], :2] + [1e9, 0]
    drawn = draw_poses(an_image(), poses_of(points), style=BARE)
    row = int(points[INDEX["left_elbow"], 1])
    assert tuple(drawn[row, 639]) == tuple(drawn[row, 500]) == BARE.left


def test_all_keypoints_at_one_spot_are_drawn():
    points = np.tile([100.0, 100.0, 1.0], (17, 1))
    image = an_image()
    assert changed_share(draw_poses(image, poses_of(points)), image) > 0


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 900, 3), (900, 2, 3), (0, 5, 3)])
def test_tiny_images_can_be_drawn_on(shape):
    assert draw_poses(np.zeros(shape, np.uint8), poses_of(person())).shape == shape


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3), np.float32),
    ],
)
def test_what_is_no_image_is_refused(image):
    with pytest.raises(ImageError, match=r"\(H, W, 3\) uint8 RGB"):
        draw_poses(image, Poses(1, [], [], [], []))
    with pytest.raises(ImageError, match=r"\(H, W, 3\) uint8 RGB"):
        draw_detections(image, Detections.none(1))


def test_poses_are_drawn_as_their_own_skeleton_has_them():
    skeleton = Skeleton("stick", ("a", "b", "c"), ((1, 2),), ((0, 1),), (0.1,) * 3)
    points = np.array([[[50, 50, 1], [150, 50, 1], [50, 150, 1]]], float)
    poses = Poses(1, points, [0.9], [[30, 30, 170, 170]], [0.9], skeleton)
    image = np.zeros((200, 200, 3), np.uint8)
    drawn = draw_poses(image, poses, style=dataclasses.replace(BARE, limb_width=4))
    assert tuple(drawn[50, 150]) == BARE.left
    assert tuple(drawn[150, 50]) == BARE.right
    assert tuple(drawn[50, 50]) == BARE.middle
    assert tuple(drawn[50, 100]) == BARE.left  # the limb from the middle to the left
    assert tuple(drawn[100, 50]) == (0, 0, 0)  # no limb to the right


def test_a_path_and_a_pillow_image_are_drawn_on_like_their_pixels(tmp_path: Path) -> None:
    image = an_image()
    Image.fromarray(image).save(tmp_path / "a.png")
    drawn = draw_poses(image, poses_of(person()))
    assert np.array_equal(draw_poses(tmp_path / "a.png", poses_of(person())), drawn)
    assert np.array_equal(draw_poses(Image.fromarray(image), poses_of(person())), drawn)
    with pytest.raises(ImageError, match="no such file"):
        draw_poses(tmp_path / "b.png", poses_of(person()))


@pytest.mark.parametrize(
    "option",
    [
        {"left": (0, 0, 256)},
        {"box": (1, 2)},
        {"limb_width": 0},
        {"opacity": 0},
        {"opacity": 1.5},
    ],
)
def test_a_style_out_of_range_is_refused(option):
    with pytest.raises(OptionError, match=next(iter(option))):
        DrawStyle(**option)


def test_detections_are_boxes_with_scores():
    image = np.full((480, 640, 3), 128, np.uint8)
    drawn = draw_detections(image, Detections(1, [[100, 50, 300, 400]], [0.9]))
    assert (drawn[200, 100] > 200).all()
    assert (drawn[200, 299] > 200).all()
    assert (drawn[200, 105:290] == 128).all()
    assert np.array_equal(draw_detections(image, Detections.none(1)), image)
    weak = draw_detections(
        image, Detections(1, [[100, 50, 300, 400]], [0.9]), style=DrawStyle(min_score=0.95)
    )
    assert np.array_equal(weak, image)


def label_pixels(image, *boxes):
    """(H, W) where labels changed the image."""
    found = Detections(1, boxes, [0.87] * len(boxes))
    return (draw_detections(image, found, style=DrawStyle(boxes=False)) != image).any(axis=2)


@pytest.mark.parametrize(
    "box", [[100, 100, 200, 300], [0, 0, 640, 480], [-50, -50, 60, 700], [600, 470, 700, 500]]
)
def test_a_label_lies_wholly_in_the_image(box):
    image = np.full((480, 640, 3), 128, np.uint8)
    whole = label_pixels(image, [100, 100, 200, 300]).sum()
    assert label_pixels(image, box).sum() == whole


def test_labels_of_equal_boxes_do_not_hide_each_other():
    image = np.full((480, 640, 3), 128, np.uint8)
    one = label_pixels(image, [100, 100, 200, 300]).sum()
    assert label_pixels(image, *[[100, 100, 200, 300]] * 3).sum() == 3 * one
