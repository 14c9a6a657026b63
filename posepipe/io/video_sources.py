"""What videos are read from: files, cameras, addresses; FFmpeg opens them, which PyAV brings."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from posepipe.errors import ImageError, MissingDependencyError
from posepipe.io.images import IMAGE_SUFFIXES, LIST_SUFFIX

if TYPE_CHECKING:
    import av
    import av.container
    import av.video

VIDEO_SUFFIXES = frozenset(
    (  # noqa: SIM905
        ".264 .265 .3g2 .3gp .apng .asf .avi .divx .dv .f4v .flv .h264 .h265 .hevc .ivf .m2ts .m4v "
        ".mjpeg .mjpg .mkv .mov .mp4 .mpeg .mpg .mts .mxf .ogv .qt .ts .vob .webm .wmv .y4m"
    ).split()
)
ADDRESSES = re.compile(r"(https?|rtsps?|rtmp|udp|tcp)://", re.IGNORECASE)
OPEN_SECONDS = 15.0
READ_SECONDS = 15.0


def is_video(source: str | Path) -> bool:
    """Whether a source is a video, a camera or an address, rather than images.

    >>> is_video("clip.mp4"), is_video("0"), is_video("rtsp://camera/1"), is_video("a.jpg")
    (True, True, True, False)
    """
    text = str(source)
    return (
        _is_camera(text)
        or (bool(ADDRESSES.match(text)) and not _is_of_images(text))
        or Path(text).suffix.lower() in VIDEO_SUFFIXES
        or (Path(text).suffix.lower() in (".gif", ".webp") and _is_animated(Path(text)))
    )


def _is_of_images(address: str) -> bool:
    """Whether it is of an image, of a list of images or, ending with a slash, of a folder."""
    if not re.match("https?://", address, re.IGNORECASE):
        return False
    path = address.partition("?")[0]
    suffix = PurePosixPath(path).suffix.lower()
    return path.endswith("/") or suffix in IMAGE_SUFFIXES or suffix == LIST_SUFFIX


def is_live_source(source: str | Path) -> bool:
    """Whether a source runs in its own time, as far as its name tells: a camera or a stream.

    >>> is_live_source("0"), is_live_source("rtsp://camera/1"), is_live_source("clip.mp4")
    (True, True, False)
    """
    text = str(source)
    return _is_camera(text) or bool(re.match(r"(rtsps?|rtmp|udp|tcp)://", text, re.IGNORECASE))


def has_no_end(container: av.container.InputContainer) -> bool:
    """Whether it runs in its own time, as far as its contents tell: neither length nor duration.

    So are web cameras, whose addresses look like those of files.
    """
    return container.duration is None and (container.size or 0) <= 0  # PyAV 19: None


def _is_camera(text: str) -> bool:
    """Whether it is the number of a camera, unless a folder has that name, or its device."""
    return text.startswith("/dev/video") or (text.isdecimal() and not Path(text).exists())


def _is_animated(path: Path) -> bool:
    from PIL import Image

    try:
        with Image.open(path, formats=("GIF", "WEBP")) as image:
            return getattr(image, "n_frames", 1) > 1
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return False


def prepare_av(video: str | Path) -> None:
    """Import PyAV, and have FFmpeg say nothing.

    Its threads would need Python's lock for that, which whoever ends a decoder holds while it waits
    for them: nothing goes on any more. torchvision 0.21 has FFmpeg speak, for one.

    Args:
        video: what it is wanted for.

    Raises:
        MissingDependencyError: PyAV is not installed.
    """
    try:
        import av.logging
    except ImportError as error:
        raise MissingDependencyError(
            f"{video} is a video, which needs PyAV: pip install av"
        ) from error
    av.logging.set_level(None)


def open_source(source: str) -> tuple[av.container.InputContainer, av.video.stream.VideoStream]:
    """The container of a source, and its first stream of images.

    Raises:
        ImageError: it is not there, cannot be reached, or has no images that FFmpeg decodes.
        MissingDependencyError: PyAV is not installed.
    """
    prepare_av(source)
    import av
    import av.error

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
        raise ImageError(f"{source}: it has no video, only sound or data")
    stream = streams[0]
    stream.thread_type = "AUTO"
    if not stream.codec_context or not stream.width:
        container.close()
        raise ImageError(f"{source}: FFmpeg cannot decode its video format")
    return container, stream


def _address(source: str) -> tuple[str, str | None, dict[str, str]]:
    """What FFmpeg opens, by which of its formats, and how."""
    import sys

    if _is_camera(source):
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
    reason = reason_of(error)
    if ADDRESSES.match(source):
        return f"cannot be reached or is not a video: {reason}"
    return f"is not a video that FFmpeg reads, or is damaged: {reason}"


def reason_of(error: Exception) -> str:
    """FFmpeg's own words, without what it repeats of the call; of a time-out, ours."""
    import av.error

    if isinstance(error, av.error.ExitError):
        return "no answer for too long"
    return str(getattr(error, "strerror", None) or error).split(";")[0]
