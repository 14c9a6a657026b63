"""The labelled people of an annotation file: cleaned, as columns, with what was odd about them."""

from __future__ import annotations

import json
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt

from posepipe.core.skeleton import Skeleton
from posepipe.io.findings import Finding, lost, noted
from posepipe.io.lenient import numbers
from posepipe.io.schema import AnnotationEntry, ImageEntry

ROUNDING = 0.75  # pixels by which the boxes of a person who is labelled twice may differ
AREA_SHARES = (0.02, 2)  # of a person's box; outlines of COCO's people have 0.16 to 0.95
FAR_OUTSIDE = 0.1  # of the image's longer side for keypoints, of the box's side for boxes
# No image is as large; the square of its double still is an ordinary number.
LARGEST_COORDINATE = 1e7


@dataclass(frozen=True, eq=False)
class People:
    """N labelled people with K keypoints each, all numbers finite.

    Attributes:
        entries: N, as the file has them.
        boxes_xywh: (N, 4) float64, left, top, width, height in pixels; no negative size.
        keypoints: (N, K, 3) float64: x, y, and 0 not labelled, 1 labelled but occluded, 2 visible;
            zeros where not labelled.
        areas: (N,) float64 square pixels; the box's where the file has none.
        area_is_estimate: (N,) bool, whether the file has no area, or says that it is an estimate.
    """

    entries: tuple[AnnotationEntry, ...]
    boxes_xywh: npt.NDArray[np.float64]
    keypoints: npt.NDArray[np.float64]
    areas: npt.NDArray[np.float64]
    area_is_estimate: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.entries)

    def chosen(self, which: npt.NDArray[np.bool_]) -> People:
        """Some of them.

        Args:
            which: (N,), True for those.
        """
        entries = tuple(
            entry for entry, wanted in zip(self.entries, which.tolist(), strict=True) if wanted
        )
        return People(
            entries,
            self.boxes_xywh[which],
            self.keypoints[which],
            self.areas[which],
            self.area_is_estimate[which],
        )

    @property
    def visibility(self) -> npt.NDArray[np.int64]:
        """(N, K): 0 not labelled, 1 labelled but occluded, 2 visible."""
        return self.keypoints[..., 2].astype(np.int64)

    @property
    def is_crowd(self) -> npt.NDArray[np.bool_]:
        """(N,): regions with people that nobody counted."""
        return np.array([entry.iscrowd != 0 for entry in self.entries], np.bool_)


def clean_people(
    entries: Sequence[AnnotationEntry],
    images: Mapping[int, ImageEntry],
    skeleton: Skeleton,
    where: str,
    *,
    keypoints: bool = True,
) -> tuple[People, list[Finding]]:
    """People as the labels mean them, and what is odd about the labels.

    Invalid boxes are left out with their people, and a person who is labelled again counts once.
    Keypoints of another number than the skeleton's, and labelled ones without a place, count as
    not labelled.

    Args:
        entries: of people alone.
        images: by id.
        skeleton: of K keypoints.
        where: the file's name, for the findings.
        keypoints: whether they matter; otherwise all count as not labelled.
    """
    entries, boxes, findings = with_boxes(entries, where)
    if keypoints:
        points, about_keypoints = _keypoints(entries, skeleton, where)
        findings += about_keypoints
    else:
        points = np.zeros((len(entries), len(skeleton), 3))
    areas, estimated, about_areas = _areas(entries, boxes, points, where)
    findings += about_areas
    people, about_copies = _once(People(tuple(entries), boxes, points, areas, estimated), where)
    findings += about_copies
    findings += _implausible(people, skeleton, where)
    findings += _misplaced(people, images, where)
    return people, findings


def with_boxes(
    entries: Sequence[AnnotationEntry], where: str
) -> tuple[list[AnnotationEntry], npt.NDArray[np.float64], list[Finding]]:
    """The entries with valid boxes, their (N, 4) boxes as the file has them, and the findings.

    Args:
        entries: of any category.
        where: the file's name, for the findings.
    """
    boxes = np.array([entry.bbox for entry in entries], np.float64).reshape(-1, 4)
    endless = ~(np.abs(boxes) < LARGEST_COORDINATE).all(axis=1)  # NaN, too
    negative = ~endless & (boxes[:, 2:] < 0).any(axis=1)
    empty = ~endless & ~negative & (boxes[:, 2:] == 0).any(axis=1)
    count, kept = len(entries), np.flatnonzero(~endless & ~negative).tolist()
    findings = [
        *lost(where, "boxes with NaN or numbers beyond any image", _ids(entries, endless), count),
        *lost(where, "boxes of negative size", _ids(entries, negative), count),
        *noted(
            where, "boxes without area", _ids(entries, empty), count, "nobody is looked for there"
        ),
    ]
    return [entries[place] for place in kept], boxes[kept], findings


def _keypoints(
    entries: Sequence[AnnotationEntry], skeleton: Skeleton, where: str
) -> tuple[npt.NDArray[np.float64], list[Finding]]:
    """(N, K, 3) with visibilities 0, 1, 2."""
    length = 3 * len(skeleton)
    none = [0.0] * length
    flat = array("d")
    other, usable = [], []
    for entry in entries:
        values = _numbers(entry.keypoints)
        if values is None:
            other.append(f"annotation {entry.id} has something other than numbers")
        elif len(values) not in (0, length):
            other.append(f"annotation {entry.id} has {len(values)} numbers")
        usable.append(values is not None and len(values) in (0, length))
        flat.extend(values if values and len(values) == length else none)
    given = np.array(flat).reshape(len(entries), len(skeleton), 3)
    with np.errstate(invalid="ignore"):
        labelled = given[..., 2] > 0
        placed = (np.abs(given[..., :2]) < LARGEST_COORDINATE).all(axis=-1)
        odd = ~np.isin(given[..., 2], (0, 1, 2))
        # Where COCO has 0 for a keypoint without a place, others have a number of their own.
        labelled &= ~(odd & (given[..., :2] == 0).all(axis=-1))
    visibility = np.where(labelled & placed, np.where(given[..., 2] == 1, 1.0, 2.0), 0.0)
    counts = (visibility > 0).sum(axis=1).tolist()
    differing = [
        f"annotation {entry.id}: {entry.num_keypoints}, not {number}"
        for entry, number, sound in zip(entries, counts, usable, strict=True)
        if sound and entry.num_keypoints not in (None, number)
    ]
    keypoints = np.concatenate(
        [np.where(visibility[..., None] > 0, given[..., :2], 0.0), visibility[..., None]], axis=-1
    )
    nowhere = (labelled & ~placed).any(axis=1)
    count = len(entries)
    return keypoints, [
        *lost(
            where,
            f"people without x, y, v of {len(skeleton)} keypoints",
            other,
            count,
            "their keypoints count as not labelled",
        ),
        *noted(
            where,
            "people whose num_keypoints is not the number of their labelled keypoints",
            differing,
            count,
            "the labelled ones were counted",
        ),
        *noted(
            where,
            "people with a visibility other than 0, 1, 2",
            _ids(entries, odd.any(axis=1)),
            count,
            "above 0 counts as labelled",
        ),
        *noted(
            where,
            "people with labelled keypoints at NaN or beyond any image",
            _ids(entries, nowhere),
            count,
            "those keypoints count as not labelled",
        ),
    ]


def _numbers(raw: msgspec.Raw) -> Sequence[float] | None:
    """A person's keypoints, () if there are none, None if they are not numbers."""
    try:
        values = msgspec.json.decode(raw, type=list[float] | None)
    except msgspec.DecodeError:  # null for NaN, true for 1, triples in triples
        try:
            given = json.loads(bytes(raw))
        except (ValueError, RecursionError):  # numbers of thousands of digits, too
            return None
        return numbers(given)
    return () if values is None else values


def _areas(
    entries: Sequence[AnnotationEntry],
    boxes: npt.NDArray[np.float64],
    keypoints: npt.NDArray[np.float64],
    where: str,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_], list[Finding]]:
    """(N,) areas, which of them are estimates, and the people whose area cannot be right."""
    given = np.array(
        [np.nan if entry.area is None else entry.area for entry in entries], np.float64
    )
    of_boxes = boxes[:, 2] * boxes[:, 3]
    absent = np.isnan(given)
    # An area of 0 would make OKS 0 for even the best pose.
    nothing = ~absent & ((given <= 0) | (given > LARGEST_COORDINATE**2)) & (of_boxes > 0)
    areas = np.where(absent | nothing, of_boxes, given)
    estimated = absent | nothing | np.array([e.area_is_estimate for e in entries], np.bool_)
    matters = (nothing | absent) & (keypoints[..., 2] > 0).any(axis=1)
    return (
        areas,
        estimated,
        noted(
            where,
            "people with labelled keypoints without a usable area",
            _ids(entries, matters),
            len(entries),
            "the areas of their boxes are used instead",
        ),
    )


def _once(people: People, where: str) -> tuple[People, list[Finding]]:
    """The people without those who are labelled again: keypoints and box the same, but rounded."""
    places: dict[tuple[int, int, bool, bytes], list[int]] = {}
    kept = np.ones(len(people), np.bool_)
    again = []
    looks = np.rint(people.keypoints).astype(np.int32)
    crowds = people.is_crowd.tolist()
    slack = np.where((people.keypoints[..., 2] > 0).any(axis=1), ROUNDING, 0).tolist()
    for place, entry in enumerate(people.entries):
        look = (entry.image_id, entry.category_id, crowds[place], looks[place].tobytes())
        alike = places.setdefault(look, [])
        first = next((p for p in alike if _same(people.entries[p], entry, slack[place])), None)
        if first is None:
            alike.append(place)
        else:
            kept[place] = False
            again.append(f"annotation {entry.id} as {people.entries[first].id}")
    findings = noted(where, "people who are labelled twice", again, len(people), "counted once")
    return (people.chosen(kept) if again else people), findings


def _same(one: AnnotationEntry, other: AnnotationEntry, slack: float) -> bool:
    """Whether two boxes are the same, and more than a point; `slack` in pixels."""
    near = all(abs(a - b) <= slack for a, b in zip(one.bbox, other.bbox, strict=True))
    return near and min(one.bbox[2:]) > 0


def _implausible(people: People, skeleton: Skeleton, where: str) -> list[Finding]:
    """Labels that cannot be right, though each number is one: each is used as it is."""
    entries, boxes = people.entries, people.boxes_xywh
    solid = (boxes[:, 2:] > 0).all(axis=1) & ~people.is_crowd
    posed = solid & (people.keypoints[..., 2] > 0).any(axis=1)
    share = people.areas / np.where(solid, boxes[:, 2] * boxes[:, 3], 1)
    unfit = posed & ~people.area_is_estimate & ((share < AREA_SHARES[0]) | (share > AREA_SHARES[1]))
    kinds = (
        (
            "people with labelled keypoints whose boxes are smaller than 2 pixels",
            posed & (boxes[:, 2:].max(axis=1, initial=0) < 2),
            "boxes are in pixels, not in parts of the image",
        ),
        (
            "people with labelled keypoints whose area does not fit their box",
            unfit,
            "areas are in square pixels, and OKS depends on them",
        ),
        (
            "labels whose iscrowd is neither 0 nor 1",
            np.array([entry.iscrowd not in (0, 1) for entry in entries], np.bool_),
            "counted as crowd regions",
        ),
        (
            "people with unknown pseudo keypoints",
            np.array(
                [
                    not all(0 <= index < len(skeleton) for index in entry.pseudo_keypoints)
                    for entry in entries
                ],
                np.bool_,
            ),
            "",
        ),
    )
    return [
        finding
        for what, which, then in kinds
        for finding in noted(where, what, _ids(entries, which), len(entries), then)
    ]


def _misplaced(people: People, images: Mapping[int, ImageEntry], where: str) -> list[Finding]:
    """Boxes and keypoints against each other and the sizes of their images as the file has them."""
    entries, boxes = people.entries, people.boxes_xywh
    sizes = np.array([images[entry.image_id].size_wh for entry in entries], np.float64)
    size = sizes.reshape(-1, 2)
    known = (size > 0).all(axis=1)
    low, sides = boxes[:, :2], boxes[:, 2:]
    high = low + sides
    solid = known & (sides > 0).all(axis=1)
    gone = solid & ((high <= 0) | (low >= size)).any(axis=1)
    beyond = np.maximum(-low, high - size)  # pixels
    far = solid & ~gone & (beyond > np.maximum(FAR_OUTSIDE * sides, 2)).any(axis=1)
    points, labelled = people.keypoints[..., :2], people.keypoints[..., 2] > 0
    outside = np.maximum(-points, points - size[:, None]).max(axis=-1)  # pixels
    astray = known & (labelled & (outside > FAR_OUTSIDE * size.max(axis=1)[:, None])).any(axis=1)
    inside = ((points >= (low - sides)[:, None]) & (points <= (high + sides)[:, None])).all(axis=-1)
    elsewhere = labelled.any(axis=1) & (sides > 0).all(axis=1) & ~(labelled & inside).any(axis=1)
    kinds = (
        ("boxes outside their images", gone),
        ("boxes that reach outside their images by more than a tenth of their size", far),
        ("people with keypoints outside the image by more than a tenth of its size", astray),
        (
            "people none of whose labelled keypoints is in or near their box",
            elsewhere & ~(gone | far | astray | people.is_crowd),
        ),
    )
    return [
        finding
        for what, which in kinds
        for finding in noted(where, what, _ids(entries, which), len(people))
    ]


def _ids(entries: Sequence[AnnotationEntry], chosen: npt.ArrayLike) -> list[str]:
    return [f"annotation {entries[place].id}" for place in np.flatnonzero(chosen).tolist()]
