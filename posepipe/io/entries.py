"""The entries of COCO annotation files, from JSON: strictly where that works, else leniently.

A file as COCO's own are is decoded straight into typed entries. Any other one is decoded once more
without types, and what its values mean is looked up one by one (`posepipe.io.lenient`), so that
both ways give the same entries for a file that both can read.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec

from posepipe.errors import DocumentError
from posepipe.io.findings import EXAMPLES, Finding, lost, noted
from posepipe.io.jsonfiles import as_kind, decode_untyped
from posepipe.io.lenient import ID_RANGE, identifier, number, numbers, shown, whole

WHAT = "a COCO annotation file"

Id = Annotated[int, msgspec.Meta(ge=ID_RANGE[0], le=ID_RANGE[-1])]
Box = tuple[float, float, float, float]
T = TypeVar("T")


class ImageEntry(msgspec.Struct, frozen=True, gc=False):
    """A picture as COCO-shaped files list it.

    Attributes:
        id: what annotations refer to.
        file_name: relative to the image root; "" where the file has none.
        width: pixels; 0 or less where the file does not say.
        height: pixels; likewise.
    """

    id: Id
    file_name: str = ""
    width: int = 0
    height: int = 0

    @property
    def size_wh(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.width, self.height

    @property
    def has_size(self) -> bool:
        """Whether the file says the size."""
        return self.width > 0 and self.height > 0


class CategoryEntry(msgspec.Struct, frozen=True):
    """A category of things, with the skeleton of those that have keypoints.

    Attributes:
        id: what annotations refer to.
        name: such as "person".
        keypoints: names, in the order of the annotations' keypoints; () where there are none.
        skeleton: pairs of keypoints that are connected, counted from 1.
    """

    id: Id
    name: str = ""
    keypoints: tuple[str, ...] = ()
    skeleton: tuple[tuple[int, int], ...] = ()


class AnnotationEntry(msgspec.Struct, frozen=True, gc=False):
    """A labelled thing; fields beyond COCO's are described in docs/file-formats.md."""

    id: Id
    image_id: Id
    category_id: Id
    bbox: Box  # left, top, width, height in pixels
    area: float | None = None
    iscrowd: int = 0
    num_keypoints: int | None = None
    # Left as text until its turn: COCO's train2017 has 13 million numbers here.
    keypoints: msgspec.Raw = msgspec.Raw(b"null")
    pseudo_keypoints: tuple[int, ...] = ()
    box_source: str = ""
    box_score: float | None = None
    area_is_estimate: bool = False


@dataclass(frozen=True, eq=False)
class Entries:
    """The content of an annotation file.

    Attributes:
        images: in the file's order; their ids differ.
        annotations: in the file's order, each of one of the images; their ids differ.
        categories: in the file's order.
        text_ids: the numbers that stand for picture ids that are text.
        findings: what was met in reading.
    """

    images: tuple[ImageEntry, ...]
    annotations: tuple[AnnotationEntry, ...]
    categories: tuple[CategoryEntry, ...]
    text_ids: Mapping[str, int]
    findings: tuple[Finding, ...]


def read_entries(data: bytes, path: Path) -> Entries:
    """The entries of an annotation file's bytes.

    Raises:
        DocumentError: no JSON, or none that has a list of pictures.
    """
    file = as_kind(data, _File)
    text_ids: Mapping[str, int] = {}
    findings: list[Finding] = []
    if file is None:
        file, text_ids, findings = _leniently(decode_untyped(data, path, WHAT), path)
    images, about_images = _distinct_images(file.images, str(path))
    known = {image.id for image in images}
    annotations = [entry for entry in file.annotations if entry.image_id in known]
    strangers = [
        f"annotation {entry.id} of picture {entry.image_id}"
        for entry in file.annotations
        if entry.image_id not in known
    ]
    findings += about_images
    findings += lost(
        str(path),
        "annotations of pictures that are not listed",
        strangers,
        len(file.annotations),
    )
    annotations, about_annotations = _distinct_annotations(annotations, str(path))
    return Entries(
        images, tuple(annotations), file.categories, text_ids, (*findings, *about_annotations)
    )


class _File(msgspec.Struct, frozen=True):
    images: tuple[ImageEntry, ...]
    annotations: tuple[AnnotationEntry, ...] = ()  # test sets come without
    categories: tuple[CategoryEntry, ...] = ()


def _distinct_images(
    images: Sequence[ImageEntry], where: str
) -> tuple[tuple[ImageEntry, ...], list[Finding]]:
    """The pictures, those listed again left out."""
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
    findings = noted(where, "pictures that are listed twice", again, len(images), "taken once")
    if clashing:
        findings.append(
            Finding(
                True,
                where,
                "picture ids that two pictures share",
                len(clashing),
                len(images),
                tuple(clashing[:EXAMPLES]),
                "give every picture an id of its own",
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
    fresh = _unused_numbers(times)
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
        *noted(where, "annotations that are there twice", again, count, "taken once"),
        *noted(
            where,
            "annotation ids that are there twice",
            renumbered,
            count,
            "different things, so all of them are taken",
        ),
    ]


# --- files that are not as COCO's own


def _leniently(document: object, path: Path) -> tuple[_File, Mapping[str, int], list[Finding]]:
    if not isinstance(document, dict):
        raise DocumentError(
            f"{path} is not {WHAT}: that has pictures, annotations and categories, this is "
            f"{_kind(document)}"
        )
    where = str(path)
    images = _list_of(document, "images", path)
    annotations = _list_of(document, "annotations", path)
    categories = _list_of(document, "categories", path)
    if "images" not in document:
        raise DocumentError(f"{path} is not {WHAT}: it has no list of pictures, `images`")
    category_numbers, _ = _numbered(entry.get("id") for entry in _dicts(categories))
    named = {str(entry.get("name")): identifier(entry.get("id")) for entry in _dicts(categories)}
    kinds, bad_categories = _entries(
        categories, "categories", lambda entry: _category(entry, category_numbers)
    )
    numbers_of_ids, text_ids = _numbered(entry.get("id") for entry in _dicts(images))
    pictures, bad_pictures = _entries(images, "images", lambda entry: _image(entry, numbers_of_ids))
    only = categories[0] if len(kinds) == 1 else None

    def category_id(value: object) -> int:
        if value is None and isinstance(only, dict):
            value = only.get("id")
        key = identifier(value)
        if isinstance(key, str) and key not in category_numbers:
            key = named.get(key)  # its name in place of its id
        if key in category_numbers:
            return category_numbers[key]
        if isinstance(key, int):
            return key
        raise _UnreadableError(f".category_id is {shown(value)}: the id of a category is needed")

    fresh = _unused_numbers(
        {
            key
            for entry in _dicts(annotations)
            if isinstance(key := identifier(entry.get("id")), int)
        }
    )
    things, bad_annotations = _entries(
        annotations,
        "annotations",
        lambda entry: _annotation(entry, numbers_of_ids, category_id, fresh),
    )
    findings = [
        *lost(where, "categories that cannot be read", bad_categories, len(categories)),
        *lost(where, "pictures that cannot be read", bad_pictures, len(images)),
        *lost(where, "annotations that cannot be read", bad_annotations, len(annotations)),
        *noted(
            where,
            "picture ids that are text, or too large",
            list(text_ids),
            len(images),
            "numbered; results are matched by these ids or by file names",
        ),
    ]
    return _File(tuple(pictures), tuple(things), tuple(kinds)), text_ids, findings


class _UnreadableError(Exception):
    """An entry that means nothing; its text says why."""


def _kind(value: object) -> str:
    return "a list (of results?)" if isinstance(value, list) else shown(value)


def _list_of(document: Mapping[str, Any], key: str, path: Path) -> list[Any]:
    value = document.get(key)
    if value is None:
        return []
    if not isinstance(value, list):
        raise DocumentError(f"{path} is not {WHAT}: `{key}` is {shown(value)}, no list")
    return value


def _dicts(entries: Iterable[Any]) -> Iterable[dict[str, Any]]:
    return (entry for entry in entries if isinstance(entry, dict))


def _entries(
    values: Sequence[Any], name: str, read: Callable[[dict[str, Any]], T]
) -> tuple[list[T], list[str]]:
    """What can be read, and why the others cannot."""
    found, bad = [], []
    for place, value in enumerate(values):
        try:
            if not isinstance(value, dict):
                raise _UnreadableError(f" is {shown(value)}")
            found.append(read(value))
        except _UnreadableError as error:
            bad.append(f"{name}[{place}]{error}")
    return found, bad


def _numbered(values: Iterable[object]) -> tuple[dict[int | str, int], dict[str, int]]:
    """A number for every id, and apart those for ids that are text."""
    keys = [key for value in values if (key := identifier(value)) is not None]
    whole_ids = {key for key in keys if isinstance(key, int)}
    fresh = _unused_numbers(whole_ids)
    text_ids = {key: fresh() for key in dict.fromkeys(keys) if isinstance(key, str)}
    by_key: dict[int | str, int] = {key: key for key in whole_ids}
    return by_key | text_ids, text_ids


def _unused_numbers(used: Iterable[int]) -> Callable[[], int]:
    """Gives numbers from 1 on that are not used."""
    taken = set(used)
    last = 0

    def following() -> int:
        nonlocal last
        last += 1
        while last in taken:
            last += 1
        return last

    return following


def _image(entry: Mapping[str, Any], ids: Mapping[int | str, int]) -> ImageEntry:
    key = identifier(entry.get("id"))
    if key is None:
        raise _UnreadableError(f".id is {shown(entry.get('id'))}")
    name = entry.get("file_name")
    return ImageEntry(
        ids[key],
        name if isinstance(name, str) else "",
        whole(entry.get("width")) or 0,
        whole(entry.get("height")) or 0,
    )


def _category(entry: Mapping[str, Any], ids: Mapping[int | str, int]) -> CategoryEntry:
    key = identifier(entry.get("id"))
    if key is None:
        raise _UnreadableError(f".id is {shown(entry.get('id'))}")
    names, pairs = entry.get("keypoints"), entry.get("skeleton")
    limbs = [numbers(pair, 2) for pair in pairs] if isinstance(pairs, list) else []
    return CategoryEntry(
        ids[key],
        str(entry.get("name", "")),
        tuple(map(str, names)) if isinstance(names, list) else (),
        tuple((int(one[0]), int(one[1])) for one in limbs if one and all(map(math.isfinite, one))),
    )


def _annotation(
    entry: Mapping[str, Any],
    image_ids: Mapping[int | str, int],
    category_id: Callable[[object], int],
    fresh: Callable[[], int],
) -> AnnotationEntry:
    picture = identifier(entry.get("image_id"))
    if picture is None:
        raise _UnreadableError(f".image_id is {shown(entry.get('image_id'))}")
    if isinstance(picture, str) and picture not in image_ids:
        raise _UnreadableError(f" is of picture {picture}, which is not listed")
    bbox = numbers(entry.get("bbox"), 4)
    if bbox is None:
        raise _UnreadableError(
            f".bbox is {shown(entry.get('bbox'))}: left, top, width, height are needed"
        )
    own_id = identifier(entry.get("id"))
    source, score = entry.get("box_source"), number(entry.get("box_score"))
    return AnnotationEntry(
        own_id if isinstance(own_id, int) else fresh(),
        image_ids.get(picture, picture) if isinstance(picture, int) else image_ids[picture],
        category_id(entry.get("category_id")),
        (bbox[0], bbox[1], bbox[2], bbox[3]),
        _finite(number(entry.get("area"))),
        whole(entry.get("iscrowd")) or 0,
        whole(entry.get("num_keypoints")),
        _as_raw(entry.get("keypoints")),
        tuple(int(index) for index in numbers(entry.get("pseudo_keypoints")) or ()),
        source if isinstance(source, str) else "",
        _finite(score),
        bool(whole(entry.get("area_is_estimate"))),
    )


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _as_raw(keypoints: object) -> msgspec.Raw:
    """Keypoints as JSON text once more; what is no list of numbers stays what it is."""
    flat = numbers(keypoints)
    return msgspec.Raw(msgspec.json.encode(keypoints if flat is None else flat))
