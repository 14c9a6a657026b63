"""Boxes and poses as files have them, checked one by one: what cannot be used is left out."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from posepipe.core.boxes import Detections, xywh_to_xyxy
from posepipe.core.skeleton import Skeleton
from posepipe.io.findings import lost, refuse_fatal
from posepipe.io.people import LARGEST_COORDINATE
from posepipe.io.result_list import ResultEntry, ResultFile


@dataclass(frozen=True, eq=False)
class CheckedBoxes:
    """What was kept of a file's boxes, and what was not.

    Attributes:
        detections: one per image, in the order asked for.
        problems: one line per box that was left out.
        other_categories: how many boxes were of other categories than person.
    """

    detections: tuple[Detections, ...]
    problems: tuple[str, ...] = ()
    other_categories: int = 0


def check_boxes(
    entries: Sequence[ResultEntry],
    file_names: Mapping[int, str],
    sizes_wh: Mapping[int, tuple[int, int]],
    *,
    is_person: Callable[[ResultEntry], bool] = lambda _: True,
) -> CheckedBoxes:
    """The valid boxes of people, by image.

    Left out, with a line each, is a box with NaN, without area or wholly outside its image, a
    score outside [0, 1], and an image id that is not in `file_names`. A box that reaches outside
    its image in part is valid.

    Args:
        entries: the file's boxes, in any order; those of one image keep theirs.
        file_names: of the images, by id; one Detections for each, in this order.
        sizes_wh: of the images, by id, where known; elsewhere a box that lies to the right of or
            below its image is not noticed.
        is_person: of an entry; others are left out and counted.
    """
    sound: dict[int, tuple[list[tuple[float, ...]], list[float]]] = {}
    problems = []
    others = 0
    boxes_xyxy = _corners(entries)
    for place, (record, corners) in enumerate(zip(entries, boxes_xyxy, strict=True)):
        if not is_person(record):
            others += 1
            continue
        image_id = record.image_id
        name = file_names.get(image_id) if isinstance(image_id, int) else None
        score = math.nan if record.score is None else record.score
        why = (
            "image id unknown"
            if name is None
            else _unsound(corners, score, sizes_wh.get(int(image_id)))
        )
        if why or name is None:
            where = f"image {record.image_id}" + (f" ({name})" if name else "")
            box = ", ".join(f"{number:g}" for number in record.bbox or ())
            problems.append(f"{where}: box [{box}], entry {place + 1}, score {score:g}: {why}")
            continue
        boxes, scores = sound.setdefault(int(image_id), ([], []))
        boxes.append(corners)
        scores.append(score)
    detections = tuple(
        Detections(
            image_id,
            np.array(boxes, np.float32),
            np.array(scores, np.float32),
            sizes_wh.get(image_id),
        )
        for image_id in file_names
        for boxes, scores in [sound.get(image_id, ([], []))]
    )
    return CheckedBoxes(detections, tuple(problems), others)


def usable_poses(results: ResultFile, skeleton: Skeleton) -> ResultFile:
    """The results without the entries that are no poses in pixels, which are a finding.

    Args:
        results: poses, of any program.
        skeleton: what the keypoints are where an entry does not say so.

    Raises:
        DocumentError: these are most of them.
    """
    numbers = {id(entry): 3 * len(entry.skeleton or skeleton) for entry in results.entries}
    of_another = any(
        entry.keypoints is not None and len(entry.keypoints) != numbers[id(entry)]
        for entry in results.entries
    )
    hint = f" (is {skeleton.name!r} not their skeleton? --model names a model that has it)"
    return _usable(
        results,
        "poses",
        lambda entry: _no_pose(entry, numbers[id(entry)]),
        f"left out{hint if of_another else ''}",
    )


def usable_boxes(results: ResultFile) -> ResultFile:
    """The results without the entries that are no boxes in pixels, which are a finding.

    Raises:
        DocumentError: these are most of them.
    """
    return _usable(results, "boxes", _no_box, "left out")


def _usable(
    results: ResultFile, what: str, why_not: Callable[[ResultEntry], str], then: str
) -> ResultFile:
    reasons = [why_not(entry) for entry in results.entries]
    bad = [f"[{place}] {why}" for place, why in enumerate(reasons) if why]
    if not bad:
        return results
    findings = lost(str(results.path), f"{what} that cannot be used", bad, len(reasons), then)
    refuse_fatal(findings)
    kept = [entry for entry, why in zip(results.entries, reasons, strict=True) if not why]
    return replace(results, entries=tuple(kept), findings=(*results.findings, *findings))


def _no_pose(entry: ResultEntry, numbers: int) -> str:
    """Why an entry is no pose of so many numbers; "" if it is one."""
    if entry.keypoints is None:
        return "has no keypoints" + (", but a bbox" if entry.bbox else "")
    if len(entry.keypoints) != numbers:
        return f"has {len(entry.keypoints)} numbers as keypoints, not {numbers}"
    tracking = (entry.frame or 0, entry.seconds or 0, entry.track_id or 0)
    return _no_numbers(
        entry, entry.keypoints, entry.box_xyxy or (), (entry.box_score or 0, *tracking)
    )


def _no_box(entry: ResultEntry) -> str:
    """Why an entry is no box; "" if it is one."""
    if entry.bbox is None:
        return "has no bbox"
    if min(entry.bbox[2:]) < 0:
        return (
            f"has a bbox of negative width or height, {list(entry.bbox)}: left, top, width, height "
            "are needed"
        )
    return _no_numbers(entry, entry.bbox)


def _no_numbers(entry: ResultEntry, *numbers: Sequence[float]) -> str:
    if entry.score is None:
        return "has no score"
    # Nearly always the sum is enough of a check; NaN is not less than anything.
    if sum(sum(map(abs, some)) for some in numbers) + abs(entry.score) < LARGEST_COORDINATE:
        return ""
    if all(abs(one) < LARGEST_COORDINATE for some in (*numbers, (entry.score,)) for one in some):
        return ""
    return "has a number that is not finite (NaN or infinity), or beyond any image"


def _corners(entries: Sequence[ResultEntry]) -> list[tuple[float, ...]]:
    bboxes = np.array([entry.bbox for entry in entries], np.float64).reshape(-1, 4)
    with np.errstate(over="ignore", invalid="ignore"):
        # In float32, as Detections has them: a very thin box has no area then.
        corners = xywh_to_xyxy(bboxes).astype(np.float32)
    return [tuple(row) for row in corners.tolist()]


def _unsound(corners: Sequence[float], score: float, size_wh: tuple[int, int] | None) -> str:
    x1, y1, x2, y2 = corners
    if not all(map(math.isfinite, corners)):
        return "a number that is not finite"
    if x1 >= x2 or y1 >= y2:
        return "no area"
    if not 0 <= score <= 1:
        return "the score is not in 0…1"
    width, height = size_wh or (math.inf, math.inf)
    if x2 <= 0 or y2 <= 0 or x1 >= width or y1 >= height:
        size = f" of {width} x {height} pixels" if size_wh else ""
        return f"outside its image{size}"
    return ""
