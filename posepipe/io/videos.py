"""Videos, animated images, cameras and streams as frames with their times.

PyAV reads them, whose wheels bring FFmpeg. Frames are decoded when they are asked for, and never
all held: a video of any length takes the memory of a few frames.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from posepipe.errors import ImageError, OptionError
from posepipe.io import video_sources
from posepipe.io.images import ImageFile
from posepipe.io.newest import Newest
from posepipe.io.video_sources import ADDRESSES, has_no_end, is_live_source, open_source, reason_of

if TYPE_CHECKING:
    import av
    import av.container
    import av.video


MOST_FPS = 1000.0
_WITHOUT_A_CLOCK = frozenset({"mpjpeg", "mjpeg", "h264", "hevc", "image2pipe"})


@dataclass(frozen=True, kw_only=True)
class VideoOptions:
    """Which frames of a video are used.

    Attributes:
        every: every n-th frame.
        fps: at most this many frames per second, by their timestamps; None: all.
        start: seconds from the start of the video.
        end: seconds from the start of the video; None: to its end.

    Raises:
        OptionError: a value is out of range.
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
    """A frame of a video.

    Attributes:
        number: from 0 at the start of the video; for a live source, among the frames taken.
        seconds: the time since the start, by the video's own clock.
        pixels: (H, W, 3) uint8 RGB, upright.
    """

    number: int
    seconds: float
    pixels: npt.NDArray[np.uint8]


@dataclass(eq=False)
class Video:
    """An open video; iterating over it yields its frames, once.

    Attributes:
        source: a path, a camera's number or device, or a URL.
        options: which frames are used.
        size_wh: width and height of the upright frames in pixels.
        fps: frames per second, according to the video; 25 if it does not say.
        count: the number of frames, according to the video; None if it does not say, and if live.
        is_live: whether frames arrive in real time.
        problems: problems while reading, one line each; reading continues after them.
        dropped: for a live source, how many frames arrived while an earlier one was processed.
    """

    source: str
    options: VideoOptions = field(default_factory=VideoOptions)
    size_wh: tuple[int, int] = (0, 0)
    fps: float = 25.0
    count: int | None = None
    is_live: bool = False
    problems: list[str] = field(default_factory=list)
    dropped: int = 0

    def __new__(cls, source: Any = "", *_: object, **__: object) -> Video:
        """Animated WebP, which FFmpeg does not read, is a video of a kind of its own."""
        if cls is Video and str(source).lower().endswith(".webp"):
            from posepipe.io.frame_videos import AnimatedImage

            return super().__new__(AnimatedImage)
        return super().__new__(cls)

    def __post_init__(self) -> None:
        self._container, self._stream = open_source(self.source)
        self.is_live = is_live_source(self.source) or (
            bool(ADDRESSES.match(self.source)) and has_no_end(self._container)
        )
        self._newest: Newest[Frame] | None = None
        stream = self._stream
        self.count = stream.frames or None
        rate = float(stream.average_rate or stream.guessed_rate or 0)
        self.fps = rate if 0 < rate <= MOST_FPS else 25.0
        self.size_wh = (stream.width, stream.height)

    @property
    def is_file(self) -> bool:
        """Whether it is a file, or images, rather than a camera or an address."""
        return not self.is_live and not ADDRESSES.match(self.source)

    @property
    def sound(self) -> str | None:
        """The file that has its sound, if any."""
        return self.source if self.is_file else None

    @property
    def folder(self) -> Path:
        """Where the video lies; of a camera or an address, the working folder."""
        return Path(self.source).absolute().parent if self.is_file else Path.cwd()

    def frame_name(self, number: int) -> str:
        """How documents name a frame, in `folder`."""
        return f"{Path(self.source).name if self.is_file else self.source}#{number}"

    def close(self) -> None:
        """Close the file or the connection; of a live source that hangs, once it answers."""
        if self._newest is None:
            self._container.close()
        else:
            self._newest.close()

    def __enter__(self) -> Video:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Frame]:
        """The frames that the options choose, in order.

        A frame that is broken is left out and named in `problems`; a video that ends too early
        gives what it has. Of a live source always the newest frame is given; what came in between
        is counted in `dropped`.
        """
        frames = self._live_frames() if self.is_live else self._decoded()
        return _chosen(frames, self.options)

    def _live_frames(self) -> Iterator[Frame]:
        """The newest frame whenever one is asked for."""
        patience = video_sources.READ_SECONDS + 1  # a read's own time-out says more
        newest = self._newest = Newest(
            self._decoded(), release=self._container.close, patience=patience
        )
        try:
            for number, frame in enumerate(newest):
                self.dropped = newest.missed
                yield Frame(number, frame.seconds, frame.pixels)
        except TimeoutError:
            self._say(f"no frame came for {patience:.0f} s")
        finally:
            newest.close()

    def _decoded(self) -> Iterator[Frame]:
        """All frames from about `start` on."""
        import av.error

        number = self._seek()
        clock = _Clock(self)
        broken = 0
        for packet in self._packets(clock):
            try:
                decoded = self._stream.decode(packet)
            except av.error.FFmpegError as error:
                broken += 1
                if broken == 1:
                    self._say(f"a broken frame after {clock.seconds:.2f} s: {reason_of(error)}")
                continue
            for image in decoded:
                seconds = clock(image, number)
                if number < 0:
                    number = round(seconds * self.fps)
                pixels = _upright(image)
                self.size_wh = (pixels.shape[1], pixels.shape[0])
                yield Frame(number, seconds, pixels)
                number += 1
        if broken > 1:
            self._say(f"{broken} broken frames in all were passed over")
        if number == 0 and not self.problems:
            self._say("has no frame that can be read")

    def _packets(self, clock: _Clock) -> Iterator[av.Packet[Any] | None]:
        """What the video is stored in; after what breaks off None, for what the decoder holds."""
        import av.error

        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets, None)
            except (av.error.FFmpegError, OSError) as error:
                yield None
                reason = reason_of(error)
                if clock.has_begun or not self.source.lower().startswith("http"):
                    self._say(f"breaks off after {clock.seconds:.2f} s: {reason}")
                else:
                    self._say(f"cannot be read over the network, download it first: {reason}")
                return
            if packet is None:
                return
            yield packet

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

    def _say(self, what: str) -> None:
        self.problems.append(f"{self.source}: {what}")


def _chosen(frames: Iterator[Frame], options: VideoOptions) -> Iterator[Frame]:
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


class _Clock:
    """Seconds of a video's frames since its beginning, which never go back.

    They are the video's own, less the time of its first frame. Where its clock begins anew (videos
    put together, a camera that restarts) time goes on. Live sources that have no clock, for which
    FFmpeg makes one up, go by ours.
    """

    def __init__(self, video: Video) -> None:
        self.seconds = 0.0
        self.has_begun = False
        self._fps = video.fps
        self._is_made_up = video.is_live and video._container.format.name in _WITHOUT_A_CLOCK
        start, base = video._stream.start_time, video._stream.time_base
        self._base = base
        self._first: float | None = None
        if not video.is_live:
            self._first = float(start * base) if start is not None and base is not None else 0.0

    def __call__(self, image: av.VideoFrame, number: int) -> float:
        """Seconds of a frame; its number, -1 if unknown, tells where the video does not."""
        if self._is_made_up:
            time = monotonic()
        elif image.pts is None or self._base is None:
            time = (self._first or 0.0) + max(number, 0) / self._fps
        else:
            time = float(image.pts * self._base)
        if self._first is None:
            self._first = time
        if time - self._first < self.seconds - 1:
            self._first = time - self.seconds - 1 / self._fps
        self.has_begun = True
        self.seconds = max(self.seconds, time - self._first)
        return self.seconds


def _upright(image: av.VideoFrame) -> npt.NDArray[np.uint8]:
    """(H, W, 3) RGB pixels, turned as the video asks: phones are held in every way."""
    pixels = image.to_ndarray(format="rgb24").astype(np.uint8, copy=False)
    turns = round(image.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(pixels, turns)) if turns else pixels


def as_image(video: Video, frame: Frame) -> ImageFile:
    """A frame as the item of a stage: its number from 1 is the id."""
    return ImageFile(
        frame.number + 1,
        video.folder / video.frame_name(frame.number),
        video.frame_name(frame.number),
        pixels=frame.pixels,
        frame=frame.number,
        seconds=frame.seconds,
    )


def video_of(file_name: str) -> str:
    """The video that a frame's name is of.

    >>> video_of("takes/clip.mp4#41")
    'takes/clip.mp4'
    """
    return file_name.rpartition("#")[0] or file_name


def read_frame(image: ImageFile) -> npt.NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB pixels of a frame that a document names, found by its time.

    Raises:
        ImageError: there is no such video, or it has no such frame.
    """
    path = image.path.with_name(video_of(image.path.name))
    # A little earlier: documents round times, and videos begin at whole frames.
    start = max(0.0, (image.seconds or 0.0) - 0.002)
    with Video(str(path), VideoOptions(start=start)) as video:
        for frame in video:
            if frame.number >= (image.frame or 0):
                return frame.pixels
    raise ImageError(f"{path} has no frame {image.frame}: it is another video, or a shorter one")
