"""What commands have in common that take films: which frames, and how people are followed."""

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
from posepipe.cli.stage_options import chosen_detection, chosen_pose, pipeline_of
from posepipe.cli.terminal import echo
from posepipe.errors import OptionError

if TYPE_CHECKING:
    from posepipe.filming.runs import FilmSummary
    from posepipe.io.documents import BoxesDocument
    from posepipe.io.films import Film, FilmOptions

# Of `--every` and the rest: the parameters that pictures have no use for, by their flags.
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
film_options: Callable[[Any], Any] = together(
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


def are_films(options: dict[str, Any]) -> bool:
    """Whether a command's inputs are a film, rather than pictures.

    Raises:
        OptionError: films and pictures together, several films, or options of films for pictures.
    """
    from posepipe.io.film_sources import is_film

    inputs = options["inputs"]
    films = [text for text in inputs if is_film(text)]
    if options["shard"] is not None and (films or options["as_video"]):
        raise OptionError("--shard is for pictures: a film is worked on frame after frame")
    if options["as_video"]:
        if films:
            raise OptionError(f"{films[0]} is a film already: leave out --as-video")
        return True
    if films and len(inputs) > 1:
        other = next((text for text in inputs if text not in films), None)
        if other is None:
            raise OptionError(f"{len(films)} films were named: give one at a time")
        raise OptionError(f"{films[0]} is a film, {other} is not: give one film, or pictures alone")
    if films:
        return True
    for name, flag in (_FRAMES | _FOLLOWING).items():
        if options.get(name):
            raise OptionError(f"{flag} is for films; frames in a folder are one with --as-video")
    return False


def open_film(options: dict[str, Any]) -> Film:
    """The film that a command's options name.

    Raises:
        PosepipeError: it cannot be opened, or there is no picture in it.
    """
    from posepipe.io.films import Film
    from posepipe.io.frame_films import FilmOfPictures

    if not options["as_video"]:
        return Film(options["inputs"][0], _frames(options, options["fps"]))
    rate = options["fps"]
    if rate is not None and not 0 < rate <= 1000:
        raise OptionError(f"--fps is the rate of --as-video: above 0, up to 1000, got {rate}")
    images = image_set(options)
    return FilmOfPictures(images, rate=rate or 25.0, options=_frames(options, None))


def _frames(options: dict[str, Any], fps: float | None) -> FilmOptions:
    from posepipe.io.films import FilmOptions

    return FilmOptions(
        every=options["every"] or 1, fps=fps, start=options["start"] or 0.0, end=options["end"]
    )


@contextmanager
def film_progress(film: Film, what: str, output: Path) -> Iterator[Callable[[int], None]]:
    """A bar over a film's frames, then what went wrong in reading it, line by line."""
    chosen, total = film.options, film.count
    if total is not None:
        end = total if chosen.end is None else min(total, round(chosen.end * film.fps))
        total = max(0, end - round(chosen.start * film.fps)) // chosen.every
    frames = 0
    with progress_bar(total, what, output) as bar:

        def count(people: int) -> None:
            nonlocal frames
            frames += 1
            bar(people)

        yield count
    for problem in film.problems if frames else ():  # without a frame they are the error
        echo(f"posepipe: {problem}", err=True)
    if film.dropped:
        echo(f"posepipe: {count_of(film.dropped, 'frame')} came too fast and left out", err=True)


def run_film_command(options: dict[str, Any], output: Path) -> FilmSummary:
    """`posepipe run` over a film.

    Raises:
        PosepipeError: see `posepipe.filming.runs.run_film`; no frame could be read.
    """
    from posepipe.drawing.film_writer import CODECS
    from posepipe.drawing.style import DrawStyle
    from posepipe.filming.options import FilmRunOptions
    from posepipe.filming.runs import run_film
    from posepipe.tracking.smoothing import SmoothingOptions
    from posepipe.tracking.tracker import TrackingOptions

    draw, mot = options["draw"], options["mot"]
    if draw is None and not options["show"] and (options["ids"] or options["trails"]):
        raise OptionError("--ids and --trails draw: name a film with --draw, or --show it")
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
    with open_film(options) as film:
        chosen = FilmRunOptions(
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
        chosen.check(film)
        pipeline = pipeline_of(
            options, detection=chosen_detection(options), pose=chosen_pose(options)
        )
        with film_progress(film, "run", output) as bar:
            summary = run_film(pipeline, film, replace(chosen, progress=bar))
        if summary.interrupted:
            raise KeyboardInterrupt
        check_frames(film, summary.frames, output, strict=options["strict"])
    return summary


def detect_film_command(options: dict[str, Any], output: Path) -> BoxesDocument:
    """`posepipe detect` over a film.

    Raises:
        PosepipeError: see `posepipe.filming.runs.detect_film`; no frame could be read.
    """
    from posepipe.filming.runs import detect_film

    check_output(output, options["inputs"])
    with open_film(options) as film:
        pipeline = pipeline_of(options, detection=chosen_detection(options))
        with film_progress(film, "detect", output) as bar:
            document = detect_film(
                pipeline,
                film,
                output=output,
                resume=options["resume"],
                workers=options["workers"],
                progress=bar,
                warn=lambda line: echo(f"posepipe: warning: {line}", err=True),
            )
        check_frames(film, len(document.images), output, strict=options["strict"])
    return document


def check_frames(film: Film, frames: int, output: Path, *, strict: bool) -> None:
    """Raise if a film gave nothing, or, in strict mode, anything went wrong in reading it.

    Raises:
        ImageError: so it was.
    """
    from posepipe.errors import ImageError

    if not frames:
        reason = (
            film.problems[0] if film.problems else f"{film.source}: no frame of it was worked on"
        )
        raise ImageError(f"{reason}: {output} has nobody in it")
    if strict and film.problems:
        raise ImageError(f"{film.source}: what could not be read counts, as --strict says")


def report_frames(frames: int, people: int, output: Path, *, verbose: bool) -> None:
    """How many people were found in how many frames."""
    if not people:
        echo(f"posepipe: no people found in {count_of(frames, 'frame')}", err=True)
    found = count_of(people, "person", "people")
    say(f"{count_of(frames, 'frame')}, {found}: {output}", verbose=verbose)
