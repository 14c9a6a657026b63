"""How a run over a film behaves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from posepipe.drawing.film_writer import check_film_path
from posepipe.drawing.style import DrawStyle
from posepipe.drawing.window import check_window
from posepipe.errors import OptionError
from posepipe.filming.follow import check_following
from posepipe.io.films import Film
from posepipe.io.jsonfiles import check_output
from posepipe.tracking.smoothing import SmoothingOptions
from posepipe.tracking.tracker import TrackingOptions

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
        style: of what is drawn.
        show: whether a window shows the drawn frames as they come.
        trails: whether people who are followed leave trails where they are drawn.
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
    show: bool = False
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
            OptionError: following people without numbers; resuming a live source; no display.
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
        if self.show:
            check_window()
