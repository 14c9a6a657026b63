"""How good a pose network is while it learns: OKS AP with labelled boxes, and an image."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch

from posepipe.core.affine import Affine
from posepipe.core.boxes import Detections
from posepipe.core.poses import Poses
from posepipe.core.skeleton import Skeleton
from posepipe.drawing.draw import draw_poses
from posepipe.drawing.save import save_image
from posepipe.drawing.style import DrawStyle
from posepipe.io.coco import Annotations, image_files, labelled_boxes
from posepipe.pose.crops import cut_crops
from posepipe.pose.model import PoseModel
from posepipe.pose.stage import PoseStage
from posepipe.runtime.streams import batched, prefetch
from posepipe.scoring.evaluation import evaluate
from posepipe.scoring.rescore import rescored
from posepipe.training.data import DataSets, DataTable, set_names
from posepipe.training.samples import PoseSample

CROPS_FILE = "crops.jpg"
_STYLE = DrawStyle(boxes=False, scores=False)
_MOST_CROPS = 12


@dataclass(frozen=True, eq=False)
class ValidationSet:
    """People to measure on.

    Attributes:
        name: see `set_names`.
        annotations: the labels.
        folder: where the images lie.
    """

    name: str
    annotations: Annotations
    folder: Path


def read_validation_sets(tables: Sequence[DataTable], data: DataSets) -> list[ValidationSet]:
    """The sets of ``[[training.validate]]``, whose keypoints are the skeleton's.

    Raises:
        DocumentError: an annotation file is missing or wrong.
    """
    return [
        ValidationSet(name, data.people(table), Path(table.images))
        for name, table in zip(set_names(tables), tables, strict=True)
    ]


def pose_metrics(
    model: PoseModel, sets: Sequence[ValidationSet], *, workers: int
) -> dict[str, float]:
    """COCO's AP, AP at OKS 0.5 and AR of every set, as `posepipe pose --ground-truth` gives them.

    The recipe's own decoding; pose scores are box score (1) times mean keypoint confidence.

    Args:
        model: the network, with its recipe's tables.
        sets: the first one's AP comes first.
        workers: threads that read images and cut crops.

    Returns:
        Shares in [0, 1] by ``set/metric``; {} without sets.
    """
    metrics: dict[str, float] = {}
    for one in sets:
        poses = list(_poses(PoseStage([model]), one, workers))
        card = evaluate(poses, one.annotations, per_keypoint=False, skeleton=model.skeleton)
        metrics |= {
            f"{one.name}/AP": card.ap or 0.0,
            f"{one.name}/AP50": card.ap50 or 0.0,
            f"{one.name}/AR": card.ar or 0.0,
        }
    return metrics


def draw_crops(model: PoseModel, samples: Sequence[PoseSample], path: Path) -> None:
    """An image of people from all over a set: the predicted skeleton above, the true one below.

    Args:
        model: the network.
        samples: labelled people; without any, no image is written.
        path: the JPEG or PNG to write.

    Raises:
        ImageError: an image cannot be read, or the drawing cannot be written.
    """
    if not samples:
        return
    columns = []
    for sample in samples[:: -(-len(samples) // _MOST_CROPS)]:
        detections = Detections(0, sample.box_xyxy[None].astype(np.float32), np.ones(1, np.float32))
        crops = cut_crops(sample.read(), detections, model.preprocessing)
        response = model.respond(torch.from_numpy(crops.pixels), flip=model.decoding.flip)
        found = model.codec.decode(response, model.preprocessing.input_size_wh)
        true_xy = Affine(crops.to_image[0]).inverse.apply(sample.keypoints_xy)
        columns.append(
            np.concatenate(
                [
                    _drawn(
                        crops.pixels[0],
                        found.points_xy[0].double().cpu().numpy(),
                        found.confidences[0].double().cpu().numpy(),
                        model.skeleton,
                    ),
                    _drawn(
                        crops.pixels[0],
                        true_xy,
                        (sample.visibility > 0).astype(np.float64),
                        model.skeleton,
                    ),
                ]
            )
        )
    save_image(path, np.concatenate(columns, axis=1))


def _poses(stage: PoseStage, one: ValidationSet, workers: int) -> Iterator[Poses]:
    """The poses of every image, crops gathered across images."""
    items = zip(
        image_files(one.annotations, one.folder), labelled_boxes(one.annotations), strict=True
    )
    ready = prefetch(stage.prepare, items, workers=workers, ahead=max(2 * workers, 1))
    full = stage.batch_size
    for batch in batched(ready, full=full, most_items=full, weight=stage.weight):
        yield from map(rescored, stage(batch))


def _drawn(
    pixels: npt.NDArray[np.uint8],
    points_xy: npt.NDArray[np.float64],
    confidences: npt.NDArray[np.float64],
    skeleton: Skeleton,
) -> npt.NDArray[np.uint8]:
    height, width = pixels.shape[:2]
    shown = np.clip(confidences, 0, 1)
    poses = Poses(
        image_id=0,
        keypoints=np.concatenate([points_xy, shown[:, None]], axis=-1)[None],
        scores=np.ones(1),
        boxes_xyxy=np.array([[0.0, 0.0, width, height]]),
        box_scores=np.ones(1),
        skeleton=skeleton,
    )
    drawn = draw_poses(pixels, poses, style=_STYLE)
    return np.asarray(cv2.copyMakeBorder(drawn, 1, 1, 1, 1, cv2.BORDER_CONSTANT), np.uint8)
