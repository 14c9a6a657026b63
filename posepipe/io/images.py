"""Images: what a unit of work is, how it is found, and how its pixels are read."""

from __future__ import annotations

import errno
import re
import threading
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from functools import cache
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from posepipe.errors import ImageError, ImageTooLargeError
from posepipe.io.findings import Finding
from posepipe.io.jpeg import jpeg_pixels, plain_pixels
from posepipe.io.orientation import orientation, upright, upright_pixels

LIST_SUFFIX = ".txt"
HEIF_SUFFIXES = frozenset((".heic", ".heif", ".hif"))
IMAGE_SUFFIXES = HEIF_SUFFIXES | frozenset(
    ".avif .bmp .dib .gif .jfif .jp2 .jpe .jpeg .jpg .mpo .png .ppm .pgm .tif .tiff .webp".split()  # noqa: SIM905
)
# What is read, whatever a file is called; Pillow knows many more, of which EPS starts Ghostscript.
# The first five it has at hand, the others cost it an import.
_FORMATS = ("JPEG", "PNG", "BMP", "GIF", "PPM", "DIB", "TIFF", "WEBP", "JPEG2000")  # JPEG: MPO, too
# Those of newer Pillows, and of the package pillow-heif if somebody has registered it.
_FORMATS_IF_KNOWN = ("AVIF", "HEIF")
MAX_PIXELS = 120_000_000
MAX_PIXELS_LIMIT = 178_956_970  # where Pillow itself refuses
# Larger images are decoded one at a time, so that the threads of a run do not add up.
_LARGE_PIXELS = 16_000_000
_LARGE_ONE_BY_ONE = threading.Lock()

_COCO_STEM = re.compile(r"(?:COCO_(?:train|val|test)[0-9]{4}_)?([0-9]{1,18})")


@dataclass(frozen=True, eq=False, slots=True)
class ImageFile:
    """One image: the unit of work of every stage.

    Attributes:
        id: the image's id in boxes.json, kps.json and COCO annotations.
        path: its path, relative or absolute; an invented name for an image in memory.
        file_name: its name in documents: relative to the image root, with forward slashes.
        pixels: (H, W, 3) uint8 RGB for an image in memory, None for a file.
        data: a file's bytes, for one in memory; `path` is a made-up name, then.
        problem: why it cannot be read, if that is known in advance; otherwise "". Reading such an
            image raises an error when its turn comes.
        max_pixels: larger files are rejected by their header. Reading takes up to 10 bytes of
            memory per pixel; the result takes 3.
        frame: for a frame of a video, its number, from 0; otherwise None.
        seconds: for a frame of a video, its time since the start.
        url: of an image that is not a file of this machine; `path` is a made-up name, then.
    """

    id: int
    path: Path
    file_name: str
    pixels: npt.NDArray[np.uint8] | None = None
    problem: str = ""
    max_pixels: int = MAX_PIXELS
    frame: int | None = None
    seconds: float | None = None
    data: bytes | None = None
    url: str = ""

    def read(self) -> npt.NDArray[np.uint8]:
        """Read the pixels: (H, W, 3) uint8 RGB, with the EXIF orientation applied.

        Transparent images are composited on white, as in a viewer; 16-bit greyscale keeps its upper
        8 bits; of several frames, the first is read.

        Raises:
            ImageError: missing, a folder, empty, not an image, truncated, too large or unreadable.
        """
        if self.pixels is not None:
            return self.pixels
        if self.is_frame:
            return _frame(self)
        if not (self.problem or self.url):
            source = self.path if self.data is None else self.data
            pixels = plain_pixels(source, min(self.max_pixels, _LARGE_PIXELS))
            if pixels is not None:
                return pixels
        # Pillow rather than OpenCV: it raises on truncated files (OpenCV fills them up with grey),
        # reads CMYK, and leaves it to us what becomes of transparency.
        with _opened(self) as image:
            count = _check_pixels(image, self)
            with _LARGE_ONE_BY_ONE if count > _LARGE_PIXELS else nullcontext():
                return _decoded(image, self.name)

    @property
    def size_wh(self) -> tuple[int, int]:
        """Width and height in pixels of what `read` returns; reads the header only.

        Raises:
            ImageError: as for `read`, as far as the header tells.
        """
        if self.pixels is not None:
            height, width = self.pixels.shape[:2]
            return width, height
        if self.is_frame:
            height, width = _frame(self).shape[:2]
            return width, height
        with _opened(self) as image:
            try:
                if image.format == "TIFF":  # Pillow turns these upright itself as it loads them
                    image.load()
                width, height = image.size
                return (height, width) if orientation(image) >= 5 else (width, height)
            except Exception as error:
                raise _explained(error, self.name) from None

    def check_pixels(self) -> int:
        """The number of pixels, from the header.

        Raises:
            ImageTooLargeError: more than `max_pixels`.
            ImageError: as `size_wh`.
        """
        if self.pixels is not None or self.is_frame:
            width, height = self.size_wh
            return width * height
        with _opened(self) as image:
            return _check_pixels(image, self)

    def decoded_size_wh(self) -> tuple[int, int]:
        """`size_wh`, once everything in the file has been decoded: what is truncated raises.

        A JPEG is decoded at an eighth of its size, in about half of the time that reading takes.

        Raises:
            ImageError: as `read`.
        """
        size_wh = self.size_wh
        if self.pixels is None and not self.is_frame:
            with _opened(self) as image:
                _check_pixels(image, self)
                try:
                    image.draft("RGB", (1, 1))
                    image.load()
                except Exception as error:
                    raise _explained(error, self.name) from None
        return size_wh

    @property
    def name(self) -> Path | str:
        """What messages call it."""
        if not self.url:
            return self.path
        from posepipe.io.buckets import shown

        return shown(self.url)

    @property
    def is_frame(self) -> bool:
        """Whether this is a frame inside a video file, which is decoded when it is read."""
        return self.frame is not None and "#" in self.path.name

    @property
    def is_turned(self) -> bool:
        """Whether EXIF data exchange width and height: the file's rows are the image's columns.

        Raises:
            ImageError: as `size_wh`.
        """
        if self.pixels is not None or self.is_frame:
            return False
        with _opened(self) as image:
            try:
                return orientation(image) >= 5
            except Exception as error:
                raise _explained(error, self.name) from None


@dataclass(frozen=True, eq=False, slots=True)
class ImageSet:
    """Images in the order in which they are worked on.

    Attributes:
        root: the folder that the images' file names are relative to.
        images: the images; their ids differ.
        findings: what was passed over in looking for them.
        url: of the folder, if it is not one of this machine; `root` is a made-up name, then.
    """

    root: Path
    images: tuple[ImageFile, ...]
    findings: tuple[Finding, ...] = ()
    url: str = ""

    def __len__(self) -> int:
        return len(self.images)

    def __iter__(self) -> Iterator[ImageFile]:
        return iter(self.images)

    def limited(self, max_pixels: int) -> ImageSet:
        """The same images; those with more pixels than this are refused."""
        images = tuple(replace(image, max_pixels=max_pixels) for image in self.images)
        return replace(self, images=images)


def rgb_pixels(
    image: Image.Image, path: Path | str, *, keep: bool = False
) -> npt.NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB pixels of one of Pillow's images, as `ImageFile.read` gives them.

    Args:
        image: in any of Pillow's modes, its pixels read or not; it may be closed.
        path: names it in an error's message.
        keep: leave it as it is.

    Raises:
        ImageError: damaged, truncated, or of floating-point pixels.
    """
    try:
        image = image.copy() if keep else image
        image.load()
        return _pixels(upright(image), path)
    except Exception as error:
        raise _explained(error, path) from None


def _decoded(image: Image.Image, path: Path | str) -> npt.NDArray[np.uint8]:
    """`rgb_pixels` of an image just opened, decoded by what does it fastest."""
    try:
        stored = jpeg_pixels(image)
        if stored is not None:
            return upright_pixels(stored, orientation(image))
    except Exception as error:
        raise _explained(error, path) from None
    return rgb_pixels(image, path)


def coco_id(file_name: str) -> int | None:
    """The COCO image id that a file's name carries, None if it carries none.

    >>> coco_id("val2017/000000001490.jpg"), coco_id("COCO_val2014_000000000042.jpg")
    (1490, 42)
    >>> coco_id("holiday-12.jpg") is None
    True
    """
    match = _COCO_STEM.fullmatch(PurePosixPath(file_name).stem)
    return int(match[1]) if match else None


def _frame(image: ImageFile) -> npt.NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB pixels of a frame, found in its video by its time.

    Raises:
        ImageError: there is no such video, or no such frame in it.
    """
    from posepipe.io.videos import read_frame

    return read_frame(image)


def _opened(image: ImageFile) -> Image.Image:
    """The image with its header read, its pixels not yet."""
    path = image.path
    if image.problem:
        raise ImageError(f"{image.name}: {image.problem}")
    if image.data is not None:
        return _opened_data(image.data, image.name)
    if image.url:
        from posepipe.io.buckets import read_url

        return _opened_data(read_url(image.url), image.name)
    try:
        if path.exists() and not path.is_file():  # opening a pipe would wait for ever
            kind = "a folder" if path.is_dir() else "a device or pipe"
            raise ImageError(f"{path} is {kind}, not an image: name an image file")
        if path.suffix.lower() in HEIF_SUFFIXES:
            _register_heif()
        return Image.open(path, formats=_formats())
    except Exception as error:
        raise _explained(error, path) from None


def _opened_data(data: bytes, path: Path | str) -> Image.Image:
    _register_heif()
    try:
        return Image.open(BytesIO(data), formats=_formats())
    except UnidentifiedImageError:
        unknown = "is not an image in a known format: convert it to JPEG or PNG"
        text = unknown if data else "is empty (0 bytes): fetch it again"
        raise ImageError(f"{path} {text}, or leave it out") from None
    except Exception as error:
        raise _explained(error, path) from None


def _check_pixels(opened: Image.Image, image: ImageFile) -> int:
    """How many pixels an image has, if that many are allowed."""
    pixels = opened.width * opened.height
    if pixels > image.max_pixels:
        raise ImageTooLargeError(
            f"{image.name} has {pixels:,} pixels, more than {image.max_pixels:,}: make it smaller, "
            "or allow that many with --max-pixels"
        )
    return pixels


def _needs_heif(path: Path) -> bool:
    """Whether a file is of a kind that the optional package reads, which is not installed."""
    return path.suffix.lower() in HEIF_SUFFIXES and "HEIF" not in Image.OPEN


@cache
def _register_heif() -> None:
    """Teach Pillow HEIC, where the optional package for it is installed."""
    with suppress(ImportError):
        import pillow_heif

        pillow_heif.register_heif_opener()


@cache
def _has_avif() -> bool:
    """Whether Pillow comes with AVIF, which it loads when it is needed."""
    return find_spec("PIL.AvifImagePlugin") is not None


def _formats() -> tuple[str, ...]:
    known = {*Image.OPEN, *(["AVIF"] if _has_avif() else [])}
    return (*_FORMATS, *(name for name in _FORMATS_IF_KNOWN if name in known))


def _as_rgb(image: Image.Image, path: Path | str) -> Image.Image:
    mode = image.mode
    if mode == "RGB" and "transparency" not in image.info:
        return image
    if mode.startswith("I"):  # 16-bit grey, in some versions of Pillow as 32-bit integers
        grey = np.clip(np.asarray(image).astype(np.int64), 0, 0xFFFF) >> 8
        return Image.fromarray(grey.astype(np.uint8)).convert("RGB")
    if mode == "F":
        raise ImageError(f"{path} has floating-point pixels, of unknown range: save it with 8 bits")
    if mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


def _pixels(image: Image.Image, path: Path | str) -> npt.NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB pixels of an image of any mode, made strip by strip.

    In one go there would be several more arrays of the image's size: gigabytes, for a large one
    with transparency; and even of the 5 ms for a 640x480 JPEG more than 1 went into the system's
    handing out of their memory, page by page.
    """
    width, height = image.size
    pixels = np.empty((height, width, 3), np.uint8)
    rows = max(1, 2**16 // (4 * width))
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        pixels[top:bottom] = np.asarray(_as_rgb(image.crop((0, top, width, bottom)), path))
    return pixels


def _explained(error: Exception, path: Path | str) -> ImageError:
    """What went wrong with an image, in one line.

    Pillow's decoders raise almost anything on damaged files (OSError, SyntaxError, ValueError,
    struct.error, …), hence the broad `except` of the callers.
    """
    match error:
        case ImageError():
            return error
        case FileNotFoundError():
            return ImageError(f"{path}: no such file: check the path")
        case OSError(errno=errno.ELOOP):
            return ImageError(f"{path} is a link that leads nowhere: check the path")
        case PermissionError():
            text = "may not be read by this user: change its permissions"
        case UnidentifiedImageError() if Path(path).stat().st_size == 0:
            text = "is empty (0 bytes): fetch it again or leave it out"
        case UnidentifiedImageError() if _needs_heif(Path(path)):
            text = "is a HEIC image: install what reads them with pip install 'posepipe[heif]', "
            text += "convert it to JPEG, or leave it out"
        case UnidentifiedImageError():
            text = "is not an image in a known format: convert it to JPEG or PNG, or leave it out"
        case Image.DecompressionBombError() | Image.DecompressionBombWarning() | MemoryError():
            return ImageTooLargeError(f"{path} is too large to be read safely: make it smaller")
        case _:
            reason = " ".join(str(error).split()) or type(error).__name__
            text = f"is damaged or truncated ({reason}): fetch it again or leave it out"
    return ImageError(f"{path} {text}")
