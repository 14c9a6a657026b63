"""The sound of a video, taken along into another one: copied, or encoded anew where it must be."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import av
    import av.container

_PCM = ("pcm_s16le", "pcm_s24le", "pcm_s16be", "pcm_s24be")
# What players expect in files of a kind; Matroska takes nearly everything.
_COPIED = {
    ".mp4": ("aac", "mp3", "mp2", "ac3", "eac3", "alac", "flac", "opus"),
    ".mov": ("aac", "mp3", "mp2", "ac3", "eac3", "alac", *_PCM),
    ".mkv": ("aac", "mp3", "mp2", "ac3", "eac3", "alac", "flac", "opus", "vorbis", "dts", *_PCM),
    ".webm": ("opus", "vorbis"),
}
_OPUS_RATE = 48_000


class VideoSound:
    """The sound of a video from a time on.

    Where it cannot be read to its end, or not at all, there is less of it: no video fails for its
    sound.

    Args:
        source: the video.
        start: seconds in it at which the sound begins.
    """

    def __init__(self, source: str, start: float) -> None:
        import av
        import av.error

        self._start = start
        self._from: Any = None
        self._to: Any = None
        self._is_copied = False
        self._parts: Iterator[Any] = iter(())
        self._next: Any = None
        self._input: av.container.InputContainer | None = None
        try:
            self._input = av.open(source)
        except (av.error.FFmpegError, OSError, ValueError):
            return
        self._from = next(iter(self._input.streams.audio), None)

    def join(self, container: av.container.OutputContainer, suffix: str) -> None:
        """Become a stream of a new video, whose frames are not written yet.

        Args:
            container: the video.
            suffix: of its name: ".mp4", ".mov", ".mkv" or ".webm".
        """
        import av.error

        if self._from is None or self._input is None:
            return
        name = self._from.codec_context.codec.canonical_name
        self._is_copied = name in _COPIED[suffix]
        try:
            if self._is_copied:
                self._to = container.add_stream_from_template(self._from)
            else:
                codec = "libopus" if suffix == ".webm" else "aac"
                rate = _OPUS_RATE if suffix == ".webm" else self._from.rate
                layout = "mono" if self._from.channels == 1 else "stereo"
                self._to = container.add_stream(codec, rate=rate, layout=layout)
            if self._start:
                self._input.seek(int(self._start * 1_000_000))
        except (av.error.FFmpegError, OSError, ValueError):
            return
        read = self._input.demux if self._is_copied else self._input.decode
        self._parts = read(self._from)
        self._next = self._one_more()

    def until(self, seconds: float) -> Iterator[Any]:
        """The new video's packets up to a time after the start."""
        while self._next is not None:
            part = self._next
            if part.pts is None or part.time_base is None:
                self._next = self._one_more()
                continue
            time = float(part.pts * part.time_base) - self._start
            if time > seconds:
                return
            self._next = self._one_more()
            if time < 0:
                continue
            part.pts -= round(self._start / part.time_base)
            if self._is_copied:
                part.dts, part.stream = part.pts, self._to
                yield part
            else:
                yield from self._to.encode(part)

    def rest(self) -> Iterator[Any]:
        """The packets that an encoder still holds."""
        if self._to is not None and not self._is_copied and self._to.codec_context.is_open:
            yield from self._to.encode(None)

    def close(self) -> None:
        """Close the video that it comes from."""
        if self._input is not None:
            self._input.close()

    def _one_more(self) -> Any:
        import av.error

        try:
            return next(self._parts, None)
        except (av.error.FFmpegError, OSError, ValueError):
            return None
