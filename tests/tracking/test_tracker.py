"""People keep their numbers: walking, crossing, hidden for a while, doubtful for a while."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from posepipe.core.poses import Poses
from posepipe.errors import OptionError
from posepipe.tracking.motion import Motion
from posepipe.tracking.tracker import Tracker, TrackingOptions

K = 17
SHAPE = np.random.default_rng(0).uniform([0, 0], [60, 160], (K, 2))  # of everybody, in their box


def frame(*places, scores=None, spread=0.0, seed=0):
    """People 60 px wide and 160 px high with their left top corners in these places."""
    random = np.random.default_rng(seed)
    corners = np.array(places, float).reshape(-1, 2)
    points = corners[:, None] + SHAPE + random.normal(0, 1, (len(corners), K, 2)) * spread
    boxes = np.concatenate([corners, corners + np.array([60, 160])], axis=1)
    boxes += random.normal(0, 1, boxes.shape) * spread
    given_scores = np.full(len(corners), 0.9) if scores is None else np.array(scores, float)
    keypoints = np.concatenate([points, np.full((len(corners), K, 1), 0.8)], axis=2)
    return Poses(1, keypoints, given_scores, boxes, given_scores)


def followed(frames, *, rate=25.0, options=None):
    """The track ids of every frame."""
    tracker = Tracker(options)
    return [tracker(poses, n / rate).track_ids.tolist() for n, poses in enumerate(frames)]


def test_somebody_who_stands_keeps_the_number():
    assert followed([frame([100, 50], spread=2, seed=n) for n in range(20)]) == [[1]] * 20


def test_numbers_go_with_people_not_with_their_order():
    frames = [frame([100, 50], [400, 50]), frame([402, 50], [101, 50])]
    assert followed(frames) == [[1, 2], [2, 1]]


def test_people_who_pass_each_other_keep_their_numbers():
    steps = np.arange(0, 401, 10)
    frames = [frame([x, 50], [400 - x, 60], spread=1, seed=n) for n, x in enumerate(steps)]
    assert followed(frames) == [[1, 2]] * len(frames)


@pytest.mark.parametrize("gap", [1, 10, 30])
def test_somebody_who_was_hidden_comes_back_with_the_same_number(gap):
    walk = [frame([100 + 3 * n, 50]) for n in range(60)]
    frames = [*walk[:15], *[frame()] * gap, *walk[15 + gap :]]
    ids = followed(frames)
    assert ids[-1] == [1]
    assert ids[15] == []


def test_somebody_who_is_gone_for_long_is_somebody_new():
    frames = [frame([100, 50])] * 3 + [frame()] * 50 + [frame([100, 50])]
    assert followed(frames)[-1] == [2]


def test_a_doubtful_person_continues_a_track_but_begins_none():
    frames = [
        frame([100, 50], [400, 50], scores=[0.9, 0.3]),
        frame([101, 50], [400, 50], scores=[0.3, 0.3]),
        frame([102, 50], [400, 50], scores=[0.05, 0.9]),
    ]
    assert followed(frames) == [[1, -1], [1, -1], [-1, 2]]


def test_somebody_elsewhere_is_somebody_else():
    assert followed([frame([100, 50]), frame([700, 400])]) == [[1], [2]]


def test_seconds_count_and_not_frames():
    """The same walk at uneven times: what moves steadily is found where it must be."""
    random = np.random.default_rng(4)
    times = np.cumsum(random.uniform(0.01, 0.25, 60))
    tracker = Tracker()
    ids = {tracker(frame([200 * t, 50]), float(t)).track_ids[0] for t in times}
    assert ids == {1}


def test_nobody_is_a_legal_answer():
    assert followed([frame(), frame()]) == [[], []]


def test_time_does_not_run_backwards():
    tracker = Tracker()
    tracker(frame([0, 0]), 1.0)
    with pytest.raises(ValueError, match="order"):
        tracker(frame([0, 0]), 0.5)


@given(st.integers(0, 1000))
def test_no_number_is_given_twice_in_a_frame_and_the_same_frames_give_the_same(seed):
    random = np.random.default_rng(seed)
    frames = [
        frame(
            *random.uniform(0, 500, (random.integers(0, 6), 2)),
            spread=3,
            seed=n,
        )
        for n in range(8)
    ]
    frames = [replace(poses, box_scores=random.uniform(0, 1, len(poses))) for poses in frames]
    ids = followed(frames)
    for of_frame in ids:
        known = [number for number in of_frame if number > 0]
        assert len(known) == len(set(known))
    assert followed(frames) == ids


@pytest.mark.parametrize(
    "wrong", [{"sure": 1.5}, {"doubtful": 0.6}, {"likeness": -0.1}, {"keep": -1}]
)
def test_options_out_of_range_are_refused(wrong):
    with pytest.raises(OptionError, match=next(iter(wrong))):
        TrackingOptions(**wrong)


def test_motion_learns_a_velocity_and_stays_symmetric():
    motion = Motion.seen([0, 0, 60, 160])
    for n in range(1, 30):
        motion = motion.after(0.1).corrected([5 * n, 0, 60 + 5 * n, 160])
    assert motion.mean[4] == pytest.approx(50, rel=0.02)  # px a second
    ahead = motion.after(1.0).box_xyxy
    assert ahead[0] == pytest.approx(5 * 29 + 50, abs=2)
    assert np.allclose(motion.covariance, motion.covariance.T)
    assert (np.linalg.eigvalsh(motion.covariance) > 0).all()
