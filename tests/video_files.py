"""Small videos for tests: frames whose brightness says which one they are."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt


def numbered(count: int, size_wh: tuple[int, int] = (64, 48)) -> list[npt.NDArray[np.uint8]]:
    """Frames of one grey each, 20 different ones in turn; the top left corner is white."""
    width, height = size_wh
    frames = []
    for number in range(count):
        frame = np.full((height, width, 3), 16 + 10 * (number % 20), np.uint8)
        frame[: height // 4, : width // 4] = 255
        frames.append(frame)
    return frames


def number_of(pixels: npt.NDArray[np.uint8]) -> int:
    """Which of 20 `numbered` frames it is; compression may change a level."""
    height, width = pixels.shape[:2]
    middle = pixels[height // 3 : -height // 3, width // 3 : -width // 3]
    return round((float(middle.mean()) - 16) / 10)


def write_video(
    path: Path,
    frames: Iterable[npt.NDArray[np.uint8]],
    *,
    rate: int = 10,
    times: Iterable[float] | None = None,
    sound: bool | str = False,
    codec: str | None = None,
    pixel_format: str = "yuv420p",
) -> Path:
    """A video in H.264 (or what the suffix asks for), frames at a rate or at given times (s).

    Its sound, a second of it, is AAC or of the codec named.
    """
    import av

    clock = Fraction(1, 1000)
    with av.open(str(path), "w") as container:
        codec = codec or {".webm": "vp9", ".avi": "mpeg4"}.get(path.suffix, "libx264")
        stream = None
        for number, frame in enumerate(frames):
            if stream is None:
                stream = container.add_stream(codec, rate=rate)
                stream.height, stream.width = frame.shape[:2]
                stream.pix_fmt = pixel_format
                stream.gop_size, stream.bit_rate = 5, 4_000_000
                stream.codec_context.time_base = clock
                kind = sound if isinstance(sound, str) else "aac"
                listen = container.add_stream(kind, rate=16000, layout="mono") if sound else None
            image = av.VideoFrame.from_ndarray(frame, format="rgb24")
            moment = number / rate if times is None else list(times)[number]
            image.pts, image.time_base = round(1000 * moment), clock
            container.mux(stream.encode(image))
        container.mux(stream.encode(None))
        if listen is not None:
            _hum(container, listen, seconds=1.0)
    return path


def write_empty(path: Path) -> Path:
    """A video that ended before its first frame."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        container.start_encoding()
    return path


def write_sound(path: Path) -> Path:
    """A file with sound alone."""
    import av

    with av.open(str(path), "w") as container:
        _hum(container, container.add_stream("aac", rate=16000), seconds=0.5)
    return path


def _hum(container, stream, *, seconds: float) -> None:
    import av

    wave = np.sin(np.arange(int(16000 * seconds)) * 440 * 2 * np.pi / 16000).astype(np.float32)
    for begin in range(0, len(wave) - 1023, 1024):
        part = av.AudioFrame.from_ndarray(wave[None, begin : begin + 1024], "fltp", "mono")
        part.sample_rate, part.pts = 16000, begin
        container.mux(stream.encode(part))
    container.mux(stream.encode(None))
