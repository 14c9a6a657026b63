"""Where the images of an annotation file lie, however it names them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol

from posepipe.errors import ImageError
from posepipe.io.findings import noted
from posepipe.io.images import ImageFile, ImageSet
from posepipe.io.schema import ImageEntry

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_DRIVE = re.compile(r"[A-Za-z]:/")


class Imaged(Protocol):
    """What lists images."""

    @property
    def images(self) -> Sequence[ImageEntry]:
        """The images."""


@dataclass(frozen=True)
class Place:
    """Where an image lies that an annotation file names.

    Attributes:
        path: the file.
        problem: why there is none; "" where there may be one.
        by_last_parts: whether only the last parts of its name lead there.
    """

    path: Path
    problem: str = ""
    by_last_parts: bool = False


def image_files(annotations: Imaged, folder: str | Path) -> ImageSet:
    r"""The annotated images in a folder, with the annotations' ids and in their order.

    Names with back-slashes are tried with slashes. Of URLs, of absolute paths that are not here and
    of paths whose folder is not here, the last part is looked for in the folder, or the last parts
    where the last alone is shared. An image that is missing is found out when it is read.

    Args:
        annotations: what lists the images.
        folder: where they lie.

    Raises:
        ImageError: no such folder.
    """
    root = Path(folder)
    if not root.is_dir():
        raise ImageError(f"{root}: no such folder of images: check the path")
    places = paths_of([image.file_name for image in annotations.images], root)
    listed = list(zip(annotations.images, places, strict=True))
    guessed = [image.file_name for image, place in listed if place.by_last_parts]
    what = "file names that are URLs, absolute paths or in folders that are not there"
    then = "their last parts were looked for (URLs are not fetched)"
    return ImageSet(
        root,
        tuple(
            ImageFile(
                image.id,
                place.path if image.file_name else root / f"(image {image.id})",
                name_of(place.path, root, image.file_name),
                problem=place.problem,
            )
            for image, place in listed
        ),
        tuple(noted(str(root), what, guessed, len(annotations.images), then)),
    )


def paths_of(names: Sequence[str], root: Path) -> list[Place]:
    """Where the file is that every name means."""
    plain = [_slashed(name) for name in names]
    parents = dict.fromkeys(str(PurePosixPath(name).parent) for name in plain)
    absent = {parent for parent in parents if not _exists(root / parent)}
    away = [_is_odd(name) or str(PurePosixPath(name).parent) in absent for name in plain]
    last_parts = Counter(
        tail
        for name, is_away in zip(plain, away, strict=True)
        for tail in (_tails(name) if is_away else ())
    )
    return [
        _place_of(name, slashed, root, last_parts if is_away else {})
        for name, slashed, is_away in zip(names, plain, away, strict=True)
    ]


def name_of(path: Path, root: Path, listed: str) -> str:
    """How documents name an image: as the file lists it, but for what no folder has."""
    if path.is_relative_to(root):
        return path.relative_to(root).as_posix()
    return listed


def _place_of(name: str, slashed: str, root: Path, last_parts: Mapping[str, int]) -> Place:
    """Where a name leads.

    Args:
        name: as the file has it.
        slashed: without back-slashes.
        root: the folder.
        last_parts: how many names end in the same; {} where the folder has the name's own folder.
    """
    if not name:
        return Place(root, "the annotation file has no file_name for it")
    if not last_parts and slashed == name:
        return Place(root / name)
    is_url = _URL.match(name)
    for whole in () if is_url else (name, slashed):
        if _exists(root / whole):
            return Place(root / whole)
    for tail in _tails(slashed) if last_parts else ():
        if last_parts[tail] == 1 and _exists(root / tail):
            return Place(root / tail, by_last_parts=True)
    if is_url:
        last = PurePosixPath(slashed).name
        why = f"{name} is a URL, which is not fetched, and there is no {last} in {root}"
        return Place(root / last, why)
    return Place(root / slashed)


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
