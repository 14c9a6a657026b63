"""The check of the data before any training: one line for each kind of problem, with counts."""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import msgspec

from posepipe.core.skeleton import Skeleton
from posepipe.errors import DocumentError, ImageError
from posepipe.io.coco import ImageEntry
from posepipe.io.findings import Finding
from posepipe.io.images import ImageFile
from posepipe.io.jsonfiles import decode, read_bytes
from posepipe.io.schema import WHAT
from posepipe.training.labelcheck import check_labels, findings_about
from posepipe.training.samples import DataTable

# Opening files is mostly waiting for a disk or a network.
_THREADS = 16


def check_data(
    train: Sequence[DataTable],
    validate: Sequence[DataTable],
    *,
    skeleton: Skeleton,
    keypoints: bool = True,
) -> list[Finding]:
    """What is wrong with data sets, or may be; [] where nothing is.

    Labels: see `posepipe.training.labelcheck.check_labels`. Pictures, of which only the headers are
    read; fatal: no such folder, missing or unreadable pictures, another size than the labels are
    for, and a picture both in training and validation: the same file, or the same bytes. Ids mean
    nothing there: two sets may use the same ones for different pictures. A warning: the same file
    name in both with other bytes, as of a picture that was saved again.

    Args:
        train: the sets to learn from.
        validate: the sets to measure on.
        skeleton: the labels' keypoints.
        keypoints: whether keypoints are learnt; False for detectors, which learn from boxes.
    """
    findings: list[Finding] = []
    pictures: dict[tuple[str, str], list[_Picture]] = {}
    for table in [*train, *validate]:
        key = (table.annotations, table.images)
        if key in pictures:
            continue
        pictures[key] = []
        try:
            labels = check_labels(Path(table.annotations), skeleton=skeleton, keypoints=keypoints)
        except DocumentError as error:
            findings.append(
                Finding(True, table.annotations, "files of no use", 1, None, (str(error),))
            )
            continue
        findings += labels.findings
        if not Path(table.images).is_dir():
            missing = (table.images,)
            findings.append(Finding(True, table.annotations, "missing folders", 1, None, missing))
            continue
        pictures[key] = _look(labels.images, Path(table.images))
        findings += _about_pictures(table, pictures[key])
    for one in _distinct(train):
        for other in _distinct(validate):
            findings += _shared(one, pictures[one], other, pictures[other])
    return findings


@dataclass(frozen=True)
class DataFingerprint:
    """What a data set was when a run began.

    Attributes:
        annotations: the file.
        sha256: of the file.
        images: the folder.
        pictures: how many the file lists.
        picture_bytes: size of all their files.
    """

    annotations: str
    sha256: str
    images: str
    pictures: int
    picture_bytes: int


def data_fingerprint(tables: Sequence[DataTable]) -> list[DataFingerprint]:
    """What data sets are now: enough to notice that a set has changed, without reading pictures.

    Raises:
        DocumentError: an annotation file is missing or wrong.
        ImageError: a picture is missing.
    """
    prints = []
    for table in tables:
        data = read_bytes(Path(table.annotations))
        images = decode(data, _Images, path=Path(table.annotations), what=WHAT).images
        looks = _sizes(Path(table.images) / image.file_name for image in images)
        prints.append(
            DataFingerprint(
                table.annotations,
                hashlib.sha256(data).hexdigest(),
                table.images,
                len(images),
                sum(looks),
            )
        )
    return prints


class _Images(msgspec.Struct, frozen=True):
    images: tuple[ImageEntry, ...]


@dataclass(frozen=True, eq=False, slots=True)
class _Picture:
    """A listed picture as its file is found.

    Attributes:
        path: where it should be.
        wanted_wh: its size as the labels have it.
        problem: why its header cannot be read, "" if it can.
        missing: whether there is no such file.
        size_wh: as the header says, the right way up.
        identity: device and number of the file, the same for all links to it.
        file_bytes: its length.
    """

    path: Path
    wanted_wh: tuple[int, int]
    problem: str = ""
    missing: bool = False
    size_wh: tuple[int, int] = (0, 0)
    identity: tuple[int, int] = (0, 0)
    file_bytes: int = -1


def _look(images: Sequence[ImageEntry], folder: Path) -> list[_Picture]:
    def one(image: ImageEntry) -> _Picture:
        path = folder / image.file_name
        try:
            status = path.stat()
        except OSError:
            return _Picture(path, image.size_wh, missing=True)
        found = (status.st_dev, status.st_ino), status.st_size
        try:
            size_wh = ImageFile(image.id, path, image.file_name).size_wh
        except ImageError as error:
            return _Picture(path, image.size_wh, str(error), False, (0, 0), *found)
        return _Picture(path, image.size_wh, "", False, size_wh, *found)

    with ThreadPoolExecutor(_THREADS) as pool:
        return list(pool.map(one, images))


def _sizes(paths: Iterable[Path]) -> list[int]:
    def one(path: Path) -> int:
        try:
            return path.stat().st_size
        except OSError as error:
            raise ImageError(f"{path} cannot be found: {error.strerror}") from None

    with ThreadPoolExecutor(_THREADS) as pool:
        return list(pool.map(one, paths))


def _about_pictures(table: DataTable, pictures: Sequence[_Picture]) -> list[Finding]:
    missing = [picture.path.name for picture in pictures if picture.missing]
    unreadable = [picture.problem for picture in pictures if picture.problem]
    other_size = [
        "{} is {}x{}, not {}x{}".format(p.path.name, *p.size_wh, *p.wanted_wh)
        for p in pictures
        if not p.missing and not p.problem and p.size_wh != p.wanted_wh
    ]
    count = len(pictures)
    return findings_about(
        table.annotations,
        [
            (True, f"missing pictures in {table.images}", missing, count),
            (True, "unreadable pictures", unreadable, count),
            (True, "pictures of another size than their labels are for", other_size, count),
        ],
    )


def _distinct(tables: Sequence[DataTable]) -> list[tuple[str, str]]:
    return list(dict.fromkeys((table.annotations, table.images) for table in tables))


def _shared(
    one: tuple[str, str],
    train: Sequence[_Picture],
    other: tuple[str, str],
    validate: Sequence[_Picture],
) -> list[Finding]:
    """Pictures of a training set that are in a validation set as well."""
    files = {picture.identity for picture in validate if not picture.missing}
    by_length: dict[int, list[_Picture]] = defaultdict(list)
    for picture in validate:
        by_length[picture.file_bytes].append(picture)
    # Only files as long as one of the others can be the same: a few of a hundred.
    suspects = [
        picture
        for picture in train
        if not picture.missing and picture.identity not in files and picture.file_bytes in by_length
    ]
    digests = _digests(
        {picture.path for picture in suspects}
        | {p.path for picture in suspects for p in by_length[picture.file_bytes]}
    )
    same = {
        picture.path
        for picture in suspects
        if digests.get(picture.path)
        in {digests.get(p.path) for p in by_length[picture.file_bytes]} - {None}
    }
    same |= {p.path for p in train if not p.missing and p.identity in files}
    names = {picture.path.name for picture in validate if not picture.missing}
    again = {p.path for p in train if not p.missing and p.path.name in names} - same
    return findings_about(
        f"{one[0]} and {other[0]}",
        [
            (True, "pictures both in training and in validation", _names(same), len(train)),
            (
                False,
                "file names both in training and in validation, of other bytes",
                _names(again),
                len(train),
            ),
        ],
    )


def _names(paths: Iterable[Path]) -> list[str]:
    return sorted(path.name for path in paths)


def _digests(paths: Iterable[Path]) -> dict[Path, str]:
    """SHA-256 by path; files that cannot be read are left out."""

    def one(path: Path) -> tuple[Path, str]:
        try:
            with path.open("rb") as file:
                return path, hashlib.file_digest(file, "sha256").hexdigest()
        except OSError:
            return path, ""

    with ThreadPoolExecutor(min(_THREADS, 2 * (os.cpu_count() or 1))) as pool:
        return {path: digest for path, digest in pool.map(one, paths) if digest}
