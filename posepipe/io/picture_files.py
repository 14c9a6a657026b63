"""Where the images of an annotation file lie, however it names them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Protocol

from posepipe.errors import ImageError
from posepipe.io.findings import noted
from posepipe.io.images import ImageFile, ImageSet
from posepipe.io.schema import ImageEntry

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_DRIVE = re.compile(r"[A-Za-z]:/")


class Pictured(Protocol):
    """What lists images."""

    @property
    def images(self) -> Sequence[ImageEntry]:
        """The images."""


def image_files(annotations: Pictured, folder: str | Path) -> ImageSet:
    r"""The annotated images in a folder, with the annotations' ids and in their order.

    Names with back-slashes are tried with slashes. Of URLs and absolute paths that are not here
    the last part is looked for in the folder, or the last parts where the last alone is shared. A
    image that is missing is found out when it is read.

    Args:
        annotations: what lists the images.
        folder: where they lie.

    Raises:
        ImageError: no such folder.
    """
    root = Path(folder)
    if not root.is_dir():
        raise ImageError(f"{root}: no such folder of images: check the path")
    found = paths_of([image.file_name for image in annotations.images], root)
    odd = [
        image.file_name
        for image, (path, _) in zip(annotations.images, found, strict=True)
        if _is_odd(_slashed(image.file_name)) and path.is_relative_to(root)
    ]
    what = "file names that are URLs or absolute paths"
    then = "URLs are not fetched: their last parts are looked for there"
    return ImageSet(
        root,
        tuple(
            ImageFile(image.id, path, name_of(path, root, image.file_name), problem=problem)
            for image, (path, problem) in zip(annotations.images, found, strict=True)
        ),
        tuple(noted(str(root), what, odd, len(annotations.images), then)),
    )


def paths_of(names: Sequence[str], root: Path) -> list[tuple[Path, str]]:
    """For every name, the file that it means, and why there is none ("" where there may be one)."""
    plain = [_slashed(name) for name in names]
    last_parts = Counter(tail for name in plain if _is_odd(name) for tail in _tails(name))
    return [
        _path_of(name, slashed, root, last_parts)
        for name, slashed in zip(names, plain, strict=True)
    ]


def name_of(path: Path, root: Path, listed: str) -> str:
    """How documents name an image: as the file lists it, but for what no folder has."""
    if path.is_relative_to(root):
        return path.relative_to(root).as_posix()
    return listed


def _path_of(name: str, slashed: str, root: Path, shared: Mapping[str, int]) -> tuple[Path, str]:
    if not name:
        return root, "the annotation file has no file_name for it"
    if not _is_odd(slashed) and slashed == name:
        return root / name, ""
    candidates: list[Path] = []
    if not _URL.match(name):
        candidates += [root / name, root / slashed]
    if _is_odd(slashed):
        candidates += [root / tail for tail in _tails(slashed) if shared[tail] == 1]
    for candidate in candidates:
        if _exists(candidate):
            return candidate, ""
    if _URL.match(name):
        last = PurePosixPath(slashed).name
        return (
            root / last,
            f"{name} is a URL, which is not fetched, and there is no {last} in {root}",
        )
    return root / slashed, ""


def _slashed(name: str) -> str:
    return name.replace("\\", "/")


def _is_odd(name: str) -> bool:
    """Whether a name is not a relative path."""
    return name.startswith("/") or bool(_URL.match(name) or _DRIVE.match(name))


def _tails(name: str) -> Iterable[str]:
    """The last parts of a path, the longest first.

    >>> list(_tails("https://example.org/val/1.jpg"))
    ['example.org/val/1.jpg', 'val/1.jpg', '1.jpg']
    """
    parts = [part for part in _URL.sub("", name).split("/") if part not in ("", ".", "..")]
    return ("/".join(parts[start:]) for start in range(len(parts)))


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a name too long, or with a zero byte
        return False
