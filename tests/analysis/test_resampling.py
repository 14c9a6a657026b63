"""Differences of two runs: equal ones do not differ, better ones do, chance is no difference."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from posepipe.analysis.resampling import changes_of_images, differences
from posepipe.core.skeleton import COCO_PERSON
from posepipe.scoring.coco import average_precision
from posepipe.scoring.comparison import PoseComparison
from posepipe.scoring.matching import Found, Labelled

IMAGES = 30
K = len(COCO_PERSON)


def run(noise, seed=0):
    """A pose for each of two people in every image, off by noise (px) of its own."""
    people = np.random.default_rng(1).uniform(0, 200, (2 * IMAGES, K, 2))
    images = np.repeat(np.arange(IMAGES), 2)
    random = np.random.default_rng(seed)
    spread = np.broadcast_to(noise, IMAGES)[images][:, None, None]
    return PoseComparison(
        skeleton=COCO_PERSON,
        found=Found(images, random.uniform(0, 1, len(people)), np.full(len(people), 40_000.0)),
        keypoints_xy=people + random.normal(0, 1, people.shape) * spread,
        labelled=Labelled(
            images,
            np.full(len(people), 40_000.0),
            np.zeros(len(people), bool),
            np.zeros(len(people), bool),
        ),
        labels_xy=people,
        visible=np.ones((len(people), K), bool),
        boxes_xyxy=np.tile([0.0, 0, 200, 200], (len(people), 1)),
    )


def by_name(first, second, *, resamples=60, **options):
    found = differences(first, second, images=IMAGES, resamples=resamples, **options)
    return {difference.name: difference for difference in found}


def test_a_run_does_not_differ_from_itself():
    for name, difference in by_name(run(15), run(15)).items():
        assert difference.change in (0, None), name
        assert not difference.is_real
    assert by_name(run(15), run(15))["AP M"].first is None  # nobody is of that size


def test_a_clearly_better_run_is_seen_as_better():
    ap = by_name(run(25), run(8))["AP"]
    assert ap.first == average_precision(run(25))
    assert ap.second == average_precision(run(8))
    assert ap.is_real
    assert 0 < ap.low < ap.change < ap.high


def test_other_noise_of_the_same_size_is_not_real_more_often_than_chance():
    real = [by_name(run(20, seed), run(20, 100 + seed))["AP"].is_real for seed in range(20)]
    assert sum(real) <= 4  # 1 of 20 is expected; 5 or more have a probability of 0.003


def test_the_same_seed_draws_the_same_images():
    assert by_name(run(25), run(20), seed=3) == by_name(run(25), run(20), seed=3)
    assert by_name(run(25), run(20), seed=3) != by_name(run(25), run(20), seed=4)


def test_keypoints_come_after_the_ten_numbers_and_mean_oks():
    names = list(by_name(run(25), run(20)))
    assert names[10:] == ["mean OKS", *COCO_PERSON.keypoints]


def test_mean_oks_is_that_of_the_labelled_people_with_nothing_for_those_without_a_pose():
    first, second = run(15), run(12)
    everybody = np.arange(2 * IMAGES)
    found = by_name(first, second)["mean OKS"]
    assert found.first == pytest.approx(first.oks(everybody, everybody).mean())
    assert found.second == pytest.approx(second.oks(everybody, everybody).mean())
    assert 0 < found.low < found.change < found.high
    nobody = dataclasses.replace(
        second, found=Found(*(part[:0] for part in vars(second.found).values()))
    )
    nobody = dataclasses.replace(nobody, keypoints_xy=second.keypoints_xy[:0])
    assert by_name(first, nobody)["mean OKS"].second == 0


def test_mean_oks_is_of_people_and_not_of_images():
    first = run(15)
    images = np.where(np.arange(2 * IMAGES) < 40, 0, first.labelled.images)
    crowded = dataclasses.replace(
        first,
        found=dataclasses.replace(first.found, images=images),
        labelled=dataclasses.replace(first.labelled, images=images),
        keypoints_xy=first.labels_xy + np.where(images == 0, 30.0, 0.0)[:, None, None],
    )
    [image, *others] = sorted(changes_of_images(crowded, crowded), key=lambda one: one.image)
    people = np.bincount(images)
    expected = (image.first * people[0] + sum(o.first * people[o.image] for o in others)) / 60
    found = by_name(crowded, crowded)["mean OKS"]
    assert found.first == pytest.approx(expected)
    assert image.first < 0.5 * found.first


def test_mean_oks_sees_a_change_that_passes_no_threshold():
    label = run(0).labels_xy
    first, second = (
        dataclasses.replace(run(0), keypoints_xy=label + offset) for offset in (1.0, 1.1)
    )
    found = by_name(first, second)
    assert found["AP"].change == 0
    assert -0.001 < found["mean OKS"].change < 0
    assert found["mean OKS"].is_real


def test_there_is_no_mean_oks_where_nobody_counts():
    first = run(10)
    ignored = dataclasses.replace(first.labelled, ignored=np.ones(2 * IMAGES, bool))
    nobody = dataclasses.replace(first, labelled=ignored)
    found = by_name(nobody, nobody)["mean OKS"]
    assert (found.first, found.low) == (None, None)


def test_the_image_that_changed_most_comes_first():
    worse = np.full(IMAGES, 10.0)
    worse[7] = 60
    changes = changes_of_images(run(10), run(worse))
    assert changes[0].image == 7
    assert changes[0].second < changes[0].first
    assert len(changes) == IMAGES
    sizes = [abs(change.second - change.first) for change in changes]
    assert sizes == sorted(sizes, reverse=True)


def test_runs_on_different_labels_are_refused():
    other = run(10)
    fewer = PoseComparison(**{**vars(other), "labels_xy": other.labels_xy[:-1]})
    with pytest.raises(ValueError, match="first"):
        differences(other, fewer, images=IMAGES)
