"""Drawn frames as a video: H.264 at the frames' own times, with the sound of the source."""

from __future__ import annotations

from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from posepipe.drawing.video_sound import VideoSound
from posepipe.errors import DocumentError, ImageError
from posepipe.io.jsonfiles import temporary_of
from posepipe.io.locks import output_held
from posepipe.io.video_sources import prepare_av

if TYPE_CHECKING:
    import av
    import av.container

CODECS = {".mp4": "libx264", ".mov": "libx264", ".mkv": "libx264", ".webm": "libvpx-vp9"}
_FORMATS = {".mp4": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm"}
_CLOCK = Fraction(1, 90_000)


def check_video_path(path: Path) -> None:
    """Check that a video of this name can be written.

    Raises:
        ImageError: another ending, or no folder to write in.
    """
    if path.suffix.lower() not in CODECS:
        raise ImageError(
            f"{path}: videos are written as {', '.join(CODECS)}, not as {path.suffix or 'nothing'}"
        )
    if path.is_dir():
        raise ImageError(f"{path} is a folder: name a file")
    if not path.parent.is_dir():
        raise ImageError(f"{path} cannot be written: there is no folder {path.parent}: make it")


class VideoWriter:
    """Writes frames into a video, which appears whole or not at all.

    Use it in a ``with`` block: where that ends with an error, no file is left.

    Args:
        path: ends with .mp4, .mov, .mkv or .webm.
        fps: frames a second, as players are told; each frame has its own time nevertheless.
        sound_of: a video whose sound is kept; None for none. Sound of a kind that does not go into
            such a file is encoded anew.
        start: seconds of `sound_of` at which the first frame is.

    Raises:
        ImageError: see `check_video_path`; the file cannot be made.
        MissingDependencyError: PyAV is not installed.
    """

    def __init__(
        self, path: str | Path, *, fps: float, sound_of: str | None = None, start: float = 0.0
    ) -> None:
        self.path = Path(path)
        check_video_path(self.path)
        prepare_av(path)
        import av
        import av.error

        self._fps = fps
        self._partial = temporary_of(self.path)
        self._held = ExitStack()
        try:
            self._held.enter_context(output_held(self.path))
        except DocumentError as error:
            raise ImageError(str(error)) from None
        form = _FORMATS[self.path.suffix.lower()]
        try:
            self._partial.touch()  # FFmpeg would not try before the first frame
            container = av.open(str(self._partial), "w", format=form)
        except (av.error.FFmpegError, OSError) as error:
            self._partial.unlink(missing_ok=True)
            self._held.close()
            raise self._cannot_write(error) from None
        self._container: av.container.OutputContainer = container
        self._stream: Any = None
        self._size_wh = (0, 0)
        self._last = -1
        self._start = start
        self._sound = VideoSound(sound_of, start) if sound_of is not None else None

    def write(self, pixels: npt.NDArray[np.uint8], seconds: float) -> None:
        """The next frame.

        Args:
            pixels: (H, W, 3) uint8 RGB. A frame of another size than the first is fitted into it.
            seconds: its time in the source; not before the last one's.

        Raises:
            ImageError: the frame cannot be written.
        """
        import av
        import av.error

        if self._stream is None:
            self._begin(pixels)
        width, height = self._size_wh
        frame = av.VideoFrame.from_ndarray(_fitted(pixels, width, height), format="rgb24")
        # Two frames never share a time: encoders want it to rise.
        self._last = max(round((seconds - self._start) / _CLOCK), self._last + 1)
        frame.pts, frame.time_base = self._last, _CLOCK
        try:
            self._mux(self._stream.encode(frame))
            if self._sound is not None:
                self._mux(self._sound.until(float(self._last * _CLOCK)))
        except (av.error.FFmpegError, OSError) as error:
            raise self._cannot_write(error) from None

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        import av.error

        done = kind is None and self._stream is not None
        try:
            if done:
                self._mux(self._stream.encode(None))
                if self._sound is not None:
                    self._mux(self._sound.until(float(self._last * _CLOCK) + 1 / self._fps))
                    self._mux(self._sound.rest())
            self._container.close()
            if done:
                self._partial.replace(self.path)
        except (av.error.FFmpegError, OSError) as failure:
            if kind is None:
                raise self._cannot_write(failure) from None
        finally:
            if self._sound is not None:
                self._sound.close()
            self._partial.unlink(missing_ok=True)
            self._held.close()

    def _cannot_write(self, error: Exception) -> ImageError:
        reason = getattr(error, "strerror", None) or error
        return ImageError(f"{self.path} cannot be written: {reason}")

    def _begin(self, pixels: npt.NDArray[np.uint8]) -> None:
        height, width = pixels.shape[:2]
        self._size_wh = (width + width % 2, height + height % 2)  # as the pixel format wants it
        rate = Fraction(self._fps).limit_denominator(1001)
        stream: Any = self._container.add_stream(CODECS[self.path.suffix.lower()], rate=rate)
        stream.width, stream.height = self._size_wh
        stream.pix_fmt = "yuv420p"  # what every player shows
        stream.codec_context.time_base = _CLOCK
        stream.options = {"crf": "20"}
        self._stream = stream
        if self._sound is not None:
            self._sound.join(self._container, self.path.suffix.lower())

    def _mux(self, packets: Any) -> None:
        for packet in packets:
            self._container.mux(packet)


def _fitted(pixels: npt.NDArray[np.uint8], width: int, height: int) -> npt.NDArray[np.uint8]:
    """The frame at the video's size: the last row and column doubled, or everything scaled."""
    import cv2

    have_height, have_width = pixels.shape[:2]
    if 0 <= height - have_height <= 1 and 0 <= width - have_width <= 1:
        if (have_height, have_width) == (height, width):
            return np.ascontiguousarray(pixels)
        margins = ((0, height - have_height), (0, width - have_width), (0, 0))
        return np.pad(pixels, margins, mode="edge")
    return cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA).astype(np.uint8)
