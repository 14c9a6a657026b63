"""Poses in videos: people keep their numbers, keypoints do not jitter, detectors may rest.

with Video("clip.mp4") as video:
    for frame in follow(pipeline, video):
        print(frame.seconds, frame.poses.track_ids)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby

from posepipe.core.poses import Poses
from posepipe.errors import OptionError
from posepipe.io.images import ImageFile
from posepipe.io.videos import Video, as_image
from posepipe.pipeline import Pipeline
from posepipe.tracking.smoothing import Smoother, SmoothingOptions
from posepipe.tracking.tracker import Tracker, TrackingOptions
from posepipe.videos.between import between_detections

FRAMES_TOGETHER = 8


@dataclass(frozen=True, eq=False)
class FramePoses:
    """A frame and the people in it.

    Attributes:
        image: the frame; its id is `frame` + 1, and its pixels are in memory.
        frame: its number in the video, from 0.
        seconds: its time since the start of the video.
        poses: with `track_ids` if people are tracked.
    """

    image: ImageFile
    frame: int
    seconds: float
    poses: Poses


def follow(
    pipeline: Pipeline,
    video: Video,
    *,
    tracking: TrackingOptions | None = None,
    smoothing: SmoothingOptions | None = None,
    detect_every: int = 1,
    workers: int | None = None,
    known: Mapping[int, Poses] | None = None,
    noted: Callable[[Poses], None] = lambda poses: None,
) -> Iterator[FramePoses]:
    """The poses in the frames of a video, in order.

    Args:
        pipeline: the pipeline to use.
        video: the open video, whose options say which frames are used. From a live source, each
            frame's poses are ready before the next frame is taken.
        tracking: how people are tracked; None: no tracking.
        smoothing: how keypoints are smoothed, which needs tracking; None: no smoothing.
        detect_every: the detector looks at every n-th frame; in between, the people of the
            frame before are looked for where they would have moved to. Needs numbers.
        workers: threads that prepare frames ahead; None: see `posepipe.Pipeline.stream`.
        known: what was `noted` of frames before, by their images' ids: these are not looked at
            again, and everything after them is as if they had been.
        noted: told what the networks find in a frame, before people get numbers.

    Raises:
        OptionError: smoothing or fewer detections without tracking; `detect_every` below 1.
        PosepipeError: a model cannot be loaded.
    """
    check_following(tracking, smoothing, detect_every)
    tracker = Tracker(tracking) if tracking is not None else None
    smoother = Smoother(smoothing) if smoothing is not None else None
    if tracker is not None and detect_every > 1:
        found = between_detections(pipeline, video, tracker, detect_every, known or {}, noted)
    else:
        found = _in_every_frame(pipeline, video, workers, known or {}, noted)
    for image, poses in found:
        seconds = image.seconds or 0.0
        if tracker is not None and poses.track_ids is None:
            poses = tracker(poses, seconds)
        if smoother is not None:
            poses = smoother(poses, seconds)
        yield FramePoses(image, image.frame or 0, seconds, poses)


def check_following(
    tracking: TrackingOptions | None, smoothing: SmoothingOptions | None, detect_every: int
) -> None:
    """Check that options of `follow` go together.

    Raises:
        OptionError: smoothing or fewer detections without tracking; `detect_every` below 1.
    """
    if detect_every < 1:
        raise OptionError(
            f"the detector looks at every 1st frame or less often, got {detect_every}"
        )
    if tracking is None and (smoothing is not None or detect_every > 1):
        what = "smoothing" if smoothing is not None else "detecting in some frames only"
        raise OptionError(f"{what} needs people who are followed: choose tracking, too (--track)")


def _in_every_frame(
    pipeline: Pipeline,
    video: Video,
    workers: int | None,
    known: Mapping[int, Poses],
    noted: Callable[[Poses], None],
) -> Iterator[tuple[ImageFile, Poses]]:
    """Frames go through the stages together, as images do; of a live source one by one."""
    together = 1 if video.is_live else FRAMES_TOGETHER
    images = (as_image(video, frame) for frame in video)
    for are_known, part in groupby(images, key=lambda image: image.id in known):
        if are_known:
            for image in part:
                yield image, known[image.id]
            continue
        for image, poses in pipeline.stream(part, workers=workers, together=together):
            noted(poses)
            yield image, poses
