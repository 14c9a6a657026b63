"""Videos: every frame once, in order and at its time; what is broken is said, the rest is kept."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from fileserver import file_server
from PIL import Image
from video_files import number_of, numbered, write_empty, write_sound, write_video

from posepipe.drawing.video_writer import VideoWriter
from posepipe.errors import ImageError, OptionError
from posepipe.io.images import ImageFile
from posepipe.io.video_sources import is_video
from posepipe.io.videos import Video, VideoOptions, as_image

pytest.importorskip("av")


def taken(path, **options):
    """(number, seconds) of the frames taken, and what their pixels say."""
    with Video(str(path), VideoOptions(**options)) as video:
        frames = list(video)
    for frame in frames:
        assert number_of(frame.pixels) == frame.number
    return [frame.number for frame in frames], [round(frame.seconds, 3) for frame in frames]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi", ".webm", ".mov"])
def test_every_frame_comes_once_at_its_time(tmp_path, suffix):
    video = write_video(tmp_path / f"clip{suffix}", numbered(12))
    numbers, seconds = taken(video)
    assert numbers == list(range(12))
    assert seconds == pytest.approx([n / 10 for n in range(12)], abs=0.002)


@pytest.mark.parametrize(
    ("name", "codec", "pixel_format"),
    [
        ("a.mov", "prores_ks", "yuv422p10le"),
        ("a.mov", "qtrle", "argb"),
        ("a.mov", "png", "rgba"),
        ("a.mkv", "ffv1", "gray"),
        ("a.mkv", "ffv1", "yuv444p"),
        ("a.avi", "mjpeg", "yuvj420p"),
        ("a.avi", "rawvideo", "yuv420p"),
        ("a.webm", "libvpx", "yuv420p"),
    ],
)
def test_codecs_and_pixel_formats_of_all_kinds(tmp_path, name, codec, pixel_format):
    video = write_video(tmp_path / name, numbered(6), codec=codec, pixel_format=pixel_format)
    assert taken(video)[0] == list(range(6))


def test_large_videos(tmp_path):
    path = write_video(tmp_path / "4k.mp4", numbered(2, (3840, 2160)))
    assert taken(path)[0] == [0, 1]


def test_a_video_tells_its_size_and_rate(tmp_path):
    with Video(str(write_video(tmp_path / "a.mp4", numbered(3, (96, 64)), rate=20))) as video:
        assert video.size_wh == (96, 64)
        assert video.fps == pytest.approx(20, rel=0.01)
        assert not video.is_live


def test_times_of_a_variable_rate_are_the_video_s_own(tmp_path):
    times = [0, 0.04, 0.5, 0.54, 2.0]
    video = write_video(tmp_path / "vfr.mp4", numbered(5), times=times)
    assert taken(video)[1] == pytest.approx(times, abs=0.002)


def test_time_goes_on_where_a_video_s_clock_begins_anew(tmp_path):
    one = write_video(tmp_path / "a.ts", numbered(12)).read_bytes()
    (tmp_path / "twice.ts").write_bytes(one + one)
    with Video(str(tmp_path / "twice.ts")) as video:
        seconds = [frame.seconds for frame in video]
    assert len(seconds) == 24
    assert seconds == pytest.approx([n / 10 for n in range(24)], abs=0.12)
    assert seconds == sorted(seconds)


@pytest.mark.parametrize(
    ("options", "numbers"),
    [
        ({"every": 3}, [0, 3, 6, 9, 12, 15, 18]),
        ({"fps": 5}, [0, 2, 4, 6, 8, 10, 12, 14, 16, 18]),
        ({"start": 1.0}, list(range(10, 20))),
        ({"end": 0.5}, [0, 1, 2, 3, 4]),
        ({"start": 0.7, "end": 1.2}, [7, 8, 9, 10, 11]),
        ({"start": 0.7, "every": 2, "end": 1.2}, [7, 9, 11]),
        ({"start": 99}, []),
    ],
)
def test_options_choose_frames(tmp_path, options, numbers):
    assert taken(write_video(tmp_path / "a.mp4", numbered(20)), **options)[0] == numbers


@pytest.mark.parametrize(
    "wrong", [{"every": 0}, {"fps": 0}, {"start": -1}, {"start": 2.0, "end": 1.0}]
)
def test_options_out_of_range_are_refused(wrong):
    with pytest.raises(OptionError):
        VideoOptions(**wrong)


def test_a_rotation_that_a_phone_notes_is_honoured(tmp_path):
    """A quarter turn in the header: the corner that was top left is top right."""
    path = write_video(tmp_path / "phone.mp4", numbered(2, (64, 48)))
    content = bytearray(path.read_bytes())
    upright = b"".join(n.to_bytes(4, "big") for n in (65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30))
    turned = b"".join(
        n.to_bytes(4, "big", signed=True) for n in (0, 65536, 0, -65536, 0, 0, 48 << 16, 0, 1 << 30)
    )
    place = content.rindex(upright)  # the track's; the video's own stands before it
    content[place : place + len(turned)] = turned
    path.write_bytes(content)
    with Video(str(path)) as video:
        frame = next(iter(video))
    assert frame.pixels.shape == (64, 48, 3)
    assert frame.pixels[:12, -10:].min() > 200
    assert frame.pixels[-12:].max() < 100


def test_an_animated_gif_is_a_video(tmp_path):
    path = tmp_path / "a.gif"
    images = [Image.fromarray(frame) for frame in numbered(5)]
    images[0].save(path, save_all=True, append_images=images[1:], duration=200, loop=0)
    assert is_video(path)
    numbers, seconds = taken(path)
    assert numbers == [0, 1, 2, 3, 4]
    assert seconds == pytest.approx([0, 0.2, 0.4, 0.6, 0.8], abs=0.01)
    images[0].save(tmp_path / "still.gif")
    assert not is_video(tmp_path / "still.gif")


def test_an_animated_webp_is_a_video(tmp_path):
    path = tmp_path / "a.webp"
    images = [Image.fromarray(frame) for frame in numbered(5)]
    images[0].save(path, save_all=True, append_images=images[1:], duration=[200, 200, 400] * 2)
    assert is_video(path)
    numbers, seconds = taken(path)
    assert numbers == [0, 1, 2, 3, 4]
    assert seconds == pytest.approx([0, 0.2, 0.4, 0.8, 1.0], abs=0.01)
    assert taken(path, start=0.3, end=0.9)[0] == [2, 3]
    (tmp_path / "b.webp").write_bytes(b"none")
    for name, message in (("b.webp", "not a WebP"), ("c.webp", "no such file")):
        with pytest.raises(ImageError, match=message):
            Video(str(tmp_path / name))


def test_a_video_cut_short_keeps_what_was_there(tmp_path):
    path = write_video(tmp_path / "a.mkv", numbered(40, (320, 240)))
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with Video(str(path)) as video:
        numbers = [frame.number for frame in video]
    assert numbers == list(range(len(numbers)))
    assert 5 < len(numbers) < 40


def test_a_broken_frame_is_named_and_passed_over(tmp_path):
    random = np.random.default_rng(0)
    noise = [random.integers(0, 255, (48, 64, 3)).astype(np.uint8) for _ in range(20)]
    path = write_video(tmp_path / "a.avi", noise)
    content = bytearray(path.read_bytes())
    for begin in range(len(content) // 3, len(content) // 2):
        content[begin] = 0xFF
    path.write_bytes(content)
    with Video(str(path)) as video:
        numbers = [frame.number for frame in video]
    assert numbers == list(range(len(numbers)))
    assert numbers
    assert all(problem.startswith(str(path)) for problem in video.problems)


def of_an_unknown_codec(path):
    content = write_video(path, numbered(3)).read_bytes()
    path.write_bytes(content.replace(b"avc1", b"zzzz"))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path.write_bytes(b"no video at all" * 99), "not a video that FFmpeg reads"),
        (lambda path: path.write_bytes(b""), "not a video that FFmpeg reads"),
        (write_sound, "it has no video"),
        (write_empty, "it has no video"),
        (of_an_unknown_codec, "cannot decode"),
        (lambda path: path.mkdir(), "no such file"),
        (lambda path: None, "no such file"),
    ],
)
def test_what_is_no_video_is_one_line(tmp_path, make, message):
    path = tmp_path / "a.mp4"
    make(path)
    with pytest.raises(ImageError, match=message) as error:
        Video(str(path))
    assert "\n" not in str(error.value)


def test_a_camera_that_is_not_there_is_one_line():
    with pytest.raises(ImageError, match="no camera"):
        Video("77")


def test_an_address_without_an_answer_is_one_line():
    with pytest.raises(ImageError, match="cannot be reached"):
        Video("http://127.0.0.1:9/video.mp4")


def noise(count):
    """Frames that make a video of some size."""
    random = np.random.default_rng(0)
    return [random.integers(0, 255, (120, 160, 3)).astype(np.uint8) for _ in range(count)]


@pytest.fixture(scope="module")
def video_of_40(tmp_path_factory):
    return write_video(tmp_path_factory.mktemp("video") / "a.mkv", noise(40)).read_bytes()


@pytest.fixture
def served(video_of_40):
    """A server with a video of 40 frames."""
    with file_server() as server:
        server.files["/a.mkv"] = video_of_40
        yield server


@pytest.mark.parametrize("fault", ["", "slow"])
def test_a_video_comes_over_the_network(served, fault):
    served.faults = [fault]
    with Video(f"{served.url}/a.mkv") as video:
        assert not video.is_live
        assert len(list(video)) == 40
    assert video.problems == []


@pytest.mark.parametrize(
    ("fault", "reason"), [("stall", "no answer for too long"), ("cut", "Input/output error")]
)
def test_a_server_that_gives_half_a_video_gives_its_frames(served, monkeypatch, fault, reason):
    monkeypatch.setattr("posepipe.io.video_sources.READ_SECONDS", 1.0)
    served.faults = [fault]
    with Video(f"{served.url}/a.mkv") as video:
        frames = list(video)
    assert 5 < len(frames) < 40
    assert [frame.seconds for frame in frames] == pytest.approx(
        [n / 10 for n in range(len(frames))]
    )
    [problem] = video.problems
    assert "breaks off after" in problem
    assert problem.endswith(reason)


@pytest.mark.parametrize("fault", ["404", "503"])
def test_what_a_server_has_not_is_one_line(served, fault):
    served.faults = [fault]
    with pytest.raises(ImageError, match="cannot be reached") as error:
        Video(f"{served.url}/a.mkv")
    assert fault[0] in str(error.value)


def test_a_video_that_cannot_be_read_in_order_is_to_be_downloaded(served, tmp_path):
    """Of an MP4 the index is its end, which this server cannot send alone."""
    served.files["/a.mp4"] = write_video(tmp_path / "a.mp4", noise(5)).read_bytes()
    with Video(f"{served.url}/a.mp4") as video:
        assert list(video) == []
    [problem] = video.problems
    assert "download it" in problem


def test_a_server_that_stalls_is_given_up(monkeypatch):
    import socket

    monkeypatch.setattr("posepipe.io.video_sources.OPEN_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        held = []
        thread = threading.Thread(target=lambda: held.append(silent.accept()))
        thread.start()
        with pytest.raises(ImageError, match="cannot be reached"):
            Video(f"http://127.0.0.1:{silent.getsockname()[1]}/video.mp4")
        thread.join()
        held[0][0].close()


def test_of_a_live_source_the_newest_frame_is_taken(tmp_path, monkeypatch):
    monkeypatch.setattr("posepipe.io.videos.is_live_source", lambda _: True)
    path = write_video(tmp_path / "a.mp4", numbered(20))
    with Video(str(path)) as video:
        frames = iter(video)
        first = next(frames)
        for thread in threading.enumerate():
            if thread.name == "posepipe-newest":
                thread.join()  # all of the video has come meanwhile
        rest = list(frames)
    assert [number_of(frame.pixels) for frame in rest] == [19]
    assert [frame.number for frame in (first, *rest)] == [0, 1]
    assert video.dropped + 2 == 20


def test_a_frame_is_an_item_of_a_stage(tmp_path):
    with Video(str(write_video(tmp_path / "a.mp4", numbered(3)))) as video:
        images = [as_image(video, frame) for frame in video]
    assert [image.id for image in images] == [1, 2, 3]
    assert images[2].file_name == "a.mp4#2"
    assert images[2].read().shape == (48, 64, 3)


@pytest.mark.parametrize("number", [0, 7, 19])
def test_a_frame_that_a_document_names_is_read_from_its_video(tmp_path, number):
    write_video(tmp_path / "a.mp4", numbered(20))
    named = tmp_path / f"a.mp4#{number}"
    image = ImageFile(number + 1, named, named.name, frame=number, seconds=number / 10)
    assert number_of(image.read()) == number
    assert image.size_wh == (64, 48)


def test_a_frame_after_the_end_is_one_line(tmp_path):
    write_video(tmp_path / "a.mp4", numbered(3))
    image = ImageFile(100, tmp_path / "a.mp4#99", "a.mp4#99", frame=99, seconds=9.9)
    with pytest.raises(ImageError, match="has no frame 99"):
        image.read()


def test_ffmpeg_says_nothing_whoever_had_it_speak(tmp_path) -> None:
    """Its threads would wait for Python's lock, and Python for them; torchvision 0.21 does that."""
    import av.logging

    path = write_video(tmp_path / "a.mp4", numbered(2))
    av.logging.set_level(av.logging.ERROR)
    assert taken(path)[0] == [0, 1]
    assert av.logging.get_level() is None
    av.logging.set_level(av.logging.ERROR)
    with VideoWriter(tmp_path / "b.mp4", fps=5) as writer:
        writer.write(np.zeros((16, 16, 3), np.uint8), 0.0)
    assert av.logging.get_level() is None
