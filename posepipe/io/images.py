"""Pictures: what a unit of work is, how it is found, and how its pixels are read."""

from __future__ import annotations

import glob
import os
import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from posepipe.errors import ImageError

PICTURE_SUFFIXES = frozenset(
    ".bmp .gif .jfif .jpe .jpeg .jpg .png .ppm .pgm .tif .tiff .webp".split()  # noqa: SIM905
)
LIST_SUFFIX = ".txt"
# What is read, whatever a file is called; Pillow knows many more, of which EPS starts Ghostscript.
# The first five it has at hand, the others cost it an import.
_FORMATS = ("JPEG", "PNG", "BMP", "GIF", "PPM", "DIB", "TIFF", "WEBP", "JPEG2000")  # JPEG: MPO, too
# Those of newer Pillows, and of the package pillow-heif if somebody has registered it.
_FORMATS_IF_KNOWN = ("AVIF", "HEIF")
MAX_PIXELS = 120_000_000
MAX_PIXELS_LIMIT = 178_956_970  # where Pillow itself refuses
# Larger pictures are decoded one at a time, so that the threads of a run do not add up.
_LARGE_PIXELS = 16_000_000
_LARGE_ONE_BY_ONE = threading.Lock()

# What undoes each value of the EXIF tag "Orientation" (CIPA DC-008, table 6); 1 is upright.
_ORIENTATION_TAG = 0x0112
_TO_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_COCO_STEM = re.compile(r"(?:COCO_(?:train|val|test)[0-9]{4}_)?([0-9]{1,18})")


@dataclass(frozen=True, eq=False, slots=True)
class ImageFile:
    """One picture: the unit of work of every stage.

    Attributes:
        id: the picture's id in boxes.json, kps.json and COCO annotations.
        path: where it lies; relative or absolute; a made-up name for a picture in memory.
        file_name: how documents name it: relative to the image root, with forward slashes.
        pixels: (H, W, 3) uint8 RGB for a picture in memory, None for a file.
        problem: why there is nothing to read, where that is known before reading ("" elsewhere).
            So an input that leads nowhere is one more item, which fails when its turn comes.
        max_pixels: a larger file is refused by its header. Reading takes up to 10 bytes of memory
            a pixel; what is read, 3.
    """

    id: int
    path: Path
    file_name: str
    pixels: npt.NDArray[np.uint8] | None = None
    problem: str = ""
    max_pixels: int = MAX_PIXELS

    def read(self) -> npt.NDArray[np.uint8]:
        """(H, W, 3) uint8 RGB pixels, the right way up.

        The EXIF orientation is honoured. Transparent pictures are laid on white, as a viewer
        shows them; 16-bit grey keeps its upper 8 bits; of several frames the first is read.

        Raises:
            ImageError: missing, a folder, empty, no picture, truncated, too large or forbidden.
        """
        if self.pixels is not None:
            return self.pixels
        # Pillow rather than OpenCV: it raises on truncated files (OpenCV fills them up with grey),
        # reads CMYK, and leaves it to us what becomes of transparency. Both decode JPEG with
        # libjpeg-turbo.
        with _opened(self) as picture:
            pixels = _check_pixels(picture, self)
            with _LARGE_ONE_BY_ONE if pixels > _LARGE_PIXELS else nullcontext():
                return rgb_pixels(picture, self.path)

    @property
    def size_wh(self) -> tuple[int, int]:
        """Width and height in pixels as `read` gives them; reads no more than the header needs.

        Raises:
            ImageError: as `read`, as far as the header tells.
        """
        if self.pixels is not None:
            height, width = self.pixels.shape[:2]
            return width, height
        with _opened(self) as picture:
            try:
                if picture.format == "TIFF":  # Pillow turns these upright itself as it loads them
                    picture.load()
                width, height = picture.size
                return (height, width) if _orientation(picture) >= 5 else (width, height)
            except Exception as error:
                raise _explained(error, self.path) from None

    def decoded_size_wh(self) -> tuple[int, int]:
        """`size_wh`, once everything in the file has been decoded: what is truncated raises.

        A JPEG is decoded at an eighth of its size, which takes a third of the time.

        Raises:
            ImageError: as `read`.
        """
        size_wh = self.size_wh
        if self.pixels is None:
            with _opened(self) as picture:
                _check_pixels(picture, self)
                try:
                    picture.draft("RGB", (1, 1))
                    picture.load()
                except Exception as error:
                    raise _explained(error, self.path) from None
        return size_wh

    @property
    def is_turned(self) -> bool:
        """Whether EXIF data exchange width and height: the file's rows are the picture's columns.

        Raises:
            ImageError: as `size_wh`.
        """
        if self.pixels is not None:
            return False
        with _opened(self) as picture:
            try:
                return _orientation(picture) >= 5
            except Exception as error:
                raise _explained(error, self.path) from None


@dataclass(frozen=True, eq=False, slots=True)
class ImageSet:
    """Pictures in the order in which they are worked on.

    Attributes:
        root: the folder that the pictures' file names are relative to.
        images: the pictures; their ids differ.
    """

    root: Path
    images: tuple[ImageFile, ...]

    def __len__(self) -> int:
        return len(self.images)

    def __iter__(self) -> Iterator[ImageFile]:
        return iter(self.images)

    def limited(self, max_pixels: int) -> ImageSet:
        """The same pictures, of which larger ones than so many pixels are refused."""
        return ImageSet(
            self.root, tuple(replace(image, max_pixels=max_pixels) for image in self.images)
        )


def find_images(inputs: Sequence[str | Path], *, recursive: bool = False) -> ImageSet:
    """The pictures that folders, files, patterns and lists lead to, in natural order of names.

    A folder gives the files in it that have a known suffix, hidden ones left out. A file that is
    named explicitly, by a pattern or by a list is taken whatever its suffix. A text file (.txt)
    lists one path a line, relative to itself; blank lines and lines that begin with # do not
    count. A picture that several inputs lead to comes once.

    Ids are the COCO ids where every name carries one (000000001490.jpg, or
    COCO_val2014_000000001490.jpg) and they differ, else 1…n in order.

    An input that leads nowhere (a missing file, an empty folder, a pattern without a match) becomes
    an item at the end whose `read` raises, so that the others are still processed and it is listed
    with what was left out.

    Args:
        inputs: paths or patterns (`*`, `?`, `[…]`, `**` for any depth).
        recursive: whether folders inside folders are searched as well.

    Raises:
        ImageError: no input at all, or none that leads to a picture.
    """
    finds = [find for text in inputs for find in _look_up(str(text), recursive)]
    found = [find for find in finds if find.exists]
    if not found:
        if not finds:
            raise ImageError("no pictures were named: give folders, files, patterns or a list")
        more = f" (and {len(finds) - 1} more inputs lead nowhere)" if len(finds) > 1 else ""
        raise ImageError(_no_such(finds[0]) + more)
    root = _common_folder({find.base for find in found})
    images: dict[Path, ImageFile] = {}
    resolved_folder = cache(_resolved)  # the costly part, needed once a folder
    for find in finds:
        path = find.path
        true_path = _resolved(path) if _is_link(path) else resolved_folder(path.parent) / path.name
        name = _relative_name(path, root)
        images.setdefault(true_path, ImageFile(0, path, name, problem=find.problem))
    pictures = sorted((i for i in images.values() if not i.problem), key=_natural)
    dead_ends = sorted((i for i in images.values() if i.problem), key=_natural)
    ids = _ids([image.file_name for image in pictures])
    ids += range(max(ids) + 1, max(ids) + 1 + len(dead_ends))
    return ImageSet(
        root,
        tuple(
            replace(image, id=number)
            for image, number in zip(pictures + dead_ends, ids, strict=True)
        ),
    )


def rgb_pixels(picture: Image.Image, path: Path) -> npt.NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB pixels of one of Pillow's pictures, as `ImageFile.read` gives them.

    Args:
        picture: in any of Pillow's modes, its pixels read or not; it may be closed.
        path: names it in an error's message.

    Raises:
        ImageError: damaged, truncated, or of floating-point pixels.
    """
    try:
        picture.load()
        return _pixels(_upright(picture), path)
    except Exception as error:
        raise _explained(error, path) from None


def coco_id(file_name: str) -> int | None:
    """The COCO image id that a file's name carries, None if it carries none.

    >>> coco_id("val2017/000000001490.jpg"), coco_id("COCO_val2014_000000000042.jpg")
    (1490, 42)
    >>> coco_id("holiday-12.jpg") is None
    True
    """
    match = _COCO_STEM.fullmatch(PurePosixPath(file_name).stem)
    return int(match[1]) if match else None


@dataclass(frozen=True, slots=True)
class _Find:
    """A path that an input leads to."""

    path: Path  # absolute
    base: Path  # the folder that file names start from, as far as this input is concerned
    exists: bool = True
    problem: str = ""


def _look_up(text: str, recursive: bool) -> list[_Find]:
    path = _absolute(Path(text))
    try:
        return _look_up_path(text, path, recursive)
    except OSError as error:  # a folder on the way may not be searched, a name is too long, …
        return [_dead_end(path, f"cannot be looked up ({error.strerror})")]


def _look_up_path(text: str, path: Path, recursive: bool) -> list[_Find]:
    if path.is_dir():
        return _in_folder(path, recursive)
    if path.suffix.lower() == LIST_SUFFIX and path.is_file():
        return _in_list(path)
    if path.exists():
        return [_Find(path, path.parent)]
    if glob.has_magic(text):
        # Path.glob takes no absolute patterns.
        found = glob.glob(os.path.expanduser(text), recursive=True)  # noqa: PTH111, PTH207
        matches = [_absolute(Path(match)) for match in found]
        finds = [_Find(match, match.parent) for match in matches if match.is_file()]
        for folder in (match for match in matches if match.is_dir()):
            finds += [find for find in _in_folder(folder, recursive) if find.exists]
        return finds or [_dead_end(path, "no file matches this pattern")]
    return [_missing(path)]


def _in_folder(folder: Path, recursive: bool) -> list[_Find]:
    finds = [_Find(path, folder) for path in _files_of(folder, recursive)]
    if finds:
        return finds
    has_folders = not recursive and any(entry.is_dir() for entry in folder.iterdir())
    where = "; there are folders in it: search them with --recursive" if has_folders else ""
    return [_dead_end(folder, f"a folder without pictures (.jpg, .png, …){where}")]


def _files_of(folder: Path, recursive: bool) -> Iterator[Path]:
    for entry in folder.iterdir():
        if entry.name.startswith("."):
            continue
        if entry.suffix.lower() in PICTURE_SUFFIXES and entry.is_file():
            yield entry
        elif recursive and entry.is_dir() and not entry.is_symlink():  # a link may lead back up
            yield from _files_of(entry, recursive)


def _in_list(path: Path) -> list[_Find]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        return [_dead_end(path, f"the list cannot be read as UTF-8 text: {error}")]
    named = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    paths = [_absolute(path.parent / name) for name in named]
    finds = [_listed(file) for file in paths]
    return finds or [_dead_end(path, "a list that names no pictures")]


def _listed(file: Path) -> _Find:
    try:
        return _Find(file, file.parent) if file.exists() else _missing(file)
    except OSError as error:  # a name is too long, a folder may not be searched, …
        return _dead_end(file, f"cannot be looked up ({error.strerror})")


def _resolved(path: Path) -> Path:
    try:
        return path.resolve()
    except (OSError, RuntimeError, ValueError):  # loops of links, names too long or with NUL
        return path


def _is_link(path: Path) -> bool:
    try:
        return path.is_symlink()
    except OSError:
        return False


def _missing(path: Path) -> _Find:
    if path.suffix.lower() in PICTURE_SUFFIXES:
        return _Find(path, path.parent, exists=False)  # an item like others, until it is read
    return _dead_end(path, "no such file or folder")


def _dead_end(path: Path, problem: str) -> _Find:
    return _Find(path, path.parent, exists=False, problem=problem)


def _no_such(find: _Find) -> str:
    return f"{find.path}: {find.problem or 'no such file'}: check the path"


def _absolute(path: Path) -> Path:
    # Not resolve(): a picture keeps the name that the user knows, links included.
    return Path(os.path.abspath(path.expanduser()))  # noqa: PTH100


def _common_folder(folders: set[Path]) -> Path:
    try:
        return Path(os.path.commonpath(folders))
    except ValueError:  # Windows
        raise ImageError(
            "the pictures lie on different drives: name those of one drive at a time"
        ) from None


def _relative_name(path: Path, root: Path) -> str:
    return (path.relative_to(root) if path.is_relative_to(root) else path).as_posix()


def _natural(image: ImageFile) -> tuple[list[tuple[int, str]], str]:
    """A sorting key by which "frame9" comes before "frame10"."""
    parts = re.split(r"([0-9]+)", image.file_name)
    numbered = [(int(part), "") if n % 2 else (0, part.lower()) for n, part in enumerate(parts)]
    return numbered, image.file_name


def _ids(file_names: Sequence[str]) -> list[int]:
    carried = [coco_id(name) for name in file_names]
    ids = [number for number in carried if number is not None]
    if len(set(ids)) == len(file_names):
        return ids
    return list(range(1, len(file_names) + 1))


def _opened(image: ImageFile) -> Image.Image:
    """The picture with its header read, its pixels not yet."""
    path = image.path
    if image.problem:
        raise ImageError(f"{path}: {image.problem}")
    try:
        if path.exists() and not path.is_file():  # opening a pipe would wait for ever
            kind = "a folder" if path.is_dir() else "a device or pipe"
            raise ImageError(f"{path} is {kind}, not a picture: name a picture file")
        return Image.open(path, formats=_formats())
    except Exception as error:
        raise _explained(error, path) from None


def _check_pixels(picture: Image.Image, image: ImageFile) -> int:
    """How many pixels a picture has, where it may have so many."""
    pixels = picture.width * picture.height
    if pixels > image.max_pixels:
        raise ImageError(
            f"{image.path} has {pixels:,} pixels, more than {image.max_pixels:,}: make it smaller, "
            "or allow as many with --max-pixels"
        )
    return pixels


def _formats() -> tuple[str, ...]:
    has_avif = find_spec("PIL.AvifImagePlugin") is not None  # which Pillow then loads if need be
    known = {*Image.OPEN, *(["AVIF"] if has_avif else [])}
    return (*_FORMATS, *(name for name in _FORMATS_IF_KNOWN if name in known))


def _orientation(picture: Image.Image) -> int:
    try:
        value = picture.getexif().get(_ORIENTATION_TAG, 1)
    except OSError:  # Pillow looks for EXIF behind a PNG's pixels, too; they may be truncated
        raise
    except Exception:  # damaged EXIF data are no reason to lose the picture
        return 1
    return value if value in _TO_UPRIGHT else 1


def _upright(picture: Image.Image) -> Image.Image:
    turn = _TO_UPRIGHT.get(_orientation(picture))
    if turn is None:
        return picture
    turned = picture.transpose(turn)
    picture.close()  # its memory
    return turned


def _as_rgb(picture: Image.Image, path: Path) -> Image.Image:
    mode = picture.mode
    if mode == "RGB" and "transparency" not in picture.info:
        return picture
    if mode.startswith("I"):  # 16-bit grey, in some versions of Pillow as 32-bit integers
        grey = np.clip(np.asarray(picture).astype(np.int64), 0, 0xFFFF) >> 8
        return Image.fromarray(grey.astype(np.uint8)).convert("RGB")
    if mode == "F":
        raise ImageError(f"{path} has floating-point pixels, of unknown range: save it with 8 bits")
    if mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        return Image.alpha_composite(white, picture).convert("RGB")
    return picture.convert("RGB")


def _pixels(picture: Image.Image, path: Path) -> npt.NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB pixels of a picture of any mode, made strip by strip.

    In one go there would be several more arrays of the picture's size: gigabytes, for a large one
    with transparency; and even of the 5 ms for a 640x480 JPEG more than 1 went into the system's
    handing out of their memory, page by page.
    """
    width, height = picture.size
    pixels = np.empty((height, width, 3), np.uint8)
    rows = max(1, 2**16 // (4 * width))
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        pixels[top:bottom] = np.asarray(_as_rgb(picture.crop((0, top, width, bottom)), path))
    return pixels


def _explained(error: Exception, path: Path) -> ImageError:
    """What went wrong with a picture, in one line.

    Pillow's decoders raise almost anything on damaged files (OSError, SyntaxError, ValueError,
    struct.error, …), hence the broad `except` of the callers.
    """
    match error:
        case ImageError():
            return error
        case FileNotFoundError():
            return ImageError(f"{path}: no such file: check the path")
        case PermissionError():
            text = "may not be read by this user: change its permissions"
        case UnidentifiedImageError() if path.stat().st_size == 0:
            text = "is empty (0 bytes): fetch it again or leave it out"
        case UnidentifiedImageError():
            text = "is not a picture in a known format: convert it to JPEG or PNG, or leave it out"
        case Image.DecompressionBombError() | Image.DecompressionBombWarning() | MemoryError():
            text = "is too large to be read safely: make it smaller first"
        case _:
            reason = " ".join(str(error).split()) or type(error).__name__
            text = f"is damaged or truncated ({reason}): fetch it again or leave it out"
    return ImageError(f"{path} {text}")
