"""Videos that are written: every frame at its time, sound kept, whole or not at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from video_files import number_of, numbered, write_video

from posepipe.drawing.video_writer import VideoWriter
from posepipe.errors import ImageError
from posepipe.io.videos import Video

av = pytest.importorskip("av")


def copied(source, target, **options):
    with Video(str(source)) as video, VideoWriter(target, fps=video.fps, **options) as writer:
        for frame in video:
            writer.write(frame.pixels, frame.seconds)
    with Video(str(target)) as video:
        return list(video)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov", ".webm"])
def test_frames_keep_their_times(tmp_path, suffix):
    times = [0, 0.1, 0.2, 0.7, 0.8]
    source = write_video(tmp_path / "a.mp4", numbered(5), times=times)
    frames = copied(source, tmp_path / f"b{suffix}")
    assert [number_of(frame.pixels) for frame in frames] == [0, 1, 2, 3, 4]
    assert [frame.seconds for frame in frames] == pytest.approx(times, abs=0.002)


def test_what_is_written_is_h264_that_every_player_shows(tmp_path):
    copied(write_video(tmp_path / "a.mp4", numbered(3)), tmp_path / "b.mp4")
    with av.open(str(tmp_path / "b.mp4")) as video:
        stream = video.streams.video[0]
        assert (stream.codec_context.name, stream.pix_fmt) == ("h264", "yuv420p")


def test_odd_sizes_are_made_even(tmp_path):
    with VideoWriter(tmp_path / "a.mp4", fps=10) as writer:
        writer.write(np.full((33, 47, 3), 99, np.uint8), 0.0)
    with Video(str(tmp_path / "a.mp4")) as video:
        assert video.size_wh == (48, 34)


@pytest.mark.parametrize(("start", "seconds"), [(0.0, 1.0), (0.4, 0.6)])
def test_sound_is_kept_from_where_the_frames_begin(tmp_path, start, seconds):
    source = write_video(tmp_path / "a.mp4", numbered(10), sound=True)
    target = tmp_path / "b.mp4"
    with (
        Video(str(source)) as video,
        VideoWriter(target, fps=video.fps, sound_of=str(source), start=start) as writer,
    ):
        for frame in video:
            if frame.seconds >= start:
                writer.write(frame.pixels, frame.seconds)
    with av.open(str(target)) as video:
        parts = list(video.decode(audio=0))
    assert sum(part.samples for part in parts) / 16000 == pytest.approx(seconds, abs=0.15)


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".webm"])
@pytest.mark.parametrize("kind", ["pcm_s16le", "flac", "libmp3lame", "aac"])
def test_sound_of_any_kind_is_kept(tmp_path, kind, suffix):
    source = write_video(tmp_path / "a.mkv", numbered(10), sound=kind)
    target = tmp_path / f"b{suffix}"
    assert len(copied(source, target, sound_of=str(source))) == 10
    with av.open(str(target)) as video:
        seconds = sum(part.samples / part.sample_rate for part in video.decode(audio=0))
    assert seconds == pytest.approx(1.0, abs=0.15)


def test_sound_that_breaks_off_does_not_spoil_the_video(tmp_path):
    source = write_video(tmp_path / "a.mp4", numbered(10), sound=True)
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    for sound in (broken, tmp_path / "absent.mp4"):
        assert len(copied(source, tmp_path / "b.mp4", sound_of=str(sound))) == 10


def test_a_silent_video_stays_silent(tmp_path):
    source = write_video(tmp_path / "a.mp4", numbered(3))
    assert len(copied(source, tmp_path / "b.mp4", sound_of=str(source))) == 3


def test_after_an_error_there_is_no_file(tmp_path):
    def interrupted():
        with VideoWriter(tmp_path / "a.mp4", fps=10) as writer:
            writer.write(numbered(1)[0], 0.0)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []


def test_no_frames_make_no_video(tmp_path):
    with VideoWriter(tmp_path / "a.mp4", fps=10):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_disk_without_room_is_one_line(tmp_path, monkeypatch):
    def full(self, packets):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(VideoWriter, "_mux", full)
    source = write_video(tmp_path / "a.mp4", numbered(3))
    with pytest.raises(ImageError, match=r"b\.mp4 cannot be written: No space left"):
        copied(source, tmp_path / "b.mp4")
    monkeypatch.undo()
    assert list(tmp_path.iterdir()) == [source]


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="no /proc to be refused by")
def test_a_folder_that_takes_no_files_is_one_line():
    with pytest.raises(ImageError, match=r"^/proc/self/a\.mp4 cannot be written: "):
        VideoWriter("/proc/self/a.mp4", fps=10)


@pytest.mark.parametrize(
    ("name", "message"),
    [("a.xyz", "videos are written as"), ("a", "videos are written as"), ("no/a.mp4", "no folder")],
)
def test_a_path_that_cannot_be_written_is_one_line(tmp_path, name, message):
    with pytest.raises(ImageError, match=message):
        VideoWriter(tmp_path / name, fps=10)


def test_what_a_killed_drawing_left_is_removed(tmp_path):
    left = tmp_path / ".a.mp4.123.tmp"
    left.write_bytes(b"half a video")
    with VideoWriter(tmp_path / "a.mp4", fps=10) as video:
        assert not left.exists()
        with pytest.raises(ImageError, match="another process is writing"):
            VideoWriter(tmp_path / "a.mp4", fps=10)
        video.write(np.zeros((32, 32, 3), np.uint8), 0.0)
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]
