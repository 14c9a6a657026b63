"""What is wrong with an annotation file: all of it, counted, where reading stops at the first.

`posepipe.io.coco.read_annotations` refuses a file with any fatal finding of these; somebody who
has to mend a file wants to know of all of them at once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from posepipe.core.skeleton import Skeleton
from posepipe.io.categories import keypoint_names, person_categories
from posepipe.io.coco import ImageEntry, read_coco
from posepipe.io.findings import EXAMPLES, Finding
from posepipe.io.jsonfiles import decode, read_bytes
from posepipe.io.schema import WHAT

FAR_OUTSIDE = 0.1  # of the picture's longer side for keypoints, of the box's side for boxes

_Kind = tuple[bool, str, Sequence[str], int | None]


def findings_about(where: str, kinds: Iterable[_Kind]) -> list[Finding]:
    """One finding for each kind of which there is any.

    Args:
        where: what they are about.
        kinds: fatal or not, what, which ones, among how many.
    """
    return [
        Finding(fatal, where, what, len(which), of, tuple(which[:EXAMPLES]))
        for fatal, what, which, of in kinds
        if which
    ]


@dataclass(frozen=True)
class CheckedLabels:
    """An annotation file as far as it could be read.

    Attributes:
        images: its pictures.
        findings: what is wrong with its labels.
    """

    images: tuple[ImageEntry, ...]
    findings: tuple[Finding, ...]


def check_labels(path: Path, *, skeleton: Skeleton, keypoints: bool) -> CheckedLabels:
    """What is wrong with the labels of people in an annotation file; other categories do not count.

    Fatal: no pictures, a picture's or annotation's id twice, a person in a picture that is not
    listed, other keypoint names than the skeleton's or another order of them, keypoints of another
    number or visibility, pseudo keypoints that there are not, a box of negative size, and nobody to
    learn from. Warnings: a file name twice, a box without area (the person is left out), a box or
    labelled keypoints that reach far out of the picture.

    Args:
        path: the file.
        skeleton: its keypoints.
        keypoints: whether people without keypoints are nobody to learn from; else a set without
            people is a warning: pictures of nobody teach a detector, too.

    Raises:
        DocumentError: it cannot be read, or is no COCO file at all.
    """
    file = decode(read_bytes(path), _File, path=path, what=WHAT)
    images = file.images
    categories, _ = person_categories(read_coco(path).entries, skeleton, str(path))
    ids = {category.id for category in categories}
    sizes = {image.id: image.size_wh for image in images}
    people = [person for person in file.annotations if person.category_id in ids]
    strangers = [
        f"annotation {p.id} in image {p.image_id}" for p in people if p.image_id not in sizes
    ]
    triples, wrong = _keypoints(people, skeleton)
    visibility = triples[..., 2]
    odd = ~np.isin(visibility, (0, 1, 2)).all(axis=1)
    all_indices = set(range(len(skeleton)))
    pseudo = np.array([not all_indices.issuperset(p.pseudo_keypoints) for p in people], np.bool_)
    kinds: list[_Kind] = [
        (True, "picture ids that are there twice", _twice(i.id for i in images), len(images)),
        (False, "file names under several ids", _twice(i.file_name for i in images), len(images)),
        (True, "annotation ids that are there twice", _twice(p.id for p in people), len(people)),
        (True, "people in pictures that are not listed", strangers, len(people)),
        (True, f"people without x, y, v of {len(skeleton)} keypoints", wrong, len(people)),
        (True, "people with a visibility other than 0, 1, 2", _ids(people, odd), len(people)),
        (True, "people with pseudo keypoints unheard of", _ids(people, pseudo), len(people)),
        *_misplaced(people, triples, sizes),
    ]
    found = findings_about(str(path), kinds)
    found += keypoint_names(categories, skeleton, str(path), fatal=keypoints)
    if not images:
        found.append(Finding(True, str(path), "pictures", 0))
    elif not _anybody(people, visibility, keypoints=keypoints):
        what = "people with labelled keypoints" if keypoints else "people"
        found.append(Finding(keypoints, str(path), what, 0, len(file.annotations)))
    return CheckedLabels(images, tuple(found))


class _Person(msgspec.Struct, frozen=True, gc=False):
    id: int
    image_id: int
    category_id: int
    bbox: tuple[float, float, float, float]
    iscrowd: int = 0
    keypoints: msgspec.Raw = msgspec.Raw(b"null")
    pseudo_keypoints: tuple[int, ...] = ()


class _File(msgspec.Struct, frozen=True):
    images: tuple[ImageEntry, ...]
    annotations: tuple[_Person, ...] = ()


def _twice(values: Iterable[int | str]) -> list[str]:
    return [str(value) for value, times in Counter(values).items() if times > 1]


def _ids(people: Sequence[_Person], chosen: npt.ArrayLike) -> list[str]:
    return [f"annotation {people[place].id}" for place in np.flatnonzero(chosen).tolist()]


def _anybody(
    people: Sequence[_Person], visibility: npt.NDArray[np.float64], *, keypoints: bool
) -> bool:
    """Whether there is a person with a box and, if asked for, a labelled keypoint."""
    sides = np.array([person.bbox[2:] for person in people]).reshape(-1, 2)
    counted = (sides > 0).all(axis=1) & np.array([not p.iscrowd for p in people], np.bool_)
    if keypoints:
        counted &= (visibility > 0).any(axis=1)
    return bool(counted.any())


def _keypoints(
    people: Sequence[_Person], skeleton: Skeleton
) -> tuple[npt.NDArray[np.float64], list[str]]:
    """(people, K, 3), zeros where there are none or others, and whose are others."""
    triples = np.zeros((len(people), 3 * len(skeleton)))
    wrong = []
    for place, person in enumerate(people):
        try:
            numbers = msgspec.json.decode(person.keypoints, type=list[float] | None)
        except msgspec.DecodeError:
            wrong.append(f"annotation {person.id} has something else than numbers")
            continue
        if not numbers:
            continue
        if len(numbers) == triples.shape[1]:
            triples[place] = numbers
        else:
            wrong.append(f"annotation {person.id} has {len(numbers)} numbers")
    return triples.reshape(len(people), len(skeleton), 3), wrong


def _misplaced(
    people: Sequence[_Person],
    triples: npt.NDArray[np.float64],
    sizes: Mapping[int, tuple[int, int]],
) -> list[_Kind]:
    """Boxes and keypoints against the sizes of their pictures as the file has them."""
    boxes = np.array([person.bbox for person in people]).reshape(-1, 4)
    size = np.array([sizes.get(p.image_id, (0, 0)) for p in people], np.float64).reshape(-1, 2)
    known = (size > 0).all(axis=1)
    low, sides = boxes[:, :2], boxes[:, 2:]
    high = low + sides
    negative = (sides < 0).any(axis=1)
    empty = ~negative & (sides == 0).any(axis=1)
    solid = known & ~negative & ~empty
    gone = solid & ((high <= 0) | (low >= size)).any(axis=1)
    beyond = np.maximum(-low, high - size)  # pixels
    far = solid & ~gone & (beyond > np.maximum(FAR_OUTSIDE * sides, 2)).any(axis=1)
    points, labelled = triples[..., :2], triples[..., 2] > 0
    outside = np.maximum(-points, points - size[:, None]).max(axis=-1)  # pixels
    astray = known & (labelled & (outside > FAR_OUTSIDE * size.max(axis=1)[:, None])).any(axis=1)
    kinds = (
        (True, "boxes of negative size", negative),
        (False, "boxes without area, whose people are left out", empty),
        (False, "boxes outside their pictures", gone),
        (False, "boxes that reach out of their pictures by more than a tenth of their size", far),
        (False, "people with keypoints farther outside than a tenth of the picture", astray),
    )
    return [(fatal, what, _ids(people, which), len(people)) for fatal, what, which in kinds]
