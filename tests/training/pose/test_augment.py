"""Augmentation: whatever happens to a crop, its keypoints stay where the image shows them."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import numpy as np
import pytest
import torch
from builders import DOG
from training_crops import NO_AUGMENTATION, SIZE_WH, TrainingCrop, crop_of, in_memory

from posepipe.core.skeleton import COCO_PERSON
from posepipe.errors import RecipeError
from posepipe.training.pose.augment import AugmentTable, crop_labels, draw_augmentation
from posepipe.training.pose.device_crops import DeviceCrops
from posepipe.training.samples import PoseSample
from posepipe.zoo.recipe import Recipe

PLAIN = NO_AUGMENTATION
POLICIES = {
    "nothing": PLAIN,
    "flip": msgspec.structs.replace(PLAIN, flip=1),
    "rotation": msgspec.structs.replace(PLAIN, rotation=1),
    "scale": msgspec.structs.replace(PLAIN, scale=(0.7, 1.35)),
    "shift": msgspec.structs.replace(PLAIN, shift=0.1),
    "half body": msgspec.structs.replace(PLAIN, half_body=1),
    "cut-out": msgspec.structs.replace(PLAIN, cutout=1),
    "colour": msgspec.structs.replace(PLAIN, colour=0.3),
    "everything": AugmentTable(flip=0.5, rotation=1, half_body=0.5, cutout=0.5),
}


def device_crop_of(sample, table, seed=0):
    """The same as `crop_of`, by the other engine."""
    common = {"size_wh": SIZE_WH, "skeleton": COCO_PERSON}
    generator = np.random.default_rng(seed)
    augmentation = draw_augmentation(
        sample, table, margins_xy=(0.1, 0.15), generator=generator, **common
    )
    labels = crop_labels(sample, augmentation, **common)
    maker = DeviceCrops(torch.device("cpu"), size_wh=SIZE_WH, fill=(0, 0, 0))
    pixels = maker([sample], [augmentation])[0].numpy()
    return TrainingCrop(labels.points_xy, labels.weights, labels.visibility, pixels)


ENGINES = {"cpu": crop_of, "device": device_crop_of}


def one_spot(keypoint):
    """A person whose keypoints are spread over an image in which one of them is lit."""
    random = np.random.default_rng(5)
    points = np.round(random.uniform([60, 60], [120, 160], (17, 2)))
    pixels = np.zeros((220, 180, 3), np.uint8)
    x, y = points[keypoint].astype(int)
    pixels[y - 1 : y + 2, x - 1 : x + 2] = 255
    return PoseSample(
        in_memory(pixels),
        np.array([50, 50, 130, 170]),
        points,
        np.ones(17),
        np.full(17, 2),
        area=5000.0,
    )


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("policy", POLICIES)
def test_a_lit_keypoint_stays_in_the_light(policy, engine):
    left_wrist, right_wrist = (COCO_PERSON.keypoints.index(f"{s}_wrist") for s in ("left", "right"))
    # In a mirror image the person's left wrist looks like a right one.
    expected = {"flip": [right_wrist], "everything": [left_wrist, right_wrist]}
    seen = 0
    for seed in range(8):
        crop = ENGINES[engine](one_spot(left_wrist), POLICIES[policy], seed)
        # Colours lift all of the dark by as much; the light is what exceeds it.
        light = crop.pixels[..., 0].astype(float) - np.median(crop.pixels[..., 0])
        light[light < 20] = 0
        rows, columns = np.indices(light.shape)
        if light.sum() < 9 * 60:
            assert policy in ("cut-out", "everything")  # it is covered
            continue
        centre = np.array([(light * columns).sum(), (light * rows).sum()]) / light.sum()
        distances = np.linalg.norm(crop.points_xy - centre, axis=1)
        lit = int(distances.argmin())
        assert lit in expected.get(policy, [left_wrist])
        assert distances[lit] < 0.4
        seen += 1
    assert seen >= 6


def test_without_augmentation_a_crop_is_the_box_with_its_margins(painted_person):
    sample = painted_person()
    crop = crop_of(sample, PLAIN)
    # 0.7 of 96 x 128 pixels, 0.1 and 0.15 of it added on each side: the height decides.
    scale = 128 / (0.7 * 128 * 1.3)
    expected = (sample.keypoints_xy - [47.5, 63.5]) * scale + [47.5, 63.5]
    assert crop.points_xy == pytest.approx(expected)
    assert np.array_equal(crop.weights, sample.weights)
    assert crop.pixels.shape == (128, 96, 3)


def test_a_mirrored_crop_is_the_crop_mirrored_with_left_and_right_exchanged(painted_person):
    sample = painted_person()
    plain, mirrored = crop_of(sample, PLAIN), crop_of(sample, POLICIES["flip"])
    difference = mirrored.pixels[:, ::-1].astype(int) - plain.pixels
    assert np.abs(difference).max() <= 1
    order = list(COCO_PERSON.mirrored)
    assert mirrored.points_xy[order, 0] == pytest.approx(95 - plain.points_xy[:, 0])
    assert mirrored.points_xy[order, 1] == pytest.approx(plain.points_xy[:, 1])
    assert np.array_equal(mirrored.weights[order], plain.weights)
    assert np.array_equal(mirrored.visibility[order], plain.visibility)


def test_everything_random_comes_from_the_generator(painted_person):
    sample, table = painted_person(), AugmentTable()
    one, again, other = (crop_of(sample, table, seed) for seed in (1, 1, 2))
    assert np.array_equal(one.pixels, again.pixels)
    assert np.array_equal(one.points_xy, again.points_xy)
    assert not np.array_equal(one.points_xy, other.points_xy)


def test_a_policy_draws_as_many_numbers_whatever_the_person_so_that_runs_can_be_repeated(
    painted_person,
):
    after = []
    for seed in (0, 1):
        generator = np.random.default_rng(7)
        crop_of(painted_person(seed), AugmentTable(), generator=generator)
        after.append(generator.random())
    assert after[0] == after[1]


def test_keypoints_outside_the_crop_are_not_learnt(painted_person):
    sample = painted_person()
    for seed in range(20):
        crop = crop_of(sample, msgspec.structs.replace(PLAIN, shift=0.6), seed)
        x, y = crop.points_xy.T
        inside = (x > -0.5) & (x < 95.5) & (y > -0.5) & (y < 127.5)
        assert np.array_equal(crop.weights > 0, inside & (sample.weights > 0))
        assert np.array_equal(crop.visibility, np.where(inside, sample.visibility, 0))
        if not inside.all():
            return
    pytest.fail("no shift moved a keypoint out: the test says nothing")


def test_the_person_gets_as_large_as_the_policy_says(painted_person):
    sample = painted_person()

    def spread(crop):
        return np.ptp(crop.points_xy, axis=0)

    plain = spread(crop_of(sample, PLAIN))
    factors = [spread(crop_of(sample, POLICIES["scale"], seed))[0] / plain[0] for seed in range(60)]
    assert min(factors) == pytest.approx(0.7, abs=0.05)
    assert max(factors) == pytest.approx(1.35, abs=0.05)
    assert min(factors) >= 0.7 - 1e-9
    assert max(factors) <= 1.35 + 1e-9


def test_half_a_body_is_either_half_seen_larger(painted_person):
    sample = painted_person()
    hips = COCO_PERSON.keypoints.index("left_hip")
    plain = np.ptp(crop_of(sample, PLAIN).points_xy, axis=0)
    kinds = set()
    for seed in range(12):
        crop = crop_of(sample, POLICIES["half body"], seed)
        upper, lower = (
            crop.weights[part][sample.weights[part] > 0].all()
            for part in (slice(None, hips), slice(hips, None))
        )
        assert upper or lower  # one half is whole
        kinds.add(bool(np.ptp(crop.points_xy, axis=0)[0] > plain[0]))
    assert True in kinds


def test_a_person_with_few_keypoints_is_not_halved(painted_person):
    whole = painted_person()
    weights = np.zeros(17)
    weights[:7] = 1
    sample = replace(whole, weights=weights)
    halved, plain = crop_of(sample, POLICIES["half body"]), crop_of(sample, PLAIN)
    assert np.array_equal(halved.points_xy, plain.points_xy)


def test_halves_are_those_that_the_skeleton_lists(painted_person):
    front = np.isin(np.arange(10), DOG.upper_body)
    x, y = np.where(front, 20, 70) + np.arange(10), 50 + 2 * np.arange(10)
    sample = replace(
        painted_person(),
        keypoints_xy=np.stack([x, y], axis=1).astype(float),
        weights=np.ones(10),
        visibility=np.full(10, 2),
    )
    labelled = sample.weights > 0
    halves = set()
    for seed in range(12):
        crop = crop_of(sample, POLICIES["half body"], seed, skeleton=DOG)
        whole_halves = [bool(crop.weights[half & labelled].all()) for half in (front, ~front)]
        assert any(whole_halves)
        halves.add(tuple(whole_halves))
    assert halves & {(True, False), (False, True)}
    undivided = replace(DOG, upper_body=())
    halved, plain = (
        crop_of(sample, POLICIES[kind], skeleton=undivided) for kind in ("half body", "nothing")
    )
    assert np.array_equal(halved.points_xy, plain.points_xy)


def test_colours_change_by_no_more_than_the_policy_says_and_points_not_at_all(painted_person):
    sample = painted_person()
    coloured = msgspec.structs.replace(PLAIN, colour=0.3)
    plain = crop_of(sample, PLAIN)
    crops = [crop_of(sample, coloured, seed) for seed in range(8)]
    assert all(np.array_equal(crop.points_xy, plain.points_xy) for crop in crops)
    changes = [np.abs(crop.pixels.astype(float) - plain.pixels).max() for crop in crops]
    assert max(changes) > 10
    assert max(changes) <= 255 * (1.3 * 1.1 - 1) + 0.3 * 64 + 1


def test_what_is_cut_out_has_the_fill_colour_and_the_size_the_policy_says(painted_person):
    sample, fill = painted_person(), (9, 8, 7)
    table = msgspec.structs.replace(PLAIN, cutout=1, cutouts=1, cutout_side=(0.2, 0.5))
    plain = crop_of(sample, PLAIN, fill=fill)
    shares = []
    for seed in range(30):
        crop = crop_of(sample, table, seed, fill=fill)
        covered = (crop.pixels == fill).all(axis=-1)
        assert np.array_equal(crop.pixels[~covered], plain.pixels[~covered])
        rows, columns = covered.any(axis=1), covered.any(axis=0)
        assert covered.sum() == rows.sum() * columns.sum()  # one rectangle
        shares.append((columns.sum() / 96, rows.sum() / 128))
        # Covered keypoints are learnt all the same.
        assert np.array_equal(crop.weights, plain.weights)
    assert 0.19 < np.min(shares) < 0.25
    assert 0.45 < np.max(shares) < 0.51


def test_cut_outs_are_as_many_and_as_often_as_the_policy_says(painted_person):
    table = msgspec.structs.replace(PLAIN, cutout=0.5, cutouts=3)
    options = {"size_wh": SIZE_WH, "margins_xy": (0.1, 0.15), "skeleton": COCO_PERSON}
    sample = painted_person()
    counts = [
        len(
            draw_augmentation(
                sample, table, generator=np.random.default_rng(seed), **options
            ).cutouts_xyxy
        )
        for seed in range(400)
    ]
    assert set(counts) == {0, 1, 2, 3}
    assert counts.count(0) == pytest.approx(200, abs=40)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"flip": 1.5}, "flip is a probability"),
        ({"cutout": -0.1}, "cutout is a probability"),
        ({"rotation_deg": 200.0}, "rotation_deg must lie in"),
        ({"scale": [1.2, 0.8]}, "scale must be a smallest and a largest"),
        ({"scale": [0.0, 0.8]}, "scale must be a smallest and a largest"),
        ({"colour": 1.0}, "shift and colour are shares"),
        ({"cutout_side": [0.5, 1.5]}, "cutout_side a shortest and a longest"),
        ({"hue": 0.5}, "hue"),
    ],
)
def test_a_table_that_makes_no_sense_is_refused(change, message, tmp_path):
    recipe = Recipe("any", tmp_path, {"augment": change})
    with pytest.raises(RecipeError, match=message):
        recipe.table("augment", AugmentTable)


def test_outside_the_image_is_the_fill_colour(painted_person):
    far = msgspec.structs.replace(PLAIN, scale=(0.2, 0.2))
    crop = crop_of(painted_person(), far, fill=(9, 8, 7))
    assert (crop.pixels[0] == [9, 8, 7]).all()


def test_the_sample_is_left_as_it_is(painted_person):
    sample = painted_person()
    pixels, points = sample.read().copy(), sample.keypoints_xy.copy()
    crop_of(sample, AugmentTable(flip=1, colour=0.3))
    assert np.array_equal(sample.read(), pixels)
    assert np.array_equal(sample.keypoints_xy, points)
