"""The adapter of pycocotools: its `COCOeval`, run silently on labels and results.

The only file that imports pycocotools.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from posepipe.core.boxes import xywh_to_xyxy
from posepipe.core.poses import PoseLabels
from posepipe.core.skeleton import COCO_PERSON
from posepipe.scoring.oks import oks
from posepipe.scoring.results import GroundTruth, Label, Result

Stats = tuple[float | None, ...]


def pose_stats(results: Sequence[Result], truth: GroundTruth) -> Stats:
    """`COCOeval.stats` of poses, 10 numbers; None for its -1, "no such people"."""
    labelled = _labelled_set(_pose_entries(truth.people), truth)
    return _stats(COCOeval(labelled, _pose_set(results, labelled, truth), "keypoints"))


def box_stats(results: Sequence[Result], truth: GroundTruth) -> Stats:
    """`COCOeval.stats` of boxes, 12 numbers; None for its -1, "no such people"."""
    labelled = _labelled_set([_entry(label) for label in truth.people], truth)
    found = [
        {
            "image_id": result.image_id,
            "category_id": truth.person_id,
            "bbox": list(result.bbox or ()),
            "score": result.score,
        }
        for result in results
    ]
    return _stats(COCOeval(labelled, _result_set(found, labelled), "bbox"))


def keypoint_aps(results: Sequence[Result], truth: GroundTruth) -> Stats:
    """The AP of each keypoint: COCO's AP as if people and poses had this keypoint alone."""
    labels = _pose_entries(truth.people)
    poses = _pose_set(results, _labelled_set(labels, truth), truth)
    return tuple(_keypoint_ap(index, labels, poses, truth) for index in range(len(COCO_PERSON)))


def _keypoint_ap(
    keypoint: int, labels: Sequence[dict[str, Any]], poses: COCO, truth: GroundTruth
) -> float | None:
    visible = 3 * keypoint + 2
    entries = [
        {
            **label,
            "num_keypoints": int(label["num_keypoints"] > 0 and label["keypoints"][visible] > 0),
        }
        for label in labels
    ]
    evaluator = COCOeval(_labelled_set(entries, truth), poses, "keypoints")
    evaluator.params.areaRng = evaluator.params.areaRng[:1]  # "all": the sizes are not asked for
    evaluator.params.areaRngLbl = evaluator.params.areaRngLbl[:1]
    evaluator.computeOks = lambda image_id, category_id: _oks_of_keypoint(
        keypoint,
        evaluator._gts[image_id, category_id],
        evaluator._dts[image_id, category_id],
        evaluator.params.maxDets[-1],
    )
    return _stats(evaluator)[0]


def _oks_of_keypoint(
    keypoint: int, labels: Sequence[dict[str, Any]], poses: Sequence[dict[str, Any]], most: int
) -> Any:
    """What `COCOeval.computeOks` would return for entries of one image that have one keypoint."""
    if not labels or not poses:
        return []
    ranked = sorted(poses, key=lambda pose: -pose["score"])[:most]
    numbers = slice(3 * keypoint, 3 * keypoint + 3)
    found = np.array([pose["keypoints"][numbers] for pose in ranked])  # (N, 3)
    points = np.array([label["keypoints"][numbers] for label in labels])  # (M, 3)
    counted = np.array([label["num_keypoints"] > 0 for label in labels])
    boxes_xywh = np.array([label["bbox"] for label in labels], dtype=np.float64)
    return oks(
        found[:, None],
        PoseLabels(
            image_id=labels[0]["image_id"],
            keypoints_xy=points[:, None, :2],
            visibility=counted[:, None].astype(np.int64),
            boxes_xyxy=xywh_to_xyxy(boxes_xywh).astype(np.float64),
            areas=np.array([label["area"] for label in labels]),
            is_crowd=np.array([bool(label["iscrowd"]) for label in labels]),
            annotation_ids=np.array([label["id"] for label in labels]),
        ),
        sigmas=COCO_PERSON.sigmas[keypoint : keypoint + 1],
    )


def _pose_entries(people: Sequence[Label]) -> list[dict[str, Any]]:
    nothing = (0.0,) * (3 * len(COCO_PERSON))
    return [
        {
            **_entry(label),
            "keypoints": label.keypoints or nothing,
            "num_keypoints": label.labelled_keypoints,
        }
        for label in people
    ]


def _entry(label: Label) -> dict[str, Any]:
    """A label as pycocotools wants it; an unknown area is the box's."""
    return {
        "id": label.id,
        "image_id": label.image_id,
        "category_id": label.category_id,
        "bbox": list(label.bbox),
        "area": label.bbox[2] * label.bbox[3] if label.area is None else label.area,
        "iscrowd": int(label.iscrowd),
    }


def _labelled_set(entries: list[dict[str, Any]], truth: GroundTruth) -> COCO:
    labelled = COCO()
    labelled.dataset = {
        "info": {},
        "images": [{"id": image_id} for image_id in sorted(truth.image_ids)],
        "categories": [{"id": truth.person_id, "name": "person"}],
        "annotations": entries,
    }
    with _silence():
        labelled.createIndex()
    return labelled


def _pose_set(results: Sequence[Result], labelled: COCO, truth: GroundTruth) -> COCO:
    found = [
        {
            "image_id": result.image_id,
            "category_id": truth.person_id,
            "keypoints": result.keypoints,
            "score": result.score,
        }
        for result in results
    ]
    return _result_set(found, labelled)


def _result_set(found: list[dict[str, Any]], labelled: COCO) -> COCO:
    with _silence():
        if found:
            return labelled.loadRes(found)
        nobody = COCO()  # loadRes fails on an empty list
        nobody.dataset = {**labelled.dataset, "annotations": []}
        nobody.createIndex()
        return nobody


def _stats(evaluator: COCOeval) -> Stats:
    """`COCOeval.stats` after a run."""
    with _silence():
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return tuple(None if value == -1 else float(value) for value in evaluator.stats)


def _silence() -> contextlib.AbstractContextManager[Any]:
    """A context in which pycocotools' prints go nowhere."""
    return contextlib.redirect_stdout(io.StringIO())
