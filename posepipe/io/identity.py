"""Which image and which thing an entry of results means, given an annotation file.

Ids are a matter of convention: images without COCO's names are numbered as they are found, and
every program numbers categories its own way. File names and categories say more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from msgspec import structs

from posepipe.io.categories import PERSON_ID
from posepipe.io.coco import Annotations
from posepipe.io.findings import EXAMPLES, Finding
from posepipe.io.images import coco_id
from posepipe.io.result_list import ResultEntry, ResultFile
from posepipe.io.schema import ImageEntry


@dataclass(frozen=True)
class Identified:
    """The images of results, as an annotation file numbers them.

    Attributes:
        ids: the annotation file's id for every (id, file name) of the results that it has.
        named_elsewhere: of results whose names say that the annotation file does not have them.
        unknown: ids of results without names that the annotation file does not have.
        findings: a line where names told what ids did not.
    """

    ids: Mapping[tuple[int | str, str | None], int]
    named_elsewhere: tuple[str, ...]
    unknown: tuple[int | str, ...]
    findings: tuple[Finding, ...]


def identify(results: ResultFile, annotations: Annotations) -> Identified:
    """Find the images of results among those of an annotation file.

    An id counts where the names, as far as both have some, agree; otherwise the name does: the
    whole of it, else its last parts where they fit a single image.
    """
    by_name = _Names(annotations.images)
    listed: dict[int | None, str] = {image.id: image.file_name for image in annotations.images}
    ids: dict[tuple[int | str, str | None], int] = {}
    elsewhere: list[str] = []
    unknown: list[int | str] = []
    renumbered: list[str] = []
    for key, name in dict.fromkeys((e.image_id, results.file_name(e)) for e in results.entries):
        own = annotations.text_ids.get(key) if isinstance(key, str) else key
        found = own if own in listed else None
        if name and (own not in listed or listed[own]):
            found = by_name.find(name, own)
        elif isinstance(key, str) and own is None:
            found = by_name.find(key, None)
            if found is None and (carried := coco_id(key)) in listed:
                found = carried
        if found is not None:
            ids[key, name] = found
            if found != own and isinstance(key, int):
                renumbered.append(f"{name}: {key}, there {found}")
        elif name:
            elsewhere.append(name)
        else:
            unknown.append(key)
    findings = []
    if renumbered:
        findings.append(
            Finding(
                False,
                str(results.path),
                f"images with other ids than in {annotations.path}",
                len(renumbered),
                len(ids) + len(elsewhere) + len(unknown),
                tuple(renumbered[:EXAMPLES]),
                "matched by file name",
            )
        )
    return Identified(ids, tuple(elsewhere), tuple(unknown), tuple(findings))


def as_annotated(results: ResultFile, annotations: Annotations) -> ResultFile:
    """The results on images that an annotation file has, with its ids in place of their own."""
    found = identify(results, annotations)
    entries = (
        structs.replace(entry, image_id=found.ids[key])
        for entry in results.entries
        if (key := (entry.image_id, results.file_name(entry))) in found.ids
    )
    images = {
        found.ids[key]: structs.replace(image, id=found.ids[key])
        for image in results.images
        if (key := (image.id, image.file_name or None)) in found.ids
    }
    return replace(
        results,
        entries=tuple(entries),
        images=tuple(images.values()),
        findings=(*results.findings, *found.findings),
    )


def is_person(entry: ResultEntry, annotations: Annotations | None) -> bool:
    """Whether an entry of another program's results is of a person.

    COCO's id of a person means one wherever the annotation file does not give it to another thing.

    Args:
        entry: with a category id, or without any: then it is one.
        annotations: whose categories these are; None: COCO's.
    """
    if entry.category_id is None:
        return True
    if annotations is None:
        return entry.category_id == PERSON_ID
    if entry.category_id in annotations.person_ids:
        return True
    return entry.category_id == PERSON_ID and PERSON_ID not in annotations.other_category_ids


class _Names:
    """Images by what their names end in."""

    def __init__(self, images: Iterable[ImageEntry]) -> None:
        self._by_stem: dict[str, list[tuple[tuple[str, ...], int]]] = {}
        for image in images:
            if image.file_name:
                of_stem = self._by_stem.setdefault(_stem(image.file_name), [])
                of_stem.append((_parts(image.file_name), image.id))

    def find(self, name: str, own: int | None) -> int | None:
        """The image that shares most of the name's last parts; None if there is not one.

        Args:
            name: to find.
            own: the id that its entry has, which decides where several share as much.
        """
        wanted = _parts(name)
        candidates = self._by_stem.get(_stem(name), ())
        shared = [(_shared(wanted, parts), id_) for parts, id_ in candidates]
        most = max((number for number, _ in shared), default=0)
        best = [id_ for number, id_ in shared if number == most]
        if own is not None and own in best:
            return own
        return best[0] if len(best) == 1 else None


def _parts(name: str) -> tuple[str, ...]:
    return PurePosixPath(name.replace("\\", "/")).parts


def _stem(name: str) -> str:
    return PurePosixPath(name.replace("\\", "/")).stem


def _shared(one: tuple[str, ...], other: tuple[str, ...]) -> int:
    """How many parts are equal, from the end on."""
    pairs = zip(reversed(one), reversed(other), strict=False)
    number = 0
    for a, b in pairs:
        if a != b:
            break
        number += 1
    return number
