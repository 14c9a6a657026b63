"""Runs over videos: what they write, and what becomes of an interruption."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image
from video_files import numbered, write_video
from walker import Walker

from posepipe.errors import DocumentError, ImageError, OptionError
from posepipe.io.documents import read_keypoints
from posepipe.io.find_images import find_images
from posepipe.io.frame_videos import VideoOfImages
from posepipe.io.videos import Video, VideoOptions
from posepipe.tracking.smoothing import SmoothingOptions
from posepipe.tracking.tracker import TrackingOptions
from posepipe.videos.options import VideoRunOptions
from posepipe.videos.runs import detect_video, run_video

pytest.importorskip("av")
FOLLOWED = {"tracking": TrackingOptions(), "smoothing": SmoothingOptions()}


@pytest.fixture
def path(tmp_path):
    return str(write_video(tmp_path / "a.mp4", numbered(20, (144, 128))))


def run(path, output, walker=None, frames=None, **how):
    with Video(path, frames or VideoOptions()) as video:
        return run_video(walker or Walker(noise=1.0), video, VideoRunOptions(output=output, **how))


def test_every_frame_is_written_with_its_time_and_the_persons_number(path, tmp_path):
    summary = run(path, tmp_path / "kps.json", **FOLLOWED)
    assert (summary.frames, summary.people, summary.tracks) == (20, 20, {1})
    entries = json.loads((tmp_path / "kps.json").read_text())
    assert [entry["frame"] for entry in entries] == list(range(20))
    assert [entry["seconds"] for entry in entries] == pytest.approx(np.arange(20) / 10, abs=2e-3)
    assert {entry["track_id"] for entry in entries} == {1}
    assert entries[3]["file_name"] == "a.mp4#3"
    assert not list(tmp_path.glob("*.journal"))


@pytest.mark.parametrize("detect_every", [1, 4])
@pytest.mark.parametrize("stop_at", [1, 9])
def test_a_resumed_run_gives_the_same_bytes(path, tmp_path, detect_every, stop_at):
    how = {**FOLLOWED, "detect_every": detect_every}
    run(path, tmp_path / "whole.json", mot=tmp_path / "whole.csv", **how)
    output = tmp_path / "kps.json"
    with pytest.raises(KeyboardInterrupt):
        run(path, output, Walker(noise=1.0, stop_at=stop_at), **how)
    assert not output.exists()
    with pytest.raises(DocumentError, match="--resume"):
        run(path, output, **how)
    walker = Walker(noise=1.0)
    run(path, output, walker, resume=True, mot=tmp_path / "kps.csv", **how)
    assert output.read_bytes() == (tmp_path / "whole.json").read_bytes()
    assert (tmp_path / "kps.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
    assert min(walker.detected + walker.posed) == stop_at + 1  # what was done is not done again


def test_a_run_is_not_resumed_with_other_frames(path, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(path, tmp_path / "kps.json", Walker(stop_at=4))
    with pytest.raises(DocumentError, match="every was 1, is 2"):
        run(path, tmp_path / "kps.json", frames=VideoOptions(every=2), resume=True)


def test_lines_come_as_soon_as_their_frame_is_there_and_outlast_an_interruption(path, tmp_path):
    output = tmp_path / "poses.jsonl"
    summary = run(path, output, Walker(stop_at=3), tracking=TrackingOptions())
    assert summary.interrupted
    lines = [json.loads(line) for line in output.read_text().splitlines()]
    assert [line["frame"] for line in lines] == [0, 1, 2]
    assert set(lines[0]) == {"frame", "seconds", "people"}
    [person] = lines[2]["people"]
    assert set(person) == {"keypoints", "score", "box_xyxy", "box_score", "track_id"}


def test_rows_of_the_mot_challenge(path, tmp_path):
    run(path, tmp_path / "kps.json", mot=tmp_path / "mot.csv", **FOLLOWED)
    rows = (tmp_path / "mot.csv").read_text().splitlines()
    assert rows[2] == "3,1,10.000,20.000,40.000,100.000,0.900000,-1,-1,-1"
    assert len(rows) == 20


def test_the_drawn_video_has_all_frames_at_their_times(path, tmp_path):
    run(path, tmp_path / "kps.json", draw=tmp_path / "out.mp4", trails=True, **FOLLOWED)
    with Video(path) as before, Video(str(tmp_path / "out.mp4")) as after:
        pairs = list(zip(before, after, strict=True))
    assert [b.seconds for b, _ in pairs] == pytest.approx([a.seconds for _, a in pairs], abs=2e-3)
    assert any(np.abs(b.pixels.astype(int) - a.pixels).max() > 60 for b, a in pairs)


def test_boxes_of_a_video_resume_too(path, tmp_path):
    with Video(path) as video:
        detect_video(Walker(), video, output=tmp_path / "whole.json")
    output = tmp_path / "boxes.json"
    with Video(path) as video, pytest.raises(KeyboardInterrupt):
        detect_video(Walker(stop_at=6), video, output=output)
    with Video(path) as video:
        detect_video(Walker(), video, output=output, resume=True)
    assert output.read_bytes() == (tmp_path / "whole.json").read_bytes()
    images = json.loads(output.read_text())["images"]
    assert [image["frame"] for image in images] == list(range(20))
    assert (images[0]["width"], images[0]["height"]) == (144, 128)


def test_images_are_frames_and_a_bad_one_is_passed_over(tmp_path):
    folder = tmp_path / "frames"
    folder.mkdir()
    for number, pixels in enumerate(numbered(12)):
        Image.fromarray(pixels).save(folder / f"{number}.png")
    (folder / "4.png").write_bytes(b"no image")
    with VideoOfImages(find_images([folder]), rate=5.0) as video:
        run_video(Walker(), video, VideoRunOptions(output=tmp_path / "kps.json", **FOLLOWED))
    assert len(video.problems) == 1
    images = read_keypoints(tmp_path / "kps.json").images
    assert [image.frame for image in images] == [n for n in range(12) if n != 4]
    assert [image.file_name for image in images][-1] == "11.png"
    assert images.images[-1].seconds == pytest.approx(11 / 5)
    assert images.images[-1].read().shape == (48, 64, 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"smoothing": SmoothingOptions()}, "choose tracking"),
        ({"detect_every": 3}, "choose tracking"),
        ({"draw": "out.xyz"}, "videos are written as"),
        ({"draw": "nowhere/out.mp4"}, "no folder"),
    ],
)
def test_options_that_cannot_be_met_are_told_before_any_work(path, tmp_path, options, message):
    if "draw" in options:
        options = {"draw": tmp_path / options["draw"]}
    walker = Walker()
    with pytest.raises((OptionError, ImageError), match=message):
        run(path, tmp_path / "kps.json", walker, **options)
    assert walker.detected == []
    assert not list(tmp_path.glob("kps.json*"))


def test_tracks_need_tracking_and_lines_are_not_resumed(tmp_path):
    with pytest.raises(OptionError, match="choose tracking"):
        VideoRunOptions(output=tmp_path / "kps.json", mot=tmp_path / "mot.csv")
    with pytest.raises(OptionError, match="resume"):
        VideoRunOptions(output=tmp_path / "poses.jsonl", resume=True)
