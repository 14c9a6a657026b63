"""Boxes as files have them, checked one by one: the valid ones become Detections."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from posepipe.core.boxes import Detections, xywh_to_xyxy
from posepipe.io.result_list import ResultEntry


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
