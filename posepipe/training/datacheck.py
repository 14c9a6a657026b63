"""The check of the data before any training: one line for each kind of problem, with counts."""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from posepipe.errors import DocumentError, ImageError
from posepipe.io.categories import keypoint_names
from posepipe.io.coco import Annotations, image_files
from posepipe.io.findings import Finding, lost, noted
from posepipe.io.image_files import paths_of
from posepipe.io.images import ImageFile
from posepipe.io.schema import ImageEntry
from posepipe.io.sizes import compare_sizes
from posepipe.training.data import DataSets, DataTable, key_of

# Opening files is mostly waiting for a disk or a network.
_THREADS = 16

Learnt = Literal["keypoints", "people", "things"]


def check_data(
    train: Sequence[DataTable],
    validate: Sequence[DataTable],
    *,
    data: DataSets,
    learnt: Learnt = "keypoints",
) -> list[Finding]:
    """What is wrong with data sets, or may be; [] where nothing is.

    Labels: what reading found (`posepipe.io.coco`), and whether anybody is there. Images, all
    of which are decoded: those that are missing, damaged or of another size than their labels are
    for are left out (`data.left_out`); where they are most of a set, that is fatal. So is a missing
    folder, and an image both in training and validation: the same file, or the same bytes. Ids
    mean nothing there: two sets may use the same ones for different images. A warning: the same
    file name in both with different bytes, as when an image was saved again.

    Args:
        train: the sets to learn from.
        validate: the sets to measure on.
        data: reads them, and is told which images to leave out.
        learnt: "keypoints" of people; or boxes, of "people" or of "things" of all categories.
    """
    findings: list[Finding] = []
    looked_at: dict[tuple[str, str], list[_Image]] = {}
    checked: set[str] = set()
    for table in [*train, *validate]:
        key = key_of(table)
        if key in looked_at:
            continue
        looked_at[key] = []
        try:
            images = data.file(table).entries.images
            about_labels = _about_labels(table, data, learnt)
        except DocumentError as error:
            findings.append(
                Finding(
                    True, table.annotations, "files that cannot be used", 1, None, (str(error),)
                )
            )
            continue
        if table.annotations not in checked:
            findings += about_labels
        checked.add(table.annotations)
        if not Path(table.images).is_dir():
            missing = (table.images,)
            findings.append(Finding(True, table.annotations, "missing folders", 1, None, missing))
            continue
        looked_at[key], about_images = _look(table, images, data)
        findings += about_images
        findings += _nobody(table, data, learnt)
    for one in _distinct(train):
        for other in _distinct(validate):
            findings += _shared(one, looked_at[one], other, looked_at[other])
    return findings


@dataclass(frozen=True)
class DataFingerprint:
    """What a data set was when a run began.

    Attributes:
        annotations: the file.
        sha256: of the file.
        images: the folder.
        image_count: how many the file lists.
        image_bytes: size of all their files; missing ones count 0.
    """

    annotations: str
    sha256: str
    images: str
    image_count: int
    image_bytes: int


def data_fingerprint(tables: Sequence[DataTable], data: DataSets) -> list[DataFingerprint]:
    """What data sets are now: enough to notice that a set has changed, without reading images.

    Raises:
        DocumentError: an annotation file is missing or wrong.
    """
    prints = []
    for table in tables:
        file = data.file(table)
        names = [image.file_name for image in file.entries.images]
        paths = [place.path for place in paths_of(names, Path(table.images))]
        with ThreadPoolExecutor(_THREADS) as pool:
            total = sum(pool.map(_file_bytes, paths))
        prints.append(
            DataFingerprint(table.annotations, file.sha256, table.images, len(names), total)
        )
    return prints


@dataclass(frozen=True, eq=False, slots=True)
class _Image:
    """A listed image, as its file was found.

    Attributes:
        file: where it should be.
        problem: why it cannot be read, "" if it can.
        missing: whether there is no such file.
        size_wh: the right way up; None if it cannot be read.
        identity: device and number of the file, the same for all links to it.
        file_bytes: its length.
    """

    file: ImageFile
    problem: str = ""
    missing: bool = False
    size_wh: tuple[int, int] | None = None
    identity: tuple[int, int] = (0, 0)
    file_bytes: int = -1

    @property
    def path(self) -> Path:
        """The file's path."""
        return self.file.path


def _about_labels(table: DataTable, data: DataSets, learnt: Learnt) -> list[Finding]:
    if learnt == "things":
        return list(data.instances(table).findings)
    annotations = data.all_people(table)
    return [
        *annotations.findings,
        *(
            keypoint_names(
                annotations.person_categories, data.skeleton, table.annotations, fatal=True
            )
            if learnt == "keypoints"
            else []
        ),
    ]


def _look(
    table: DataTable, images: Sequence[ImageEntry], data: DataSets
) -> tuple[list[_Image], list[Finding]]:
    """The images of a set as they are found; those that cannot be used are left out."""

    def one(file: ImageFile) -> _Image:
        try:
            status = file.path.stat()
        except (OSError, ValueError, RuntimeError):  # a link to itself is a RuntimeError
            return _Image(file, missing=True)
        found = (status.st_dev, status.st_ino), status.st_size
        try:
            return _Image(file, "", False, file.decoded_size_wh(), *found)
        except ImageError as error:
            return _Image(file, str(error), False, None, *found)

    files = image_files(data.file(table).entries, table.images)
    with ThreadPoolExecutor(_THREADS) as pool:
        looked_at = list(pool.map(one, files))
    where, count = table.annotations, len(looked_at)
    sizes = compare_sizes(files, images, where, [image.size_wh for image in looked_at])
    missing = [
        image.file.problem or entry.file_name
        for image, entry in zip(looked_at, images, strict=True)
        if image.missing
    ]
    unreadable = [image.problem for image in looked_at if image.problem]
    data.left_out[key_of(table)] = frozenset(
        image.file.id
        for image, sized in zip(looked_at, sizes.images, strict=True)
        if image.missing or image.problem or sized.problem
    )
    return looked_at, [
        *lost(where, f"missing images in {table.images}", missing, count),
        *lost(where, "unreadable images", unreadable, count),
        *sizes.findings,
    ]


def _nobody(table: DataTable, data: DataSets, learnt: Learnt) -> list[Finding]:
    """A finding where there is nothing to learn from; empty images teach a detector, too."""
    count = len(data.file(table).entries.annotations)
    if not data.file(table).entries.images:
        return [Finding(True, table.annotations, "images", 0)]
    if learnt == "things" or _anybody(data.people(table), keypoints=learnt == "keypoints"):
        return []
    fatal = learnt == "keypoints"
    what = "people with labelled keypoints" if fatal else "people"
    return [Finding(fatal, table.annotations, what, 0, count)]


def _anybody(annotations: Annotations, *, keypoints: bool) -> bool:
    """Whether there is a person with a box and, if asked for, a labelled keypoint."""
    for image in annotations.images:
        labels = annotations.labels_by_image[image.id]
        counted = ~labels.is_crowd & (labels.boxes_xyxy[:, 2:] > labels.boxes_xyxy[:, :2]).all(1)
        if keypoints:
            counted &= (labels.visibility > 0).any(axis=1)
        if counted.any():
            return True
    return False


def _file_bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except (OSError, ValueError, RuntimeError):
        return 0


def _distinct(tables: Sequence[DataTable]) -> list[tuple[str, str]]:
    return list(dict.fromkeys(map(key_of, tables)))


def _shared(
    one: tuple[str, str],
    train: Sequence[_Image],
    other: tuple[str, str],
    validate: Sequence[_Image],
) -> list[Finding]:
    """Images of a training set that are in a validation set as well."""
    files = {image.identity for image in validate if not image.missing}
    by_length: dict[int, list[_Image]] = defaultdict(list)
    for image in validate:
        by_length[image.file_bytes].append(image)
    # Only files as long as one of the others can be the same: a few of a hundred.
    suspects = [
        image
        for image in train
        if not image.missing and image.identity not in files and image.file_bytes in by_length
    ]
    digests = _digests(
        {image.path for image in suspects}
        | {p.path for image in suspects for p in by_length[image.file_bytes]}
    )
    same = {
        image.path
        for image in suspects
        if digests.get(image.path)
        in {digests.get(p.path) for p in by_length[image.file_bytes]} - {None}
    }
    same |= {p.path for p in train if not p.missing and p.identity in files}
    names = {image.path.name for image in validate if not image.missing}
    again = {p.path for p in train if not p.missing and p.path.name in names} - same
    where, count = f"{one[0]} and {other[0]}", len(train)
    both = lost(where, "images both in training and in validation", _names(same), count)
    what = "file names both in training and in validation, with different bytes"
    return [replace(finding, fatal=True, then="") for finding in both] + noted(
        where, what, _names(again), count
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
