"""The entries of annotation files that differ from COCO's own: what each value means."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from posepipe.errors import DocumentError
from posepipe.io.findings import Finding, lost, noted
from posepipe.io.jsonfiles import NOT_UTF8
from posepipe.io.lenient import identifier, number, numbers, shown, whole
from posepipe.io.schema import WHAT, AnnotationEntry, AnnotationFile, CategoryEntry, ImageEntry

T = TypeVar("T")


def read_leniently(
    document: object, path: Path
) -> tuple[AnnotationFile, Mapping[str, int], list[Finding]]:
    """The entries of a JSON document, the numbers of image ids that are text, what was noticed.

    Args:
        document: as Python's own types.
        path: the file, for messages.

    Raises:
        DocumentError: it has no list of images.
    """
    if not isinstance(document, dict):
        raise DocumentError(
            f"{path} is not {WHAT}: that has images, annotations and categories, this is "
            f"{_kind(document)}"
        )
    where = str(path)
    images = _list_of(document, "images", path)
    annotations = _list_of(document, "annotations", path)
    categories = _list_of(document, "categories", path)
    if "images" not in document:
        raise DocumentError(f"{path} is not {WHAT}: it has no list of images, `images`")
    category_numbers = _numbered(entry.get("id") for entry in _dicts(categories))
    named = {str(entry.get("name")): identifier(entry.get("id")) for entry in _dicts(categories)}
    kinds, bad_categories = entries_of(
        categories, "categories", lambda entry: _category(entry, category_numbers)
    )
    listed, numbers_of_ids, about_images = images_of(images, where)
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
        raise UnreadableError(f".category_id is {shown(value)}: the id of a category is needed")

    fresh = unused_numbers(
        {
            key
            for entry in _dicts(annotations)
            if isinstance(key := identifier(entry.get("id")), int)
        }
    )
    things, bad_annotations = entries_of(
        annotations,
        "annotations",
        lambda entry: _annotation(entry, numbers_of_ids, category_id, fresh),
    )
    findings = [
        *lost(where, "categories that cannot be read", bad_categories, len(categories)),
        *about_images,
        *lost(where, "annotations that cannot be read", bad_annotations, len(annotations)),
    ]
    text_ids = {key: value for key, value in numbers_of_ids.items() if isinstance(key, str)}
    return AnnotationFile(tuple(listed), tuple(things), tuple(kinds)), text_ids, findings


class UnreadableError(Exception):
    """An entry that means nothing; its text says why."""


def _kind(value: object) -> str:
    return "a list (of results?)" if isinstance(value, list) else shown(value)


def _list_of(document: Mapping[str, Any], key: str, path: Path) -> list[Any]:
    value = document.get(key)
    if value is None:
        return []
    if not isinstance(value, list):
        raise DocumentError(f"{path} is not {WHAT}: `{key}` is {shown(value)}, not a list")
    return value


def _dicts(entries: Iterable[Any]) -> Iterable[dict[str, Any]]:
    return (entry for entry in entries if isinstance(entry, dict))


def entries_of(
    values: Sequence[Any], name: str, read: Callable[[dict[str, Any]], T]
) -> tuple[list[T], list[str]]:
    """What can be read, and why the rest cannot."""
    found, bad = [], []
    for place, value in enumerate(values):
        try:
            if not isinstance(value, dict):
                raise UnreadableError(f" is {shown(value)}")
            found.append(read(value))
        except UnreadableError as error:
            bad.append(f"{name}[{place}]{error}")
    return found, bad


def images_of(
    values: Sequence[Any], where: str
) -> tuple[list[ImageEntry], dict[int | str, int], list[Finding]]:
    """The images of a list as JSON has it, the numbers of their ids, and what was noticed.

    Args:
        values: the list.
        where: the file's name, for the findings.
    """
    ids = _numbered(entry.get("id") for entry in _dicts(values))
    images, bad = entries_of(values, "images", lambda entry: _image(entry, ids))
    damaged = [image.file_name for image in images if NOT_UTF8 in image.file_name]
    return (
        images,
        ids,
        [
            *lost(where, "images that cannot be read", bad, len(values)),
            *noted(
                where,
                "image ids that are text, or too large",
                [key for key in ids if isinstance(key, str)],
                len(values),
                "numbered; results are matched by these ids or by file names",
            ),
            *noted(where, "file names that are not UTF-8", damaged, len(values), "rename them"),
        ],
    )


def _numbered(values: Iterable[object]) -> dict[int | str, int]:
    """A number for every id: itself, or an unused one for those that are text."""
    keys = [key for value in values if (key := identifier(value)) is not None]
    whole_ids = {key for key in keys if isinstance(key, int)}
    fresh = unused_numbers(whole_ids)
    text_ids = {key: fresh() for key in dict.fromkeys(keys) if isinstance(key, str)}
    by_key: dict[int | str, int] = {key: key for key in whole_ids}
    return by_key | text_ids


def unused_numbers(used: Iterable[int]) -> Callable[[], int]:
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
        raise UnreadableError(f".id is {shown(entry.get('id'))}")
    name, seconds = entry.get("file_name"), number(entry.get("seconds"))
    return ImageEntry(
        ids[key],
        name if isinstance(name, str) else "",
        whole(entry.get("width")) or 0,
        whole(entry.get("height")) or 0,
        whole(entry.get("frame")),
        seconds if seconds is not None and math.isfinite(seconds) else None,
    )


def _category(entry: Mapping[str, Any], ids: Mapping[int | str, int]) -> CategoryEntry:
    key = identifier(entry.get("id"))
    if key is None:
        raise UnreadableError(f".id is {shown(entry.get('id'))}")
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
    image = identifier(entry.get("image_id"))
    if image is None:
        raise UnreadableError(f".image_id is {shown(entry.get('image_id'))}")
    if isinstance(image, str) and image not in image_ids:
        raise UnreadableError(f" is of image {image}, which is not listed")
    bbox = numbers(entry.get("bbox"), 4)
    if bbox is None:
        raise UnreadableError(
            f".bbox is {shown(entry.get('bbox'))}: left, top, width, height are needed"
        )
    own_id = identifier(entry.get("id"))
    source, score = entry.get("box_source"), number(entry.get("box_score"))
    return AnnotationEntry(
        own_id if isinstance(own_id, int) else fresh(),
        image_ids.get(image, image) if isinstance(image, int) else image_ids[image],
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
    """Keypoints as JSON text once more; what is not a list of numbers stays as it is."""
    flat = numbers(keypoints)
    # json: msgspec writes no half of a character, as names of files may have
    return msgspec.Raw(
        json.dumps(keypoints).encode() if flat is None else msgspec.json.encode(flat)
    )
