"""What commands have in common that take videos: which frames, and how people are followed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from posepipe.cli.options import (
    COUNT,
    PATH,
    check_output,
    image_set,
    together,
)
from posepipe.cli.progress import count_of, progress_bar, say
from posepipe.cli.stage_options import (
    chosen_detection,
    chosen_pose,
    compile_if_wanted,
    pipeline_of,
)
from posepipe.cli.terminal import echo
from posepipe.errors import OptionError

if TYPE_CHECKING:
    from posepipe.io.documents import BoxesDocument
    from posepipe.io.videos import Video, VideoOptions
    from posepipe.videos.runs import VideoSummary

# Of `--every` and the rest: the parameters that images have no use for, by their flags.
_FRAMES = {
    "every": "--every",
    "fps": "--fps",
    "start": "--start",
    "end": "--end",
    "as_video": "--as-video",
}
_FOLLOWING = {
    "track": "--track",
    "smooth": "--smooth",
    "detect_every": "--detect-every",
    "draw": "--draw",
    "show": "--show",
    "ids": "--ids",
    "trails": "--trails",
    "mot": "--mot",
}

frame_options: Callable[[Any], Any] = together(
    click.option("--every", type=COUNT, help="Video: process every n-th frame."),
    click.option(
        "--fps",
        type=float,
        help="Video: process at most this many frames per second; with --as-video, the frame rate.",
    ),
    click.option("--start", type=float, help="Video: start at this time, in seconds."),
    click.option("--end", type=float, help="Video: stop at this time, in seconds."),
)
video_options: Callable[[Any], Any] = together(
    frame_options,
    click.option(
        "--as-video",
        is_flag=True,
        help="Treat the images as the frames of a video, in order of their names.",
    ),
)
following_options: Callable[[Any], Any] = together(
    click.option("--track", is_flag=True, help="Video: track people; each keeps a number."),
    click.option("--smooth", is_flag=True, help="Video: smooth the keypoints; needs --track."),
    click.option(
        "--detect-every",
        type=COUNT,
        help="Video: run the detector on every n-th frame, and follow the poses in between; "
        "needs --track.",
    ),
    click.option(
        "--draw", type=PATH, help="Video: draw the poses into this .mp4, .mov, .mkv or .webm."
    ),
    click.option(
        "--show", is_flag=True, help="Video: show the drawn frames in a window; q ends the run."
    ),
    click.option("--ids", is_flag=True, help="Draw each person's number, in a colour of its own."),
    click.option("--trails", is_flag=True, help="Draw the path of each person."),
    click.option(
        "--mot",
        type=PATH,
        help="Video: write the tracks to this CSV file, in MOT Challenge format.",
    ),
)


def are_videos(options: dict[str, Any]) -> bool:
    """Whether a command's inputs are a video, rather than images.

    Raises:
        OptionError: videos and images together, several videos, or options of videos for images.
    """
    from posepipe.io.video_sources import is_video

    inputs = options["inputs"]
    videos = [text for text in inputs if is_video(text)]
    if options["shard"] is not None and (videos or options["as_video"]):
        raise OptionError("--shard is for images: a video is processed frame by frame")
    if options["as_video"]:
        if videos:
            raise OptionError(f"{videos[0]} is a video already: leave out --as-video")
        return True
    if videos and len(inputs) > 1:
        other = next((text for text in inputs if text not in videos), None)
        if other is None:
            raise OptionError(f"{len(videos)} videos were named: give one at a time")
        raise OptionError(f"{videos[0]} is a video, {other} is not: give one video or images alone")
    if videos:
        return True
    for name, flag in (_FRAMES | _FOLLOWING).items():
        if options.get(name):
            raise OptionError(f"{flag} is for videos; frames in a folder are one with --as-video")
    return False


def open_video(options: dict[str, Any]) -> Video:
    """The video that a command's options name.

    Raises:
        PosepipeError: it cannot be opened, or there is no image in it.
    """
    from posepipe.io.frame_videos import VideoOfImages
    from posepipe.io.videos import Video

    if not options["as_video"]:
        return Video(options["inputs"][0], _frames(options, options["fps"]))
    rate = options["fps"]
    if rate is not None and not 0 < rate <= 1000:
        raise OptionError(f"--fps is the rate of --as-video: above 0, up to 1000, got {rate}")
    images = image_set(options)
    return VideoOfImages(images, rate=rate or 25.0, options=_frames(options, None))


def _frames(options: dict[str, Any], fps: float | None) -> VideoOptions:
    from posepipe.io.videos import VideoOptions

    return VideoOptions(
        every=options["every"] or 1, fps=fps, start=options["start"] or 0.0, end=options["end"]
    )


@contextmanager
def video_progress(video: Video, what: str, output: Path) -> Iterator[Callable[[int], None]]:
    """A bar over a video's frames, then what went wrong in reading it, line by line."""
    chosen, total = video.options, video.count
    if total is not None:
        end = total if chosen.end is None else min(total, round(chosen.end * video.fps))
        total = max(0, end - round(chosen.start * video.fps)) // chosen.every
    frames = 0
    with progress_bar(total, what, output) as bar:

        def count(people: int) -> None:
            nonlocal frames
            frames += 1
            bar(people)

        yield count
    for problem in video.problems if frames else ():  # without a frame they are the error
        echo(f"posepipe: {problem}", err=True)
    if video.dropped:
        echo(f"posepipe: {count_of(video.dropped, 'frame')} came too fast and left out", err=True)


def run_video_command(options: dict[str, Any], output: Path) -> VideoSummary:
    """`posepipe run` over a video.

    Raises:
        PosepipeError: see `posepipe.videos.runs.run_video`; no frame could be read.
    """
    from posepipe.drawing.style import DrawStyle
    from posepipe.drawing.video_writer import CODECS
    from posepipe.tracking.smoothing import SmoothingOptions
    from posepipe.tracking.tracker import TrackingOptions
    from posepipe.videos.options import VideoRunOptions
    from posepipe.videos.runs import run_video

    draw, mot = options["draw"], options["mot"]
    if draw is None and not options["show"] and (options["ids"] or options["trails"]):
        raise OptionError("--ids and --trails draw: name a video with --draw, or --show it")
    written = [path for path in (output, draw, mot) if path is not None and str(path) != "-"]
    for place, path in enumerate(written):
        if path.absolute() in (earlier.absolute() for earlier in written[:place]):
            raise OptionError(f"{path} is named twice: what is written second would destroy it")
        if path.exists():
            check_output(path, options["inputs"])
    if output.suffix.lower() in (*CODECS, ".csv"):
        flag = "--mot" if output.suffix.lower() == ".csv" else "--draw"
        raise OptionError(
            f"{output}: poses are written as .json, .jsonl or to -; name this one with {flag}"
        )
    with open_video(options) as video:
        chosen = VideoRunOptions(
            output=output,
            tracking=TrackingOptions() if options["track"] else None,
            smoothing=SmoothingOptions() if options["smooth"] else None,
            detect_every=options["detect_every"] or 1,
            mot=mot,
            draw=draw,
            show=options["show"],
            style=DrawStyle(ids=options["ids"] or options["trails"]),
            trails=options["trails"],
            resume=options["resume"],
            workers=options["workers"],
            warn=lambda line: echo(f"posepipe: warning: {line}", err=True),
        )
        chosen.check(video)
        pipeline = pipeline_of(
            options, detection=chosen_detection(options), pose=chosen_pose(options)
        )
        compile_if_wanted(pipeline, options, "run", images=0)  # nobody knows how many
        with video_progress(video, "run", output) as bar:
            summary = run_video(pipeline, video, replace(chosen, progress=bar))
        if summary.interrupted:
            raise KeyboardInterrupt
        check_frames(video, summary.frames, output, strict=options["strict"])
    return summary


def detect_video_command(options: dict[str, Any], output: Path) -> BoxesDocument:
    """`posepipe detect` over a video.

    Raises:
        PosepipeError: see `posepipe.videos.runs.detect_video`; no frame could be read.
    """
    from posepipe.videos.runs import detect_video

    check_output(output, options["inputs"])
    with open_video(options) as video:
        pipeline = pipeline_of(options, detection=chosen_detection(options))
        compile_if_wanted(pipeline, options, "detect", images=0)  # nobody knows how many
        with video_progress(video, "detect", output) as bar:
            document = detect_video(
                pipeline,
                video,
                output=output,
                resume=options["resume"],
                workers=options["workers"],
                progress=bar,
                warn=lambda line: echo(f"posepipe: warning: {line}", err=True),
            )
        check_frames(video, len(document.images), output, strict=options["strict"])
    return document


def check_frames(video: Video, frames: int, output: Path, *, strict: bool) -> None:
    """Raise if a video gave nothing, or, in strict mode, anything went wrong in reading it.

    Raises:
        ImageError: so it was.
    """
    from posepipe.errors import ImageError

    if not frames:
        reason = (
            video.problems[0] if video.problems else f"{video.source}: no frame of it was worked on"
        )
        raise ImageError(f"{reason}: {output} has nobody in it")
    if strict and video.problems:
        raise ImageError(
            f"{video.source}: some of it could not be read, which --strict does not allow"
        )


def report_frames(frames: int, people: int, output: Path, *, verbose: bool) -> None:
    """How many people were found in how many frames."""
    if not people:
        echo(f"posepipe: no people found in {count_of(frames, 'frame')}", err=True)
    found = count_of(people, "person", "people")
    say(f"{count_of(frames, 'frame')}, {found}: {output}", verbose=verbose)
