"""The entries of COCO annotation files, from JSON: strictly where that works, else leniently.

A file as COCO's own are is decoded straight into typed entries. Any other one is decoded once more
without types, and what its values mean is looked up one by one (`posepipe.io.lenient`), so that
both ways give the same entries for a file that both can read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from posepipe.io.findings import EXAMPLES, Finding, lost, noted
from posepipe.io.jsonfiles import as_kind, decode_untyped
from posepipe.io.lenient_entries import read_leniently, unused_numbers
from posepipe.io.schema import WHAT, AnnotationEntry, AnnotationFile, CategoryEntry, ImageEntry


@dataclass(frozen=True, eq=False)
class Entries:
    """The content of an annotation file.

    Attributes:
        images: in the file's order; their ids differ.
        annotations: in the file's order, each of one of the images; their ids differ.
        categories: in the file's order.
        text_ids: the numbers that stand for image ids that are text.
        findings: what was noticed in reading.
    """

    images: tuple[ImageEntry, ...]
    annotations: tuple[AnnotationEntry, ...]
    categories: tuple[CategoryEntry, ...]
    text_ids: Mapping[str, int]
    findings: tuple[Finding, ...]


def read_entries(data: bytes, path: Path) -> Entries:
    """The entries of an annotation file's bytes.

    Raises:
        DocumentError: not JSON, or without a list of images.
    """
    file = as_kind(data, AnnotationFile)
    text_ids: Mapping[str, int] = {}
    findings: list[Finding] = []
    if file is None:
        file, text_ids, findings = read_leniently(decode_untyped(data, path, WHAT), path)
    images, about_images = distinct_images(file.images, str(path))
    known = {image.id for image in images}
    annotations = [entry for entry in file.annotations if entry.image_id in known]
    strangers = [
        f"annotation {entry.id} of image {entry.image_id}"
        for entry in file.annotations
        if entry.image_id not in known
    ]
    findings += about_images
    findings += lost(
        str(path),
        "annotations of images that are not listed",
        strangers,
        len(file.annotations),
    )
    annotations, about_annotations = _distinct_annotations(annotations, str(path))
    return Entries(
        images, tuple(annotations), file.categories, text_ids, (*findings, *about_annotations)
    )


def distinct_images(
    images: Sequence[ImageEntry], where: str
) -> tuple[tuple[ImageEntry, ...], list[Finding]]:
    """The images, those listed again left out."""
    by_id: dict[int, ImageEntry] = {}
    again: list[str] = []
    clashing: list[str] = []
    for image in images:
        first = by_id.setdefault(image.id, image)
        if first is not image:
            same = first.file_name == image.file_name
            (again if same else clashing).append(
                str(image.id) if same else f"{image.id}: {first.file_name} and {image.file_name}"
            )
    names = Counter(image.file_name for image in by_id.values() if image.file_name)
    shared = [name for name, times in names.items() if times > 1]
    findings = noted(where, "images that are listed twice", again, len(images), "taken once")
    if clashing:
        findings.append(
            Finding(
                True,
                where,
                "image ids that two images share",
                len(clashing),
                len(images),
                tuple(clashing[:EXAMPLES]),
                "give every image an id of its own",
            )
        )
    findings += noted(where, "file names under several ids", shared, len(images))
    return tuple(by_id.values()), findings


def _distinct_annotations(
    annotations: Sequence[AnnotationEntry], where: str
) -> tuple[list[AnnotationEntry], list[Finding]]:
    """The annotations, exact repetitions left out, others with the same id renumbered."""
    times = Counter(entry.id for entry in annotations)
    if len(times) == len(annotations):
        return list(annotations), []
    fresh = unused_numbers(times)
    kept: list[AnnotationEntry] = []
    by_id: dict[int, list[AnnotationEntry]] = {}
    again, renumbered = [], []
    for entry in annotations:
        same_id = by_id.setdefault(entry.id, [])
        if entry in same_id:
            again.append(str(entry.id))
            continue
        same_id.append(entry)
        if len(same_id) == 1:
            kept.append(entry)
        else:
            renumbered.append(str(entry.id))
            kept.append(msgspec.structs.replace(entry, id=fresh()))
    count = len(annotations)
    return kept, [
        *noted(where, "annotations that are listed twice", again, count, "taken once"),
        *noted(
            where,
            "annotation ids that are used twice",
            renumbered,
            count,
            "they are different things, so all of them are used",
        ),
    ]
