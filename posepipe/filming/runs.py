"""Runs over a film that end in files: kps.json or lines as they come, tracks, a drawn film.

Of a film that is a file every frame's poses go into a journal, as pictures' do. A resumed run
decodes the film from its beginning, takes from the journal what the networks found, and lets
everything after them (numbers, smoothing, drawing) go over it again, so that it gives the same
bytes as a run that never stopped.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import msgspec

from posepipe.core.boxes import Detections
from posepipe.core.poses import Poses
from posepipe.drawing.draw import draw_poses
from posepipe.drawing.film_writer import FilmWriter, check_film_path
from posepipe.drawing.style import DrawStyle
from posepipe.drawing.trails import Trails
from posepipe.errors import DocumentError, OptionError
from posepipe.filming.follow import FRAMES_TOGETHER, FramePoses, check_following, follow
from posepipe.io.documents import (
    BoxesDocument,
    KeypointsDocument,
    MadeBy,
    write_boxes,
    write_keypoints,
)
from posepipe.io.films import Film, as_image
from posepipe.io.images import ImageFile, ImageSet
from posepipe.io.journal import Entry, Journal
from posepipe.io.jsonfiles import cannot_write, check_output, write_whole
from posepipe.io.records import pose_records, rounded, rounded_seconds
from posepipe.pipeline import Pipeline
from posepipe.tracking.smoothing import SmoothingOptions
from posepipe.tracking.tracker import TrackingOptions

Found = TypeVar("Found", Poses, Detections)
LINES_SUFFIX = ".jsonl"
STDOUT = Path("-")


@dataclass(frozen=True, kw_only=True)
class FilmRunOptions:
    """How a run over a film behaves.

    Attributes:
        output: kps.json; or .jsonl, or "-" for stdout: a line a frame, as soon as it is there.
        tracking, smoothing, detect_every: see `posepipe.filming.follow.follow`.
        mot: a file for the tracks in the form of the MOT challenge, or None.
        draw: a film to draw, or None.
        style: of the drawn film.
        trails: whether people who are followed leave trails in the drawn film.
        resume: go on from the journal that an interrupted run left.
        workers: threads that prepare frames.
        progress: told after every frame how many people are in it.
        warn: told, in a line each, what of an interrupted run is lost.

    Raises:
        OptionError: options that do not go together.
    """

    output: Path
    tracking: TrackingOptions | None = None
    smoothing: SmoothingOptions | None = None
    detect_every: int = 1
    mot: Path | None = None
    draw: Path | None = None
    style: DrawStyle = field(default_factory=DrawStyle)
    trails: bool = False
    resume: bool = False
    workers: int = 2
    progress: Callable[[int], None] = lambda people: None
    warn: Callable[[str], None] = lambda line: None

    def __post_init__(self) -> None:
        if self.tracking is None and (self.mot is not None or self.trails):
            what = "a file of tracks" if self.mot is not None else "drawing trails"
            raise OptionError(
                f"{what} needs people who are followed: choose tracking, too (--track)"
            )
        if self.resume and self.gives_lines:
            raise OptionError("only a kps.json is resumed: lines that are out stay as they are")

    @property
    def gives_lines(self) -> bool:
        """Whether every frame's poses go out at once."""
        return self.output == STDOUT or self.output.suffix.lower() == LINES_SUFFIX

    def keeps_journal(self, film: Film) -> bool:
        """Whether a run over this film can be interrupted and resumed."""
        return film.is_file and not self.gives_lines

    def check(self, film: Film) -> None:
        """Check that the film's run makes sense and can be written, before any work.

        Raises:
            OptionError: following people without numbers; resuming a live source.
            PosepipeError: an output is a folder or in none, or a film of an unknown kind.
        """
        check_following(self.tracking, self.smoothing, self.detect_every)
        if self.resume and not self.keeps_journal(film):
            raise OptionError(f"{film.source} cannot be read again: only films in files resume")
        for path in (None if self.output == STDOUT else self.output, self.mot):
            if path is not None:
                check_output(path)
        if self.draw is not None:
            check_film_path(self.draw)


@dataclass(eq=False)
class FilmSummary:
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


def run_film(pipeline: Pipeline, film: Film, options: FilmRunOptions) -> FilmSummary:
    """The poses in every frame of a film that its options choose, into files.

    Ctrl-C ends a live source, and a run that gives lines, well: everything is written, and the
    summary says `interrupted`. Elsewhere the journal stays, and the interruption goes on.

    Args:
        pipeline: finds the people and their poses.
        film: open; its `problems` say afterwards what went wrong in reading it.
        options: see `FilmRunOptions`.

    Raises:
        OptionError: resuming a live source.
        PosepipeError: a model cannot be loaded, an output cannot be written.
    """
    options.check(film)
    keeps_journal = options.keeps_journal(film)
    pipeline.load()
    summary = FilmSummary()
    with ExitStack() as stack:
        journal = None
        if keeps_journal:
            print_of_run = _fingerprint(pipeline.made_by("run"), film, options)
            journal = stack.enter_context(_journal(options, print_of_run, Poses))
        frames = follow(
            pipeline,
            film,
            tracking=options.tracking,
            smoothing=options.smoothing,
            detect_every=options.detect_every,
            workers=options.workers,
            known=_known(journal),
            noted=lambda poses: _note(journal, poses.image_id, poses),
        )
        with ExitStack() as outputs:  # written as it closes; an error leaves no half of a file
            takers = _takers(outputs, film, options)
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


def detect_film(
    pipeline: Pipeline,
    film: Film,
    *,
    output: Path,
    resume: bool = False,
    workers: int = 2,
    progress: Callable[[int], None] = lambda people: None,
    warn: Callable[[str], None] = lambda line: None,
) -> BoxesDocument:
    """The people's boxes in every frame of a film into boxes.json, with a journal.

    Raises:
        OptionError: a live source, which has no end.
        PosepipeError: as `run_film`.
    """
    if film.is_live:
        raise OptionError(f"{film.source} has no end: `posepipe run` gives its poses as lines")
    check_output(output)
    made = pipeline.made_by("detect")
    made = msgspec.structs.replace(made, settings={**made.settings, "film": _choice(film)})
    images: list[ImageFile] = []
    found: list[Detections] = []
    options = FilmRunOptions(output=output, resume=resume, warn=warn)
    with _journal(options, _print(made, film), Detections) as journal:
        known = _known(journal)
        frames = (as_image(film, frame) for frame in film)
        for are_known, part in groupby(frames, key=lambda image: image.id in known):
            for image, people in _seen(pipeline, part, known if are_known else None, workers):
                if not are_known:
                    _note(journal, image.id, people)
                images.append(_without_pixels(image))
                found.append(people)
                progress(len(people))
        document = BoxesDocument(
            images=ImageSet(film.folder, tuple(images)),
            detections=tuple(found),
            sizes_wh={image.id: film.size_wh for image in images},
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
    workers: int,
) -> Iterator[tuple[ImageFile, Detections]]:
    if known is not None:
        return ((image, known[image.id]) for image in images)
    return pipeline.stream_detections(images, workers=workers, together=FRAMES_TOGETHER)


def _choice(film: Film) -> dict[str, Any]:
    """Which frames of a film are taken, as a run's settings have it."""
    return {"source": Path(film.source).name, "fps": film.fps, **asdict(film.options)}


def _fingerprint(made: MadeBy, film: Film, options: FilmRunOptions) -> dict[str, Any]:
    settings = {
        **made.settings,
        "film": _choice(film),
        "detect_every": options.detect_every,
        # They have a say in what the networks are asked where the detector rests.
        "tracking": asdict(options.tracking) if options.tracking else None,
    }
    return _print(msgspec.structs.replace(made, settings=settings), film)


def _print(made: MadeBy, film: Film) -> dict[str, Any]:
    file = Path(film.source)
    size = file.stat().st_size if file.is_file() else film.count
    return {**msgspec.to_builtins(made), "inputs": f"{file.absolute()}, {size}", "boxes": ""}


def _journal(options: FilmRunOptions, fingerprint: dict[str, Any], kind: type[Any]) -> Journal[Any]:
    if not options.resume:
        return Journal.start(options.output, fingerprint)
    journal: Journal[Any] = Journal.resume(options.output, fingerprint, kind)
    if journal.damaged:
        options.warn(
            f"{journal.path}: damaged lines are dropped ({journal.damaged}), and their frames done "
            "again"
        )
    return journal


def _known(journal: Journal[Found] | None) -> dict[int, Found]:
    entries = {} if journal is None else journal.finished
    return {n: entry.result for n, entry in entries.items() if entry.result is not None}


def _note(journal: Journal[Found] | None, image_id: int, found: Found) -> None:
    if journal is not None:
        journal.append(Entry(image_id, found))


Taker = Callable[[FramePoses], None]


def _takers(stack: ExitStack, film: Film, options: FilmRunOptions) -> list[Taker]:
    """Everything that is done with a frame; what they write is whole once the stack closes."""
    takers: list[Taker] = []
    if options.gives_lines:
        takers.append(stack.enter_context(_lines(options.output)))
    else:
        takers.append(stack.enter_context(_document(options.output, film)))
    if options.mot is not None:
        takers.append(stack.enter_context(_mot(options.mot)))
    if options.draw is not None:
        takers.append(stack.enter_context(_drawing(options.draw, film, options)))
    return takers


@contextmanager
def _document(path: Path, film: Film) -> Iterator[Taker]:
    images: list[ImageFile] = []
    poses: list[Poses] = []

    def take(frame: FramePoses) -> None:
        images.append(_without_pixels(frame.image))
        poses.append(frame.poses)

    yield take
    write_keypoints(path, KeypointsDocument(ImageSet(film.folder, tuple(images)), tuple(poses)))


@contextmanager
def _lines(path: Path) -> Iterator[Taker]:
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
def _mot(path: Path) -> Iterator[Taker]:
    """Frame from 1, number, left, top, width, height, score, and -1 three times, row by row."""
    rows: list[bytes] = []

    def take(frame: FramePoses) -> None:
        poses = frame.poses
        assert poses.track_ids is not None  # noqa: S101  # FilmRunOptions checks it
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
def _drawing(path: Path, film: Film, options: FilmRunOptions) -> Iterator[Taker]:
    trails = Trails() if options.trails else None
    is_one_file = film.is_file and Path(film.source).is_file()
    sound = film.source if is_one_file and not film.source.lower().endswith(".webp") else None
    start = film.options.start

    with FilmWriter(path, fps=_rate(film), sound_of=sound, start=start) as writer:

        def take(frame: FramePoses) -> None:
            pixels = frame.image.read()
            if trails is not None:
                pixels = trails(pixels, frame.poses, frame.seconds, style=options.style)
            writer.write(draw_poses(pixels, frame.poses, style=options.style), frame.seconds)

        yield take


def _rate(film: Film) -> float:
    """Frames a second of the frames that are taken."""
    rate = film.fps / film.options.every
    return rate if film.options.fps is None else min(rate, film.options.fps)


def _without_pixels(image: ImageFile) -> ImageFile:
    return replace(image, pixels=None)
