"""Videos through the pipeline: order, times, numbers, smoothing, and a detector that rests."""

from __future__ import annotations

import numpy as np
import pytest
from video_files import numbered, write_video
from walker import Walker

from posepipe.errors import OptionError
from posepipe.io.videos import Video, VideoOptions
from posepipe.tracking.smoothing import SmoothingOptions
from posepipe.tracking.tracker import TrackingOptions
from posepipe.videos.follow import follow

pytest.importorskip("av")


@pytest.fixture
def path(tmp_path):
    return str(write_video(tmp_path / "a.mp4", numbered(20, (144, 128))))


def followed(path, walker, options=None, **how):
    with Video(path, options or VideoOptions()) as video:
        return list(follow(walker, video, **how))


def test_frames_come_in_order_with_their_times(path):
    frames = followed(path, Walker(), VideoOptions(start=0.5, every=2))
    assert [frame.frame for frame in frames] == [5, 7, 9, 11, 13, 15, 17, 19]
    assert [frame.seconds for frame in frames] == pytest.approx(
        [n / 10 for n in range(5, 20, 2)], abs=0.002
    )
    assert [frame.poses.image_id for frame in frames] == [frame.image.id for frame in frames]
    assert all(frame.poses.track_ids is None for frame in frames)
    assert frames[0].image.read().shape == (128, 144, 3)


def test_people_get_numbers(path):
    frames = followed(path, Walker(), tracking=TrackingOptions())
    assert {tuple(frame.poses.track_ids) for frame in frames} == {(1,)}


def test_keypoints_are_smoothed_along_their_tracks(path):
    how = {"tracking": TrackingOptions(), "smoothing": SmoothingOptions(cutoff=0.5, speed=1)}
    rough = followed(path, Walker(noise=3), tracking=TrackingOptions())
    smooth = followed(path, Walker(noise=3), **how)

    def acceleration(frames):
        points = np.array([frame.poses.keypoints[0, :, :2] for frame in frames])
        return np.linalg.norm(np.diff(points, n=2, axis=0), axis=2).mean()

    assert acceleration(smooth) < 0.5 * acceleration(rough)


def test_the_detector_rests_while_poses_say_where_people_are(path):
    walker = Walker()
    frames = followed(path, walker, tracking=TrackingOptions(), detect_every=5)
    assert walker.detected == [1, 6, 11, 16]
    assert len(walker.posed) == 16
    assert {tuple(frame.poses.track_ids) for frame in frames} == {(1,)}
    for frame in frames:  # boxes go along with the poses
        left = 5.0 * frame.frame
        assert frame.poses.boxes_xyxy[0] == pytest.approx([left, 20, left + 40, 120], abs=2)


def test_the_detector_looks_again_when_somebody_gets_lost(path):
    walker = Walker(confidence=lambda number: 0.9 if number != 7 else 0.2)
    followed(path, walker, tracking=TrackingOptions(), detect_every=10)
    assert walker.detected == [1, 9, 19]  # after the doubtful frame, whose id is 8


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"smoothing": SmoothingOptions()}, "smoothing needs"),
        ({"detect_every": 2}, "needs people who are followed"),
        ({"detect_every": 0}, "got 0"),
    ],
)
def test_what_does_not_go_together_is_refused(path, how, message):
    with pytest.raises(OptionError, match=message):
        followed(path, Walker(), **how)
