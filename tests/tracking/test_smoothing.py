"""Smoothing: what stands is steadier, what moves hardly lags, time counts and not frames."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from posepipe.core.poses import Poses
from posepipe.errors import OptionError
from posepipe.tracking.smoothing import Smoother, SmoothingOptions

K = 17
HEIGHT = 200.0


def pose(points, *, confidence=0.9, track=1):
    keypoints = np.concatenate([points, np.full((K, 1), confidence)], axis=1)[None]
    return Poses(
        1,
        keypoints,
        np.ones(1),
        np.array([[0, 0, 100, HEIGHT]]),
        np.ones(1),
        track_ids=np.array([track]),
    )


def smoothed(points, times, **options):
    """(n, K, 2) what comes out for positions (n, K, 2) at times (n,)."""
    smoother = Smoother(SmoothingOptions(**options))
    frames = zip(points, times, strict=True)
    return np.array([smoother(pose(at), float(t)).keypoints[0, :, :2] for at, t in frames])


def still(frames=100, noise=2.0):
    return 50 + np.random.default_rng(0).normal(0, noise, (frames, K, 2))


def acceleration(points):
    """Mean size of the second differences, in pixels."""
    return float(np.linalg.norm(np.diff(points, n=2, axis=0), axis=2).mean())


def test_what_stands_still_trembles_less():
    points = still()
    calm = smoothed(points, np.arange(100) / 25)
    assert acceleration(calm) < 0.35 * acceleration(points)
    assert abs(calm[50:].mean() - 50) < 0.5


def test_the_first_position_is_taken_as_it_is():
    assert np.array_equal(smoothed(still(1), [0.0]), still(1))


@pytest.mark.parametrize("still", [K - 1, 5])
def test_what_moves_steadily_in_its_person_lags_by_what_is_said(still):
    times = np.arange(200) / 25
    speed = 2.0  # heights a second
    points = np.zeros((200, K, 2))
    points[:, still:, 0] = (times * speed * HEIGHT)[:, None]
    relative = speed * still / K
    lag = (points[-1, -1, 0] - smoothed(points, times)[-1, -1, 0]) / (relative * HEIGHT)
    options = SmoothingOptions()
    expected = 1 / (2 * np.pi * (options.cutoff + options.speed * relative))
    assert lag == pytest.approx(expected, rel=0.01)
    assert lag < 0.05


@pytest.mark.parametrize("speed", [0.5, 2.0])
def test_who_walks_does_not_lag_and_is_as_steady_as_who_stands(speed):
    times = np.arange(200) / 25
    way = (times * speed * HEIGHT)[:, None] * [1, 0]
    points = still(200) + way[:, None]
    calm = smoothed(points, times) - way[:, None]
    assert abs(calm[100:].mean() - 50) < 0.3
    assert acceleration(calm) < 1.1 * acceleration(smoothed(still(200), times))


def test_who_stops_overshoots_little_and_comes_to_rest():
    times = np.arange(150) / 25
    way = np.minimum(times, 3.0) * HEIGHT  # one height a second, then still
    points = np.zeros((150, K, 2))
    points[..., 0] = way[:, None]
    beyond = smoothed(points, times)[:, 0, 0] - 3 * HEIGHT
    assert beyond.max() < 0.1 * HEIGHT
    assert abs(beyond[-25:]).max() < 0.005 * HEIGHT


def test_uneven_times_of_a_steady_movement_give_no_steps():
    random = np.random.default_rng(1)
    times = np.cumsum(random.uniform(0.01, 0.1, 200))
    points = np.zeros((200, K, 2))
    points[..., 0] = 100 * times[:, None]
    behind = points[50:, 0, 0] - smoothed(points, times)[50:, 0, 0]
    assert np.abs(behind).max() < 0.01


def test_what_the_network_is_unsure_of_moves_less():
    smoother = Smoother()
    unsure = Smoother()
    here, there = np.zeros((K, 2)), np.full((K, 2), 10.0)
    for each in (smoother, unsure):
        each(pose(here), 0.0)
    sure_step = smoother(pose(there), 0.04).keypoints[0, 0, 0]
    assert 0 < unsure(pose(there, confidence=0.1), 0.04).keypoints[0, 0, 0] < 0.5 * sure_step


def test_people_do_not_smear_into_each_other():
    smoother = Smoother()
    smoother(pose(np.zeros((K, 2)), track=1), 0.0)
    other = smoother(pose(np.full((K, 2), 99.0), track=2), 0.04)
    assert (other.keypoints[..., :2] == 99).all()


def test_after_a_gap_somebody_is_where_they_are():
    smoother = Smoother()
    smoother(pose(np.zeros((K, 2))), 0.0)
    assert (smoother(pose(np.full((K, 2), 99.0)), 1.0).keypoints[..., :2] == 99).all()


@pytest.mark.parametrize("ids", [None, np.array([-1])])
def test_people_who_are_not_followed_stay_as_they_are(ids):
    smoother = Smoother()
    smoother(replace(pose(np.zeros((K, 2))), track_ids=ids), 0.0)
    given = replace(pose(np.full((K, 2), 9.0)), track_ids=ids)
    assert np.array_equal(smoother(given, 0.04).keypoints, given.keypoints)


def test_confidences_scores_and_boxes_are_not_touched():
    smoother = Smoother()
    smoother(pose(still()[0]), 0.0)
    given = pose(still()[1])
    after = smoother(given, 0.04)
    assert np.array_equal(after.keypoints[..., 2], given.keypoints[..., 2])
    assert np.array_equal(after.boxes_xyxy, given.boxes_xyxy)


def test_time_does_not_run_backwards():
    smoother = Smoother()
    smoother(pose(still()[0]), 1.0)
    with pytest.raises(ValueError, match="order"):
        smoother(pose(still()[0]), 0.9)


@pytest.mark.parametrize("wrong", [{"cutoff": 0}, {"speed": -1}, {"forget_after": float("inf")}])
def test_options_out_of_range_are_refused(wrong):
    with pytest.raises(OptionError, match=next(iter(wrong))):
        SmoothingOptions(**wrong)
