"""Films, animated pictures, cameras and streams as frames with their times.

PyAV reads them, whose wheels bring FFmpeg. Frames are decoded when they are asked for, and never
all held: a film of any length takes the memory of a few frames.
"""

from __future__ import annotations

import re
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from posepipe.errors import ImageError, MissingDependencyError, OptionError
from posepipe.io.images import ImageFile

if TYPE_CHECKING:
    import av
    import av.container
    import av.video

VIDEO_SUFFIXES = frozenset(
    ".3gp .avi .flv .m2ts .m4v .mkv .mov .mp4 .mpeg .mpg .mts .ogv .ts .webm .wmv".split()  # noqa: SIM905
)
ADDRESSES = re.compile(r"(https?|rtsps?|rtmp|udp|tcp)://", re.IGNORECASE)
OPEN_SECONDS = 15.0
READ_SECONDS = 15.0


@dataclass(frozen=True, kw_only=True)
class FilmOptions:
    """Which frames of a film are taken.

    Attributes:
        every: take every n-th frame.
        fps: at most so many frames a second, by their times; None for all.
        start, end: seconds from the beginning; None for the film's end.

    Raises:
        OptionError: a value out of range.
    """

    every: int = 1
    fps: float | None = None
    start: float = 0.0
    end: float | None = None

    def __post_init__(self) -> None:
        if self.every < 1:
            raise OptionError(f"every takes 1 or more, got {self.every}")
        if self.fps is not None and not 0 < self.fps < np.inf:
            raise OptionError(f"fps must be above 0, got {self.fps}")
        if not 0 <= self.start < np.inf:
            raise OptionError(f"start must be 0 seconds or more, got {self.start}")
        if self.end is not None and not self.start < self.end:
            raise OptionError(f"the end, {self.end} s, must come after the start, {self.start} s")


@dataclass(frozen=True, eq=False)
class Frame:
    """A frame of a film.

    Attributes:
        number: from 0, counted from the film's beginning; of a live source, of the frames taken.
        seconds: since the film's beginning, by the film's own clock.
        pixels: (H, W, 3) uint8 RGB, the right way up.
    """

    number: int
    seconds: float
    pixels: npt.NDArray[np.uint8]


def is_film(source: str | Path) -> bool:
    """Whether a source is a film, a camera or an address, rather than pictures.

    >>> is_film("clip.mp4"), is_film("0"), is_film("rtsp://camera/1"), is_film("a.jpg")
    (True, True, True, False)
    """
    text = str(source)
    return (
        text.isdecimal()
        or bool(ADDRESSES.match(text))
        or text.startswith("/dev/video")
        or Path(text).suffix.lower() in VIDEO_SUFFIXES
        or (Path(text).suffix.lower() in (".gif", ".webp") and _is_animated(Path(text)))
    )


def is_live_source(source: str | Path) -> bool:
    """Whether a source runs in its own time: a camera or a stream, not a file.

    >>> is_live_source("0"), is_live_source("rtsp://camera/1"), is_live_source("clip.mp4")
    (True, True, False)
    """
    text = str(source)
    return (
        text.isdecimal()
        or text.startswith("/dev/video")
        or bool(re.match(r"(rtsps?|rtmp|udp|tcp)://", text, re.IGNORECASE))
    )


def _is_animated(path: Path) -> bool:
    from PIL import Image

    try:
        with Image.open(path, formats=("GIF", "WEBP")) as picture:
            return getattr(picture, "n_frames", 1) > 1
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return False


@dataclass(eq=False)
class Film:
    """A film that is open; its frames come by iterating, once.

    Attributes:
        source: as it was named.
        options: which frames are taken.
        size_wh: of the frames, the right way up.
        fps: frames a second, as far as the film says; 25 where it does not.
        count: how many frames it has, as far as it says; None where it does not, and live.
        problems: what went wrong while it was read, one line each; later frames still come.
        dropped: of a live source, frames that came while an earlier one was being worked on.
    """

    source: str
    options: FilmOptions = field(default_factory=FilmOptions)
    size_wh: tuple[int, int] = (0, 0)
    fps: float = 25.0
    count: int | None = None
    problems: list[str] = field(default_factory=list)
    dropped: int = 0

    def __post_init__(self) -> None:
        self._container, self._stream = _opened(self.source)
        stream = self._stream
        self.count = stream.frames or None
        rate = stream.average_rate or stream.guessed_rate
        self.fps = float(rate) if rate else 25.0
        self.size_wh = (stream.width, stream.height)
        self._first = _first_time(stream)

    @property
    def is_live(self) -> bool:
        """Whether frames come in the source's own time."""
        return is_live_source(self.source)

    @property
    def is_file(self) -> bool:
        """Whether it is a file, or pictures, rather than a camera or an address."""
        return not self.is_live and not ADDRESSES.match(self.source)

    @property
    def folder(self) -> Path:
        """Where the film lies; of a camera or an address, the working folder."""
        return Path(self.source).absolute().parent if self.is_file else Path.cwd()

    def frame_name(self, number: int) -> str:
        """How documents name a frame, in `folder`."""
        return f"{Path(self.source).name if self.is_file else self.source}#{number}"

    def close(self) -> None:
        """Close the file or the connection."""
        self._container.close()

    def __enter__(self) -> Film:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Frame]:
        """The frames that the options choose, in order.

        A frame that is broken is left out and named in `problems`; a film that ends too early
        gives what it has. Of a live source always the newest frame is given; what came in between
        is counted in `dropped`.
        """
        frames = _newest(self) if self.is_live else self._decoded()
        return _chosen(frames, self.options)

    def _decoded(self) -> Iterator[Frame]:
        """All frames from about `start` on."""
        import av
        import av.error

        number = self._seek()
        broken = 0
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                break
            except (av.error.FFmpegError, OSError) as error:
                self._say(f"breaks off after frame {number}: {_reason(error)}")
                break
            try:
                decoded = packet.decode()
            except av.error.FFmpegError as error:
                broken += 1
                if broken == 1:
                    self._say(f"a broken frame after frame {number}: {_reason(error)}")
                continue
            for picture in decoded:
                seconds = self._seconds(picture, number)
                if number < 0:
                    number = round(seconds * self.fps)
                pixels = _upright(picture)
                self.size_wh = (pixels.shape[1], pixels.shape[0])
                yield Frame(number, seconds, pixels)
                number += 1
        if broken > 1:
            self._say(f"{broken} broken frames in all were passed over")
        if number == 0:
            self._say("has no frame that can be read")

    def _seek(self) -> int:
        """Go to the last whole frame before `start`; number of the next frame, -1 if unknown."""
        if not self.options.start or self.is_live:
            return 0
        base = self._stream.time_base or Fraction(1, 1000)
        target = int(self.options.start / base) + (self._stream.start_time or 0)
        try:
            self._container.seek(target, stream=self._stream, backward=True, any_frame=False)
        except Exception:  # what cannot be sought is read from the beginning
            return 0
        return -1

    def _seconds(self, picture: av.VideoFrame, number: int) -> float:
        if picture.pts is None:
            return max(number, 0) / self.fps
        return max(0.0, float(picture.time) - self._first)

    def _say(self, what: str) -> None:
        self.problems.append(f"{self.source}: {what}")


def _chosen(frames: Iterator[Frame], options: FilmOptions) -> Iterator[Frame]:
    """Those frames that the options ask for."""
    due = options.start
    place = 0
    for frame in frames:
        if options.end is not None and frame.seconds >= options.end:
            return
        if frame.seconds < options.start - 1e-6:
            continue
        place += 1
        if (place - 1) % options.every:
            continue
        if options.fps is not None:
            if frame.seconds < due - 1e-6:
                continue
            due = max(due + 1 / options.fps, frame.seconds + 0.5 / options.fps)
        yield frame


def _newest(film: Film) -> Iterator[Frame]:
    """Of a live source the newest frame, whenever one is asked for."""
    waiting: deque[Frame] = deque(maxlen=1)
    come = threading.Condition()
    ended = False

    def read() -> None:
        nonlocal ended
        try:
            for frame in film._decoded():
                with come:
                    film.dropped += len(waiting)
                    waiting.append(frame)
                    come.notify()
                    if ended:
                        return
        finally:
            with come:
                ended = True
                come.notify()

    threading.Thread(target=read, name="posepipe-film", daemon=True).start()
    number = 0
    try:
        while True:
            with come:
                while not waiting and not ended:
                    come.wait(0.2)  # so that Ctrl-C is heard
                if not waiting:
                    return
                frame = waiting.popleft()
            yield Frame(number, frame.seconds, frame.pixels)
            number += 1
    finally:
        with come:
            ended = True


def _opened(source: str) -> tuple[av.container.InputContainer, av.video.stream.VideoStream]:
    """The container and its first stream of pictures; raises as `Film` does."""
    try:
        import av
        import av.error
    except ImportError as error:
        raise MissingDependencyError(
            f"{source} is a film, which needs PyAV: pip install av"
        ) from error
    name, form, options = _address(source)
    if form is None and not ADDRESSES.match(name) and not Path(name).is_file():
        raise ImageError(f"{source}: no such file: check the path")
    timeout = (OPEN_SECONDS, READ_SECONDS)
    try:
        container = av.open(name, format=form, options=options, timeout=timeout)
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise ImageError(f"{source}: {_cannot_open(source, error)}") from None
    streams = container.streams.video
    if not streams:
        container.close()
        raise ImageError(f"{source}: there are no pictures in it, only sound or data")
    stream = streams[0]
    stream.thread_type = "AUTO"
    if not stream.codec_context or not stream.width:
        container.close()
        raise ImageError(f"{source}: FFmpeg cannot decode its kind of pictures")
    return container, stream


def _address(source: str) -> tuple[str, str | None, dict[str, str]]:
    """What FFmpeg opens, by which of its formats, and how."""
    import sys

    if source.isdecimal() or source.startswith("/dev/video"):
        if sys.platform == "darwin":
            return source, "avfoundation", {"framerate": "30"}
        if sys.platform == "win32":
            return f"video={source}", "dshow", {}
        device = f"/dev/video{source}" if source.isdecimal() else source
        if not Path(device).exists():
            raise ImageError(f"{source}: there is no camera {device}: check that it is plugged in")
        return device, "v4l2", {}
    if re.match("rtsps?://", source, re.IGNORECASE):
        return source, None, {"rtsp_transport": "tcp"}
    return source, None, {}


def _cannot_open(source: str, error: Exception) -> str:
    reason = _reason(error)
    if ADDRESSES.match(source):
        return f"cannot be reached or is not a film: {reason}"
    return f"is not a film that FFmpeg reads, or is damaged: {reason}"


def _reason(error: Exception) -> str:
    """FFmpeg's own words, without what it repeats of the call."""
    return str(getattr(error, "strerror", None) or error).split(";")[0]


def _first_time(stream: Any) -> float:
    """When the first frame is shown, in seconds: clocks of films need not begin at 0."""
    if stream.start_time is None or stream.time_base is None:
        return 0.0
    return float(stream.start_time * stream.time_base)


def _upright(picture: av.VideoFrame) -> npt.NDArray[np.uint8]:
    """(H, W, 3) RGB pixels, turned as the film asks: phones film as they are held."""
    pixels = picture.to_ndarray(format="rgb24").astype(np.uint8, copy=False)
    turns = round(picture.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(pixels, turns)) if turns else pixels


def as_image(film: Film, frame: Frame) -> ImageFile:
    """A frame as the item of a stage: its number from 1 is the id."""
    return ImageFile(
        frame.number + 1,
        film.folder / film.frame_name(frame.number),
        film.frame_name(frame.number),
        pixels=frame.pixels,
        frame=frame.number,
        seconds=frame.seconds,
    )


def film_of(file_name: str) -> str:
    """The film that a frame's name is of.

    >>> film_of("takes/clip.mp4#41")
    'takes/clip.mp4'
    """
    return file_name.rpartition("#")[0] or file_name


def read_frame(image: ImageFile) -> npt.NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB pixels of a frame that a document names, found by its time.

    Raises:
        ImageError: there is no such film, or it has no such frame.
    """
    path = image.path.with_name(film_of(image.path.name))
    # A little earlier: documents round times, and films begin at whole frames.
    start = max(0.0, (image.seconds or 0.0) - 0.002)
    with Film(str(path), FilmOptions(start=start)) as film:
        for frame in film:
            if frame.number >= (image.frame or 0):
                return frame.pixels
    raise ImageError(f"{path} has no frame {image.frame}: it is another film, or a shorter one")
