"""Videos on the command line; the networks are stood in for by somebody who knows the answer."""

from __future__ import annotations

import json
import socket
import time
from pathlib import Path

import pytest
from commands import error_of, lines, posepipe
from fileserver import file_server
from PIL import Image
from video_files import numbered, write_empty, write_sound, write_video
from walker import Walker
from web_camera import web_camera

from posepipe.io import video_sources
from posepipe.io.videos import Video

pytest.importorskip("av")


class SlowWalker(Walker):
    """It takes longer for a frame than the next one takes to come."""

    def __call__(self, image):  # type: ignore[no-untyped-def]
        time.sleep(0.1)
        return super().__call__(image)


@pytest.fixture(autouse=True)
def walker(monkeypatch: pytest.MonkeyPatch) -> Walker:
    walker = Walker()
    monkeypatch.setattr("posepipe.cli.videos.pipeline_of", lambda *_, **__: walker)
    return walker


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return write_video(tmp_path / "clip.mp4", numbered(12), sound=True)


def test_a_video_in_one_go(clip: Path, tmp_path: Path) -> None:
    out = {name: tmp_path / name for name in ("kps.json", "out.mp4", "mot.csv")}
    result = posepipe(
        *("run", clip, "-o", out["kps.json"], "--track", "--smooth", "--draw", out["out.mp4"]),
        *("--trails", "--mot", out["mot.csv"], "--every", 2, "--start", 0.2),
    )
    assert (result.exit_code, lines(result)) == (0, [])
    frames = [entry["frame"] for entry in json.loads(out["kps.json"].read_text())]
    assert frames == [2, 4, 6, 8, 10]
    assert len(out["mot.csv"].read_text().splitlines()) == 5
    with Video(str(out["out.mp4"])) as video:
        assert len(list(video)) == 5


def test_the_poses_of_a_video_are_drawn_into_it_with_its_sound(clip: Path, tmp_path: Path) -> None:
    import av

    assert posepipe("run", clip, "-o", tmp_path / "kps.json", "--track").exit_code == 0
    drawn = tmp_path / "drawn.mp4"
    result = posepipe("draw", tmp_path / "kps.json", "--video", drawn, "--ids", "--trails")
    assert (result.exit_code, result.stdout) == (0, f"{drawn}\n")
    with av.open(str(drawn)) as video:
        assert len(video.streams.audio) == 1
        assert len(list(video.decode(video=0))) == 12
    result = posepipe("draw", tmp_path / "kps.json", "--video", clip)
    assert "destroy" in error_of(result)
    meant = tmp_path / "meant.mp4"
    assert posepipe("draw", tmp_path / "kps.json", "-o", meant, "--ids", "--trails").exit_code == 0
    with Video(str(meant)) as video:
        assert len(list(video)) == 12
    result = posepipe("draw", tmp_path / "kps.json", "-o", tmp_path / "pictures")
    assert result.exit_code == 0  # frame by frame, as images
    assert len(list((tmp_path / "pictures").iterdir())) == 12
    page = tmp_path / "page"
    assert posepipe("view", tmp_path / "kps.json", "--export", page).exit_code == 0
    assert len(list((page / "images").iterdir())) == 12


def test_lines_to_stdout(clip: Path) -> None:
    result = posepipe("run", clip, "-o", "-", "--end", 0.35)
    assert result.exit_code == 0
    assert [json.loads(line)["frame"] for line in result.stdout.splitlines()] == [0, 1, 2, 3]


def test_boxes_of_a_video(clip: Path, tmp_path: Path) -> None:
    result = posepipe("detect", clip, "-o", tmp_path / "boxes.json", "--fps", 5)
    assert (result.exit_code, lines(result)) == (0, [])
    document = json.loads((tmp_path / "boxes.json").read_text())
    assert [image["frame"] for image in document["images"]] == [0, 2, 4, 6, 8, 10]
    drawn = tmp_path / "drawn"
    assert posepipe("draw", tmp_path / "boxes.json", "-o", drawn).exit_code == 0
    assert len(list(drawn.iterdir())) == 6


def test_a_window_shows_what_is_drawn_until_somebody_closes_it(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = []

    class Window:
        def __init__(self, title: str) -> None:
            assert title == str(clip)

        def __enter__(self) -> Window:
            return self

        def __exit__(self, *_: object) -> None:
            shown.append("closed")

        def show(self, pixels: object) -> None:
            if len(shown) == 3:
                raise KeyboardInterrupt
            shown.append(pixels.shape)  # type: ignore[attr-defined]

    monkeypatch.setattr("posepipe.videos.outputs.Window", Window)
    monkeypatch.setattr("posepipe.videos.options.check_window", lambda: None)
    output, drawn = tmp_path / "poses.jsonl", tmp_path / "out.mp4"
    result = posepipe("run", clip, "-o", output, "--show", "--track", "--ids", "--draw", drawn)
    assert result.exit_code == 130
    assert shown == [(48, 64, 3)] * 3 + ["closed"]
    assert len(output.read_text().splitlines()) == 4
    with Video(str(drawn)) as video:
        assert len(list(video)) == 4


def test_poses_from_the_boxes_of_a_video(clip: Path, tmp_path: Path) -> None:
    """Here with a real network: what it reads are the frames."""
    boxes, output = tmp_path / "boxes.json", tmp_path / "kps.json"
    assert posepipe("detect", clip, "-o", boxes, "--every", 6).exit_code == 0
    result = posepipe("pose", boxes, "-o", output, "--model", "cpn-litehrnet-small-256x192")
    assert (result.exit_code, lines(result)) == (0, [])
    entries = json.loads(output.read_text())
    assert [(e["frame"], e["file_name"]) for e in entries] == [(0, "clip.mp4#0"), (6, "clip.mp4#6")]
    assert posepipe("draw", output, "--video", tmp_path / "out.mp4").exit_code == 0


@pytest.mark.parametrize("suffix", [".gif", ".webp"])
def test_an_animated_image_is_a_video(suffix: str, tmp_path: Path) -> None:
    first, *others = [Image.fromarray(pixels) for pixels in numbered(6)]
    path = tmp_path / f"a{suffix}"
    first.save(path, save_all=True, append_images=others, duration=100)
    out = ("-o", tmp_path / "kps.json", "--draw", tmp_path / "out.mp4")
    result = posepipe("run", path, *out, "--track")
    assert result.exit_code == 0, result.stderr
    entries = json.loads((tmp_path / "kps.json").read_text())
    assert [entry["seconds"] for entry in entries] == pytest.approx([0, 0.1, 0.2, 0.3, 0.4, 0.5])
    drawn = tmp_path / "drawn.mp4"
    result = posepipe("draw", tmp_path / "kps.json", "--video", drawn)
    assert result.exit_code == 0, result.stderr
    with Video(str(drawn)) as video:
        assert len(list(video)) == 6
    result = posepipe("draw", tmp_path / "kps.json", "-o", tmp_path / "pictures")
    assert result.exit_code == 0, result.stderr
    assert len(list((tmp_path / "pictures").iterdir())) == 6


def test_frames_in_a_folder_are_a_video_if_one_says_so(tmp_path: Path) -> None:
    for number, pixels in enumerate(numbered(4)):
        (tmp_path / "in").mkdir(exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / "in" / f"{number}.png")
    command = ("run", tmp_path / "in", "-o", tmp_path / "kps.json", "--track")
    assert "--as-video" in error_of(posepipe(*command))
    assert posepipe(*command, "--as-video", "--fps", 2).exit_code == 0
    entries = json.loads((tmp_path / "kps.json").read_text())
    assert [(e["file_name"], e["seconds"]) for e in entries] == [
        ("0.png", 0.0),
        ("1.png", 0.5),
        ("2.png", 1.0),
        ("3.png", 1.5),
    ]


def test_ctrl_c_leaves_a_journal_and_resume_goes_on(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, whole = tmp_path / "kps.json", tmp_path / "whole.json"
    assert posepipe("run", clip, "-o", whole, "--track").exit_code == 0
    monkeypatch.setattr("posepipe.cli.videos.pipeline_of", lambda *_, **__: Walker(stop_at=5))
    result = posepipe("run", clip, "-o", output, "--track")
    assert result.exit_code == 130
    assert "--resume" in result.stderr
    monkeypatch.setattr("posepipe.cli.videos.pipeline_of", lambda *_, **__: Walker())
    assert posepipe("run", clip, "-o", output, "--track", "--resume").exit_code == 0
    assert output.read_bytes() == whole.read_bytes()


def test_ctrl_c_while_lines_are_written_ends_well(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("posepipe.cli.videos.pipeline_of", lambda *_, **__: Walker(stop_at=5))
    output, drawn = tmp_path / "poses.jsonl", tmp_path / "out.mp4"
    result = posepipe("run", clip, "-o", output, "--draw", drawn)
    assert result.exit_code == 130
    assert len(output.read_text().splitlines()) == 5
    with Video(str(drawn)) as video:
        assert len(list(video)) == 5


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda path: path.write_bytes(b"nothing of the kind" * 9),
            "not a video that FFmpeg reads",
        ),
        (lambda path: path.write_bytes(b""), "not a video that FFmpeg reads"),
        (write_sound, "it has no video"),
        (write_empty, "it has no video"),
        (lambda path: None, "no such file"),
    ],
)
def test_what_is_no_video_is_one_line(make, message, walker: Walker, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    make(tmp_path / "bad.mp4")
    result = posepipe("run", tmp_path / "bad.mp4", "-o", tmp_path / "kps.json")
    assert message in error_of(result)
    assert walker.detected == []
    assert not (tmp_path / "kps.json").exists()


def test_a_video_cut_short_keeps_what_was_there(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mkv", numbered(40, (128, 96)))
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    result = posepipe("run", path, "-o", tmp_path / "kps.json")
    assert result.exit_code == 0
    assert 5 < len(json.loads((tmp_path / "kps.json").read_text())) < 40


def test_a_camera_that_goes_away_is_one_line_and_all_is_kept(tmp_path: Path) -> None:
    drawn, output = tmp_path / "out.mp4", tmp_path / "poses.jsonl"
    with web_camera(images=50) as address:
        result = posepipe("run", address, "-o", output, "--track", "--draw", drawn)
    assert result.exit_code == 0
    said = [line for line in lines(result) if "came too fast" not in line]
    assert len(said) == 1
    assert said[0].startswith(f"posepipe: {address}: breaks off after")
    count = len(output.read_text().splitlines())
    assert count > 2
    with Video(str(drawn)) as video:
        assert len(list(video)) == count


def test_ctrl_c_ends_a_camera_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = tmp_path / "kps.json"
    monkeypatch.setattr("posepipe.cli.videos.pipeline_of", lambda *_, **__: SlowWalker(stop_at=3))
    with web_camera() as address:
        result = posepipe("run", address, "-o", output, "--track")
    assert result.exit_code == 130
    assert [entry["frame"] for entry in json.loads(output.read_text())] == [0, 1, 2]
    assert any("frames dropped" in line or "too fast" in line for line in lines(result))


def test_a_server_that_stalls_midway_is_one_line_and_all_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(video_sources, "READ_SECONDS", 1.0)
    with file_server() as server:
        path = write_video(tmp_path / "a.mkv", numbered(200, (128, 96)))
        server.files["/a.mkv"], server.faults = path.read_bytes(), ["stall"]
        result = posepipe("run", f"{server.url}/a.mkv", "-o", tmp_path / "kps.json")
        assert result.exit_code == 0
        [line] = lines(result)
        assert "no answer for too long" in line
        count = len(json.loads((tmp_path / "kps.json").read_text()))
        assert 10 < count < 200
        server.faults = ["stall"]
        strict = posepipe("run", f"{server.url}/a.mkv", "-o", tmp_path / "kps.json", "--strict")
        assert strict.exit_code == 1
        server.faults = []
        whole = posepipe("run", f"{server.url}/a.mkv", "-o", tmp_path / "kps.json")
    assert (whole.exit_code, lines(whole)) == (0, [])
    assert len(json.loads((tmp_path / "kps.json").read_text())) == 200


def test_a_server_that_stalls_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video_sources, "OPEN_SECONDS", 0.5)
    monkeypatch.setattr(video_sources, "READ_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}/clip.mp4"
        result = posepipe("run", address, "-o", tmp_path / "kps.json")
    assert "cannot be reached" in error_of(result)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "77", "-o", "kps.json"], "no camera"),
        (["run", "clip.mp4", "other.mp4", "-o", "kps.json"], "one at a time"),
        (["run", "clip.mp4", "a.jpg", "-o", "kps.json"], "a.jpg is not"),
        (["run", "clip.mp4", "-o", "kps.json", "--smooth"], "choose tracking"),
        (["run", "clip.mp4", "-o", "kps.json", "--ids"], "--draw"),
        (["run", "clip.mp4", "-o", "kps.json", "--mot", "mot.csv"], "choose tracking"),
        (["run", "clip.mp4", "-o", "kps.json", "--draw", "out.xyz"], "videos are written as"),
        (["run", "clip.mp4", "-o", "kps.json", "--draw", "no/out.mp4"], "no folder"),
        (["run", "clip.mp4", "-o", "no/kps.json"], "no folder"),
        (["run", "clip.mp4", "-o", "clip.mp4"], "destroy"),
        (["run", "clip.mp4", "-o", "kps.mp4"], "--draw"),
        (["run", "clip.mp4", "-o", "kps.csv", "--track"], "--mot"),
        (["run", "clip.mp4", "-o", "a.json", "--track", "--mot", "./a.json"], "named twice"),
        (["run", "clip.mp4", "-o", "a.jsonl", "--resume"], "only a kps.json can be resumed"),
        (["run", "clip.mp4", "-o", "kps.json", "--start", "9"], "no frame of it"),
        (["run", "clip.mp4", "-o", "kps.json", "--start", "3", "--end", "1"], "must come after"),
        (["run", "clip.mp4", "-o", "kps.json", "--show"], "no display"),
        (["run", "photos", "-o", "kps.json", "--draw", "out.mp4"], "--as-video"),
        (["run", "clip.mp4", "-o", "kps.json", "--as-video"], "leave out --as-video"),
    ],
)
def test_a_slip_costs_a_line(
    arguments: list[str], message: str, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(clip.parent)
    monkeypatch.delenv("DISPLAY", raising=False)
    before = clip.read_bytes()
    assert message in error_of(posepipe(*arguments))
    assert clip.read_bytes() == before
