"""Labelled people, results near them, and what pycocotools makes of the two."""

from __future__ import annotations

import contextlib
import io

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from posepipe.core.skeleton import COCO_PERSON


def world(seed=0, images=12, people=4, skeleton=COCO_PERSON, category_id=1):
    """A small annotation file as COCO writes them: all sizes, crowds, people without keypoints."""
    random = np.random.default_rng(seed)
    annotations = []
    for image in range(1, images + 1):
        for _ in range(int(random.integers(0, people + 1))):
            x, y = random.integers(0, 300, 2).tolist()
            w, h = random.integers(12, 260, 2).tolist()
            visibility = random.integers(0, 3, len(skeleton))
            if random.random() < 0.2:
                visibility[:] = 0
            xy = [x, y] + random.uniform(0, 1, (len(skeleton), 2)) * [w, h]
            points = np.column_stack([np.round(xy), visibility]) * (visibility > 0)[:, None]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image * 10,
                    "category_id": category_id,
                    "bbox": [x, y, w, h],
                    "area": round(0.6 * w * h + float(random.random()), 3),
                    "iscrowd": int(random.random() < 0.1),
                    "keypoints": points.reshape(-1).tolist(),
                    "num_keypoints": int((visibility > 0).sum()),
                }
            )
    names = list(skeleton.keypoints)
    return {
        "images": [{"id": image * 10} for image in range(1, images + 1)],
        "categories": [{"id": category_id, "name": skeleton.category, "keypoints": names}],
        "annotations": annotations,
    }


def guesses(truth, seed=1, noise=0.05, **extra):
    """Results near the labels, of different quality, some people twice, some poses on nobody."""
    random = np.random.default_rng(seed)
    results = []
    for label in truth["annotations"]:
        for _ in range(int(random.integers(1, 3))):
            points = np.array(label["keypoints"], float).reshape(-1, 3)
            spread = random.uniform(0, 2 * noise) * label["area"] ** 0.5
            points[:, :2] = points[:, :2] + random.normal(0, spread, (len(points), 2))
            if not label["num_keypoints"] or random.random() < 0.1:
                points[:, :2] = random.uniform(0, 400, (len(points), 2))
            points[:, 2] = 0.5
            results.append(
                {
                    "image_id": label["image_id"],
                    "category_id": label["category_id"],
                    "keypoints": np.round(points, 2).reshape(-1).tolist(),
                    "score": round(float(random.uniform(0.1, 1)), 3),
                    **extra,
                }
            )
    return results


def box_guesses(truth, seed=1):
    random = np.random.default_rng(seed)
    return [
        {
            "image_id": label["image_id"],
            "category_id": 1,
            "bbox": (np.array(label["bbox"]) + random.uniform(0, 9, 4)).round(2).tolist(),
            "score": round(float(random.uniform(0.1, 1)), 3),
        }
        for label in truth["annotations"]
        for _ in range(int(random.integers(1, 3)))
    ]


def stats_of_pycocotools(results, annotations, kind="keypoints", image_ids=None, sigmas=None):
    """What somebody gets who follows pycocotools' own example."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(annotations))
        evaluator = COCOeval(truth, truth.loadRes(str(results)), kind)
        if sigmas is not None:
            evaluator.params.kpt_oks_sigmas = np.array(sigmas)
        if image_ids is not None:
            evaluator.params.imgIds = list(image_ids)
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return [None if value == -1 else value for value in evaluator.stats]


def numbers_of(card):
    return [value for _, value in card.numbers]
