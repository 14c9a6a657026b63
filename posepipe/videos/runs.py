"""Runs over a video that end in files: kps.json or lines as they come, tracks, a drawn video.

Of a video that is a file every frame's poses go into a journal, as images' do. A resumed run
decodes the video from its beginning, takes from the journal what the networks found, and lets
everything after them (numbers, smoothing, drawing) go over it again, so that it gives the same
bytes as a run that never stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from posepipe.core.boxes import Detections
from posepipe.core.poses import Poses
from posepipe.errors import OptionError
from posepipe.io.documents import (
    BoxesDocument,
    MadeBy,
    write_boxes,
)
from posepipe.io.images import ImageFile, ImageSet
from posepipe.io.journal import Entry, Journal
from posepipe.io.jsonfiles import check_output
from posepipe.io.videos import Video, as_image
from posepipe.pipeline import Pipeline
from posepipe.videos.follow import FRAMES_TOGETHER, follow
from posepipe.videos.options import VideoRunOptions
from posepipe.videos.outputs import open_outputs

Found = TypeVar("Found", Poses, Detections)


@dataclass(eq=False)
class VideoSummary:
    """What came of a run.

    Attributes:
        frames: how many were worked on.
        people: how many poses there are in all of them.
        tracks: the numbers of those who were followed.
        interrupted: whether somebody stopped it; what there was by then is written.
    """

    frames: int = 0
    people: int = 0
    tracks: set[int] = field(default_factory=set)
    interrupted: bool = False

    def count(self, poses: Poses) -> None:
        """One more frame is done."""
        self.frames += 1
        self.people += len(poses)
        if poses.track_ids is not None:
            self.tracks.update(poses.track_ids[poses.track_ids > 0].tolist())


def run_video(pipeline: Pipeline, video: Video, options: VideoRunOptions) -> VideoSummary:
    """The poses in every frame of a video that its options choose, into files.

    Ctrl-C ends a live source, and a run that gives lines, well: everything is written, and the
    summary says `interrupted`. Elsewhere the journal stays, and the interruption goes on.

    Args:
        pipeline: finds the people and their poses.
        video: open; its `problems` say afterwards what went wrong in reading it.
        options: see `VideoRunOptions`.

    Raises:
        OptionError: resuming a live source.
        PosepipeError: a model cannot be loaded, an output cannot be written.
    """
    options.check(video)
    keeps_journal = options.keeps_journal(video)
    pipeline.load()
    summary = VideoSummary()
    with ExitStack() as stack:
        journal = None
        if keeps_journal:
            print_of_run = _fingerprint(pipeline.made_by("run"), video, options)
            journal = stack.enter_context(_journal(options, print_of_run, Poses))
        frames = follow(
            pipeline,
            video,
            tracking=options.tracking,
            smoothing=options.smoothing,
            detect_every=options.detect_every,
            workers=options.workers,
            known=_known(journal),
            noted=lambda poses: _note(journal, poses.image_id, poses),
        )
        with ExitStack() as outputs:  # written as it closes; an error leaves no half of a file
            takers = open_outputs(outputs, video, options)
            try:
                for frame in frames:
                    for take in takers:
                        take(frame)
                    summary.count(frame.poses)
                    options.progress(len(frame.poses))
            except KeyboardInterrupt:
                if keeps_journal:
                    raise
                summary.interrupted = True
        if journal is not None:
            journal.finish()
    return summary


def detect_video(
    pipeline: Pipeline,
    video: Video,
    *,
    output: Path,
    resume: bool = False,
    workers: int | None = None,
    progress: Callable[[int], None] = lambda people: None,
    warn: Callable[[str], None] = lambda line: None,
) -> BoxesDocument:
    """The people's boxes in every frame of a video into boxes.json, with a journal.

    Raises:
        OptionError: a live source, which has no end.
        PosepipeError: as `run_video`.
    """
    if video.is_live:
        raise OptionError(f"{video.source} has no end: `posepipe run` gives its poses as lines")
    check_output(output)
    made = pipeline.made_by("detect")
    made = msgspec.structs.replace(made, settings={**made.settings, "video": _choice(video)})
    images: list[ImageFile] = []
    found: list[Detections] = []
    options = VideoRunOptions(output=output, resume=resume, warn=warn)
    with _journal(options, _print(made, video), Detections) as journal:
        known = _known(journal)
        frames = (as_image(video, frame) for frame in video)
        for are_known, part in groupby(frames, key=lambda image: image.id in known):
            for image, people in _seen(pipeline, part, known if are_known else None, workers):
                if not are_known:
                    _note(journal, image.id, people)
                images.append(replace(image, pixels=None))
                found.append(people)
                progress(len(people))
        document = BoxesDocument(
            images=ImageSet(video.folder, tuple(images)),
            detections=tuple(found),
            made_by=made,
            category=pipeline.detection_stage.settings.category,
        )
        write_boxes(output, document)
        journal.finish()
    return document


def _seen(
    pipeline: Pipeline,
    images: Iterator[ImageFile],
    known: dict[int, Detections] | None,
    workers: int | None,
) -> Iterator[tuple[ImageFile, Detections]]:
    if known is not None:
        return ((image, known[image.id]) for image in images)
    return pipeline.stream_detections(images, workers=workers, together=FRAMES_TOGETHER)


def _choice(video: Video) -> dict[str, Any]:
    """Which frames of a video are taken, as a run's settings have it."""
    return {"source": Path(video.source).name, "fps": video.fps, **asdict(video.options)}


def _fingerprint(made: MadeBy, video: Video, options: VideoRunOptions) -> dict[str, Any]:
    settings = {
        **made.settings,
        "video": _choice(video),
        "detect_every": options.detect_every,
        # They have a say in what the networks are asked where the detector rests.
        "tracking": asdict(options.tracking) if options.tracking else None,
    }
    return _print(msgspec.structs.replace(made, settings=settings), video)


def _print(made: MadeBy, video: Video) -> dict[str, Any]:
    file = Path(video.source)
    size = file.stat().st_size if file.is_file() else video.count
    return {**msgspec.to_builtins(made), "inputs": f"{file.absolute()}, {size}", "boxes": ""}


def _journal(
    options: VideoRunOptions, fingerprint: dict[str, Any], kind: type[Any]
) -> Journal[Any]:
    return Journal.begin(
        options.output,
        fingerprint,
        kind,
        resume=options.resume,
        warn=options.warn,
        items="frames",
    )


def _known(journal: Journal[Found] | None) -> dict[int, Found]:
    entries = {} if journal is None else journal.finished
    return {n: entry.result for n, entry in entries.items() if entry.result is not None}


def _note(journal: Journal[Found] | None, image_id: int, found: Found) -> None:
    if journal is not None:
        journal.append(Entry(image_id, found))
