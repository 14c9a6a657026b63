"""What becomes of every frame's poses: kps.json or lines, tracks, a drawn video, a window."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

import msgspec

from posepipe.drawing.draw import draw_poses
from posepipe.drawing.trails import Trails
from posepipe.drawing.video_writer import VideoWriter
from posepipe.drawing.window import Window
from posepipe.errors import DocumentError
from posepipe.io.documents import growing_keypoints
from posepipe.io.jsonfiles import cannot_write, write_whole
from posepipe.io.records import pose_records, rounded, rounded_seconds
from posepipe.io.videos import Video
from posepipe.videos.follow import FramePoses
from posepipe.videos.options import STDOUT, VideoRunOptions

Output = Callable[[FramePoses], None]


def open_outputs(stack: ExitStack, video: Video, options: VideoRunOptions) -> list[Output]:
    """Everything that is done with a frame; what they write is whole once the stack closes."""
    outputs: list[Output] = []
    if options.gives_lines:
        outputs.append(stack.enter_context(_lines(options.output)))
    else:
        outputs.append(stack.enter_context(_document(options.output, video)))
    if options.mot is not None:
        outputs.append(stack.enter_context(_mot(options.mot)))
    if options.draw is not None or options.show:
        outputs.append(stack.enter_context(_drawing(video, options)))
    return outputs


@contextmanager
def _document(path: Path, video: Video) -> Iterator[Output]:
    with growing_keypoints(path, root=video.folder) as write:
        yield lambda frame: write(frame.image, frame.poses)


@contextmanager
def _lines(path: Path) -> Iterator[Output]:
    """A line a frame, which is out before the next frame is looked at."""
    try:
        out: BinaryIO = sys.stdout.buffer if path == STDOUT else path.open("wb")
    except OSError as error:
        raise cannot_write(path, error) from None
    try:
        yield lambda frame: _write_line(out, path, frame)
    finally:
        if path != STDOUT:
            out.close()


def _write_line(out: BinaryIO, path: Path, frame: FramePoses) -> None:
    people = []
    for record in pose_records(frame.poses, frame.image, ""):
        entry = msgspec.to_builtins(record)
        for key in ("image_id", "category_id", "file_name", "image_root", "frame", "seconds"):
            entry.pop(key)
        people.append(entry)
    line = {"frame": frame.frame, "seconds": rounded_seconds(frame.seconds), "people": people}
    try:
        out.write(msgspec.json.encode(line) + b"\n")
        out.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise DocumentError(f"{path} cannot be written: {error.strerror}") from None


@contextmanager
def _mot(path: Path) -> Iterator[Output]:
    """Frame from 1, number, left, top, width, height, score, and -1 three times, row by row."""
    rows: list[bytes] = []

    def take(frame: FramePoses) -> None:
        poses = frame.poses
        assert poses.track_ids is not None  # noqa: S101  # VideoRunOptions checks it
        boxes = rounded(poses.boxes_xyxy, 3)
        for number, (left, top, right, bottom), score in zip(
            poses.track_ids.tolist(), boxes.tolist(), poses.box_scores.tolist(), strict=True
        ):
            if number > 0:
                place = f"{left:.3f},{top:.3f},{right - left:.3f},{bottom - top:.3f}"
                rows.append(f"{frame.frame + 1},{number},{place},{score:.6f},-1,-1,-1\n".encode())

    yield take
    write_whole(path, rows)


@contextmanager
def _drawing(video: Video, options: VideoRunOptions) -> Iterator[Output]:
    """Each frame is drawn once, for the video and for the window."""
    trails = Trails() if options.trails else None
    with ExitStack() as stack:
        writer = window = None
        if options.draw is not None:
            writer = stack.enter_context(
                VideoWriter(
                    options.draw,
                    fps=_rate(video),
                    sound_of=video.sound,
                    start=video.options.start,
                )
            )
        if options.show:
            window = stack.enter_context(Window(video.source))

        def take(frame: FramePoses) -> None:
            pixels = frame.image.read()
            if trails is not None:
                pixels = trails(pixels, frame.poses, frame.seconds, style=options.style)
            pixels = draw_poses(pixels, frame.poses, style=options.style)
            if writer is not None:
                writer.write(pixels, frame.seconds)
            if window is not None:
                window.show(pixels)

        yield take


def _rate(video: Video) -> float:
    """Frames a second of the frames that are taken."""
    rate = video.fps / video.options.every
    return rate if video.options.fps is None else min(rate, video.options.fps)
