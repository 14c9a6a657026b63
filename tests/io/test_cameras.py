"""Cameras and streams: the newest frame wins; they may go away, hang, or be closed at any time."""

from __future__ import annotations

import threading
import time

import pytest
from video_files import number_of
from web_camera import web_camera

from posepipe.io import video_sources
from posepipe.io.videos import Video, VideoOptions

pytest.importorskip("av")
pytestmark = pytest.mark.timeout(60)


@pytest.fixture(autouse=True)
def _short_patience(monkeypatch):
    monkeypatch.setattr(video_sources, "READ_SECONDS", 1.0)


def readers():
    return [thread for thread in threading.enumerate() if thread.name == "posepipe-newest"]


def test_a_web_camera_is_live_and_its_newest_frame_is_taken():
    with web_camera() as address, Video(address) as video:
        assert video.is_live
        frames = iter(video)
        first = next(frames)
        time.sleep(0.5)
        later = next(frames)
        assert [first.number, later.number] == [0, 1]
        assert video.dropped > 5
        # FFmpeg makes up a clock for it, of 25 frames a second; it gives up to 50.
        assert 0.3 < later.seconds - first.seconds < 5
        assert 0 <= number_of(later.pixels) < 20
    assert not readers()


@pytest.mark.parametrize("taken", [0, 1, 5])
def test_a_camera_is_closed_while_it_gives_frames(taken):
    with web_camera() as address:
        for _ in range(3):
            with Video(address, VideoOptions(every=2)) as video:
                frames = iter(video)
                for _ in range(taken):
                    next(frames)
            assert not readers()


def test_a_video_that_nobody_goes_on_with_lets_go_of_its_camera():
    with web_camera() as address:
        video = Video(address)
        frames = iter(video)
        next(frames)
        frames.close()
        assert not readers()


def test_a_camera_that_goes_away_is_said_and_what_came_before_is_kept():
    with web_camera(images=40) as address, Video(address) as video:
        frames = list(video)
    assert len(frames) > 2
    [problem] = video.problems
    assert problem.startswith(f"{address}: breaks off after ")
    assert not readers()


def test_a_camera_that_hangs_is_said():
    with web_camera(images=40, hangs=True) as address, Video(address) as video:
        frames = list(video)
        assert len(frames) > 2
    [problem] = video.problems
    assert "no answer for too long" in problem


def test_a_camera_that_hangs_is_closed_all_the_same(monkeypatch):
    monkeypatch.setattr(video_sources, "READ_SECONDS", 20.0)
    monkeypatch.setattr("posepipe.io.newest.CLOSE_SECONDS", 0.2)
    with web_camera(images=40, hangs=True) as address:
        with Video(address) as video:
            next(iter(video))
            time.sleep(1)  # by now it hangs
            began = time.monotonic()
        assert time.monotonic() - began < 10
    for reader in readers():  # it ends with its read
        reader.join(10)
    assert not readers()
