"""The video of a kps.json, drawn: its frames, its times, its sound."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from posepipe.drawing.draw import draw_poses
from posepipe.drawing.style import DrawStyle
from posepipe.drawing.trails import Trails
from posepipe.drawing.video_writer import VideoWriter, check_video_path
from posepipe.errors import OptionError
from posepipe.io.documents import KeypointsDocument
from posepipe.io.videos import Video, video_of


def video_path(document: KeypointsDocument) -> Path:
    """The video that a document's poses are of.

    Raises:
        OptionError: they are of images, or of nothing.
    """
    videos = {
        image.path.with_name(video_of(image.path.name))
        for image in document.images
        if image.frame is not None and "#" in image.path.name
    }
    if len(videos) != 1:
        raise OptionError("these are not the poses of one video: draw images into a folder, -o")
    return videos.pop()


def draw_video(
    document: KeypointsDocument,
    video: Video,
    target: Path,
    *,
    style: DrawStyle | None = None,
    trails: bool = False,
    progress: Callable[[int], None] = lambda people: None,
) -> int:
    """Draw poses into a copy of their video; how many frames it has.

    Where not every frame was looked at (`--every`), people stay drawn until the next one that was.

    Args:
        document: poses of frames.
        video: theirs, open.
        target: ends with .mp4, .mov, .mkv or .webm.
        style: of the drawing; None is the default style.
        trails: whether people who are followed leave trails.
        progress: told after every frame how many people are in it.

    Raises:
        ImageError: the video cannot be written.
    """
    check_video_path(target)
    found = {
        image.frame: poses for image, poses in zip(document.images, document.poses, strict=True)
    }
    numbers = sorted(number for number in found if number is not None)
    step = min((b - a for a, b in zip(numbers, numbers[1:], strict=False)), default=1)
    trail = Trails() if trails else None
    count, last, since = 0, None, 0
    with VideoWriter(target, fps=video.fps, sound_of=video.sound) as writer:
        for frame in video:
            if frame.number in found:
                last, since = found[frame.number], 0
            poses = last if last is not None and since < step else None
            since += 1
            pixels = frame.pixels
            if poses is not None:
                if trail is not None:
                    pixels = trail(pixels, poses, frame.seconds, style=style)
                pixels = draw_poses(pixels, poses, style=style)
            elif trail is not None and last is not None:
                pixels = trail(pixels, last.of(slice(0)), frame.seconds, style=style)
            writer.write(pixels, frame.seconds)
            progress(0 if poses is None else len(poses))
            count += 1
    return count
