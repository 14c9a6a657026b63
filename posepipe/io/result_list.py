"""Lists of results, of posepipe and of other programs: read once, leniently, whatever they hold.

boxes.json, kps.json, COCO detection lists and COCO keypoint result lists come through here, and
every command that takes one of them goes on from the same `ResultFile`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from posepipe.core.skeleton import Skeleton
from posepipe.errors import DocumentError
from posepipe.io.entries import distinct_images
from posepipe.io.findings import Finding, lost
from posepipe.io.images import coco_id
from posepipe.io.jsonfiles import as_kind, decode_untyped, read_bytes
from posepipe.io.lenient import ID_RANGE, identifier, number, numbers, shown, whole
from posepipe.io.lenient_entries import UnreadableError, entries_of, images_of, unused_numbers
from posepipe.io.reasons import reason
from posepipe.io.schema import Box, ImageEntry

WHAT = "a list of boxes or poses"
TOOL = "posepipe"

T = TypeVar("T")


class Skipped(msgspec.Struct, frozen=True):
    """An image that could not be processed.

    Attributes:
        file_name: as in `ImageFile`.
        why: one line.
    """

    file_name: str
    why: str


class ResultEntry(msgspec.Struct, frozen=True, gc=False):
    """A box or a pose.

    Attributes:
        image_id: which image; as text where a program gave no number.
        category_id: what it is; None where the list does not say.
        score: None in annotation files.
        keypoints: x px, y px, confidence of every keypoint in turn; None for a box.
        bbox: left, top, width, height in pixels; None for most poses.
        file_name: the image's, in kps.json.
        image_root: the folder that it is relative to, in kps.json.
        box_xyxy: the box that a pose was looked for in, in kps.json.
        box_score: its score, in kps.json.
        skeleton: what the keypoints are, in kps.json; None for COCO's person.
        frame: the frame's number in its video, in kps.json of videos.
        seconds: the frame's time, likewise.
        track_id: whose pose it is, where people are followed.
    """

    image_id: int | str
    category_id: int | None = None
    score: float | None = None
    keypoints: tuple[float, ...] | None = None
    bbox: Box | None = None
    file_name: str | None = None
    image_root: str | None = None
    box_xyxy: Box | None = None
    box_score: float | None = None
    skeleton: Skeleton | None = None
    frame: int | None = None
    seconds: float | None = None
    track_id: int | None = None


@dataclass(frozen=True, eq=False)
class ResultFile:
    """What a file of results holds.

    Attributes:
        path: the file.
        entries: in the file's order.
        is_list: whether it is a plain list; else a document like boxes.json, with images.
        images: the images that a document lists.
        image_root: the folder that a document's file names are relative to.
        skipped: the images that a document says were left out.
        info: what a document says of its origin.
        findings: what was noticed in reading.
        category: what a document's boxes are of, where it names a single thing; else "".
    """

    path: Path
    entries: tuple[ResultEntry, ...]
    is_list: bool = True
    images: tuple[ImageEntry, ...] = ()
    image_root: str | None = None
    skipped: tuple[Skipped, ...] = ()
    info: Mapping[str, Any] | None = None
    findings: tuple[Finding, ...] = ()
    category: str = ""

    @property
    def holds_boxes(self) -> bool:
        """Whether these are boxes rather than poses; an empty list counts as a list of poses."""
        if not self.is_list:
            return True
        poses = any(entry.keypoints is not None for entry in self.entries)
        return not poses and any(entry.bbox is not None for entry in self.entries)

    @property
    def by_posepipe(self) -> bool:
        """Whether posepipe made it: then everything in it is a person, or of its category."""
        if not self.is_list:
            return (self.info or {}).get("tool") == TOOL
        return bool(self.entries) and all(e.box_xyxy and e.file_name for e in self.entries)

    def file_name(self, entry: ResultEntry) -> str | None:
        """The image's name, as far as the file says it."""
        return entry.file_name or self._names.get(entry.image_id)

    @cached_property
    def _names(self) -> Mapping[int | str, str]:
        return {image.id: image.file_name for image in self.images if image.file_name}


def read_results(path: str | Path) -> ResultFile:
    """A file of boxes or poses.

    Raises:
        DocumentError: it cannot be read, is not a JSON list, most of its entries cannot be read,
            or it is an annotation file.
    """
    path = Path(path)
    data = read_bytes(path)
    if data.lstrip()[:1] == b"{":
        return _read_document(data, path)
    typed = as_kind(data, tuple[ResultEntry, ...])
    if typed is not None and _have_numbers(typed):
        return ResultFile(path, typed)
    values = decode_untyped(data, path, WHAT)
    if not isinstance(values, list):
        raise DocumentError(f"{path} is not {WHAT}: it is {shown(values)}")
    entries, findings = _leniently(values, str(path))
    return ResultFile(path, entries, findings=tuple(findings))


def numbers_for(image_ids: Iterable[int | str]) -> dict[int | str, int]:
    """A number for every image: its id, the one that its name carries, or an unused one.

    >>> numbers_for([5, "000000000007.jpg", "cam0", 5])
    {5: 5, '000000000007.jpg': 7, 'cam0': 1}
    """
    keys = dict.fromkeys(image_ids)
    numbers: dict[int | str, int] = {key: key for key in keys if isinstance(key, int)}
    used = set(numbers.values())
    for key in keys:
        if isinstance(key, str) and (carried := coco_id(key)) is not None and carried not in used:
            numbers[key] = carried
            used.add(carried)
    fresh = unused_numbers(used)
    return numbers | {key: fresh() for key in keys if key not in numbers}


class _Category(msgspec.Struct, frozen=True):
    name: str = ""


class _Document(msgspec.Struct, frozen=True, kw_only=True):
    """A boxes.json, or a document like it."""

    info: dict[str, Any] = {}
    image_root: str | None = None
    images: tuple[ImageEntry, ...] = ()
    annotations: tuple[ResultEntry, ...]
    categories: tuple[_Category, ...] = ()
    skipped: tuple[Skipped, ...] = ()


def _read_document(data: bytes, path: Path) -> ResultFile:
    typed = as_kind(data, _Document)
    findings: list[Finding] = []
    if typed is None or not _have_numbers(typed.annotations):
        typed, findings = _document_leniently(decode_untyped(data, path, WHAT), path)
    if any(entry.keypoints is not None or entry.score is None for entry in typed.annotations):
        raise DocumentError(
            f"{path} is an annotation file: a list of results is needed, or give its labelled "
            "boxes to `posepipe pose` with --ground-truth"
        )
    images, about_images = distinct_images(typed.images, str(path))
    names = {category.name for category in typed.categories}
    return ResultFile(
        path,
        typed.annotations,
        is_list=False,
        images=images,
        image_root=typed.image_root,
        skipped=typed.skipped,
        info=typed.info,
        findings=(*findings, *about_images),
        category=names.pop() if len(names) == 1 else "",
    )


def _have_numbers(entries: Sequence[ResultEntry]) -> bool:
    return all(isinstance(e.image_id, int) and e.image_id in ID_RANGE for e in entries)


def _document_leniently(document: Any, path: Path) -> tuple[_Document, list[Finding]]:
    where = str(path)
    if not isinstance(document, dict) or not isinstance(document.get("annotations"), list):
        raise DocumentError(f"{path} is not {WHAT}: it has no list `annotations`")
    listed = document.get("images")
    images, ids, findings = images_of(listed if isinstance(listed, list) else [], where)
    found, about_entries = _leniently(document["annotations"], where)
    entries = tuple(
        msgspec.structs.replace(entry, image_id=ids.get(entry.image_id, entry.image_id))
        for entry in found
    )
    skipped = [
        Skipped(str(entry.get("file_name", "")), str(entry.get("why", "")))
        for entry in _tables_of(document, "skipped")
    ]
    categories = [
        _Category(str(entry.get("name", ""))) for entry in _tables_of(document, "categories")
    ]
    info, root = document.get("info"), document.get("image_root")
    read = _Document(
        info=info if isinstance(info, dict) else {},
        image_root=root if isinstance(root, str) else None,
        images=tuple(images),
        annotations=entries,
        categories=tuple(categories),
        skipped=tuple(skipped),
    )
    return read, [*findings, *about_entries]


def _tables_of(document: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    """The values that could be entries, of what may not be a list at all."""
    values = document.get(key)
    return [one for one in values if isinstance(one, dict)] if isinstance(values, list) else []


def _leniently(values: Sequence[Any], where: str) -> tuple[tuple[ResultEntry, ...], list[Finding]]:
    found, bad = entries_of(values, "", _entry)
    return tuple(found), lost(where, "entries that cannot be read", bad, len(values))


def _entry(entry: Mapping[str, Any]) -> ResultEntry:
    image_id = identifier(entry.get("image_id"))
    if image_id is None:
        raise UnreadableError(f".image_id is {shown(entry.get('image_id'))}")
    return ResultEntry(
        image_id,
        _or_none(entry, "category_id", whole, "a number"),
        _or_none(entry, "score", number, "a number"),
        _or_none(entry, "keypoints", numbers, "x, y, confidence of every keypoint"),
        _box(entry, "bbox", "left, top, width, height"),
        _text(entry, "file_name"),
        _text(entry, "image_root"),
        _box(entry, "box_xyxy", "left, top, right, bottom"),
        _or_none(entry, "box_score", number, "a number"),
        _skeleton(entry),
        # Other programs may mean something else by these words; that loses no pose.
        whole(entry.get("frame")),
        _seconds(entry.get("seconds")),
        whole(entry.get("track_id")),
    )


def _or_none(
    entry: Mapping[str, Any], key: str, meaning: Callable[[object], T | None], wanted: str
) -> T | None:
    """What a value means; None for null and where there is none."""
    if entry.get(key) is None:
        return None
    meant = meaning(entry[key])
    if meant is None:
        raise UnreadableError(f".{key} is {shown(entry[key])}: {wanted} is needed")
    return meant


def _box(entry: Mapping[str, Any], key: str, wanted: str) -> Box | None:
    box = _or_none(entry, key, lambda value: numbers(value, 4), wanted)
    return None if box is None else (box[0], box[1], box[2], box[3])


def _skeleton(entry: Mapping[str, Any]) -> Skeleton | None:
    try:
        return msgspec.convert(entry.get("skeleton"), Skeleton | None)
    except msgspec.ValidationError as error:
        raise UnreadableError(f".skeleton: {reason(error, Skeleton)}") from None


def _seconds(value: object) -> float | None:
    seconds = None if value is None else number(value)
    return seconds if seconds is not None and math.isfinite(seconds) else None


def _text(entry: Mapping[str, Any], key: str) -> str | None:
    value = entry.get(key)
    return value if isinstance(value, str) else None
