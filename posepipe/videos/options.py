"""How a run over a video behaves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from posepipe.drawing.style import DrawStyle
from posepipe.drawing.video_writer import check_video_path
from posepipe.drawing.window import check_window
from posepipe.errors import OptionError
from posepipe.io.jsonfiles import check_output
from posepipe.io.videos import Video
from posepipe.tracking.smoothing import SmoothingOptions
from posepipe.tracking.tracker import TrackingOptions
from posepipe.videos.follow import check_following

LINES_SUFFIX = ".jsonl"
STDOUT = Path("-")


@dataclass(frozen=True, kw_only=True)
class VideoRunOptions:
    """How a run over a video behaves.

    Attributes:
        output: kps.json; or .jsonl, or "-" for stdout: a line a frame, as soon as it is there.
        tracking, smoothing, detect_every: see `posepipe.videos.follow.follow`.
        mot: a file for the tracks in the form of the MOT challenge, or None.
        draw: a video to draw, or None.
        style: of what is drawn.
        show: whether a window shows the drawn frames as they come.
        trails: whether people who are followed leave trails where they are drawn.
        resume: go on from the journal that an interrupted run left.
        workers: threads that prepare frames; None: see `posepipe.Pipeline.stream`.
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
    workers: int | None = None
    progress: Callable[[int], None] = lambda people: None
    warn: Callable[[str], None] = lambda line: None

    def __post_init__(self) -> None:
        if self.tracking is None and (self.mot is not None or self.trails):
            what = "a file of tracks" if self.mot is not None else "drawing trails"
            raise OptionError(
                f"{what} needs people who are followed: choose tracking, too (--track)"
            )
        if self.resume and self.gives_lines:
            raise OptionError(
                "only a kps.json can be resumed: lines that are written stay as they are"
            )

    @property
    def gives_lines(self) -> bool:
        """Whether every frame's poses go out at once."""
        return self.output == STDOUT or self.output.suffix.lower() == LINES_SUFFIX

    def keeps_journal(self, video: Video) -> bool:
        """Whether a run over this video can be interrupted and resumed."""
        return video.is_file and not self.gives_lines

    def check(self, video: Video) -> None:
        """Check that the video's run makes sense and can be written, before any work.

        Raises:
            OptionError: following people without numbers; resuming a live source; no display.
            PosepipeError: an output is a folder or in none, or a video of an unknown kind.
        """
        check_following(self.tracking, self.smoothing, self.detect_every)
        if self.resume and not self.keeps_journal(video):
            raise OptionError(f"{video.source} cannot be read again: only videos in files resume")
        for path in (None if self.output == STDOUT else self.output, self.mot):
            if path is not None:
                check_output(path)
        if self.draw is not None:
            check_video_path(self.draw)
        if self.show:
            check_window()
