"""The video in examples/, whose motion is known: views of one still image, which never moves.

Where a keypoint is in a frame, mapped back into the still image, it should be in every other
frame. What is left of movement there is the trembling of the networks, and what smoothing makes of
it.
"""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from posepipe import Pipeline, Video, VideoOptions, follow
from posepipe.tracking.smoothing import Smoother
from posepipe.tracking.tracker import TrackingOptions

pytestmark = pytest.mark.slow

pytest.importorskip("av")
ROOT = Path(__file__).parents[1]
FACE = slice(0, 5)
PERSON = 450.0  # pixels that either person is high in the still image, or would be


@pytest.fixture(scope="module")
def script():
    path = ROOT / "scripts" / "make_video.py"
    scope: dict[str, object] = {"__name__": "make_video", "__file__": str(path)}
    exec(compile(path.read_text(encoding="utf-8"), str(path), "exec"), scope)  # noqa: S102
    return scope


@pytest.fixture(scope="module")
def still(script):
    return script["still"]()


@pytest.fixture(scope="module")
def frames():
    os.environ["POSEPIPE_OFFLINE"] = "1"
    pipeline = Pipeline(pose="cpn-litehrnet-small-256x192")
    with Video(str(ROOT / "examples" / "pan.mp4"), VideoOptions(every=2)) as video:
        how = {"tracking": TrackingOptions(), "detect_every": 5}
        return list(follow(pipeline, video, **how))


def in_the_still(frames, script, width, smoother=None):
    """For each number: (n, 17, 2) keypoints in the still image, (n, 17) their confidences."""
    found = {}
    for frame in frames:
        poses = frame.poses if smoother is None else smoother(frame.poses, frame.seconds)
        view = script["view_of"](frame.seconds, width)
        for number, points in zip(poses.track_ids.tolist(), poses.keypoints, strict=True):
            if number > 0:
                back = (points[:, :2] - view[:, 2]) / [view[0, 0], view[1, 1]]
                found.setdefault(number, []).append(np.column_stack([back, points[:, 2]]))
    return {n: (np.array(p)[..., :2], np.array(p)[..., 2]) for n, p in found.items()}


def test_the_video_moves_as_the_script_says(script, still):
    with Video(str(ROOT / "examples" / "pan.mp4"), VideoOptions(every=11)) as video:
        assert video.size_wh == script["SIZE_WH"]
        for frame in video:
            view = script["view_of"](frame.seconds, still.shape[1])
            expected = cv2.warpAffine(still, view, script["SIZE_WH"], borderMode=1)
            assert np.abs(frame.pixels.astype(int) - expected).mean() < 8  # of 255


def test_everybody_keeps_one_number(frames, script, still):
    found = in_the_still(frames, script, still.shape[1])
    assert set(found) == {1, 2}
    middle = still.shape[0]  # the first portrait is a square
    astronaut, hopper = found[1][0], found[2][0]
    assert len(astronaut) > 15
    assert len(hopper) > 12
    assert (astronaut[:, 0, 0] < middle).all()
    assert (hopper[:, 0, 0] > middle).all()


def jitter(points):
    """Mean second difference from frame to frame, pixels."""
    return float(np.linalg.norm(np.diff(points, n=2, axis=0), axis=-1).mean())


def test_keypoints_stay_where_they_are_in_the_still_image(frames, script, still):
    for points, confidences in in_the_still(frames, script, still.shape[1]).values():
        sure = np.flatnonzero(np.median(confidences, axis=0)[FACE] > 0.5)
        assert len(sure) >= 4
        away = np.linalg.norm(points - np.median(points, axis=0), axis=-1)[:, sure]
        assert np.median(away) < 0.02 * PERSON


def test_smoothing_takes_trembling_and_hardly_lags(frames, script, still):
    rough = in_the_still(frames, script, still.shape[1])
    smooth = in_the_still(frames, script, still.shape[1], Smoother())
    for number, (points, confidences) in rough.items():
        sure = np.flatnonzero(np.median(confidences, axis=0)[FACE] > 0.5)
        calm = smooth[number][0][:, sure]
        assert jitter(calm) < 0.6 * jitter(points[:, sure])
        lag = np.linalg.norm(np.median(calm, axis=0) - np.median(points[:, sure], axis=0), axis=-1)
        assert lag.max() < 0.04 * PERSON
