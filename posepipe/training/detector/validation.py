"""How good a detector is while it learns: COCO's person-box AP, and images of what it finds."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from posepipe.core.boxes import Detections
from posepipe.detection.backends import backend_of
from posepipe.detection.candidates import DetectorTable, Origin
from posepipe.detection.loading import recipe_scales, recipe_suppression
from posepipe.detection.stage import DetectionSettings, DetectionStage
from posepipe.drawing.draw import draw_detections
from posepipe.drawing.save import save_image
from posepipe.drawing.style import DrawStyle
from posepipe.io.coco import image_files, labelled_boxes
from posepipe.io.images import ImageFile
from posepipe.io.records import as_written
from posepipe.networks.devices import resolve_precision
from posepipe.runtime.streams import batched, prefetch
from posepipe.scoring.evaluation import evaluate_boxes
from posepipe.training.data import DataSets, DataTable, set_names
from posepipe.zoo.recipe import Recipe
from posepipe.zoo.skeleton import recipe_skeleton

_SHEET_COLUMNS, _SHEET_ROWS, _SHEET_SIDE = 4, 2, 400
_TRUE_STYLE = DrawStyle(box=(90, 235, 90), scores=False)
_FOUND_STYLE = DrawStyle(box=(255, 200, 60), min_score=0.3)


def person_box_metrics(
    network: nn.Module,
    recipe: Recipe,
    tables: Sequence[DataTable],
    data: DataSets,
    *,
    device: torch.device,
    folder: Path | None,
) -> dict[str, float]:
    """What `posepipe detect --min-score 0` and `posepipe eval` would give for these weights.

    Args:
        network: the detector; a copy of it is run, it stays as it is.
        recipe: its ``[preprocessing]``, ``[candidates]``, ``[suppression]`` and the category of its
            ``[skeleton]`` are used.
        tables: annotation files and folders.
        data: what has read them.
        device: where it runs.
        folder: for every set an image goes there, ``boxes_<set>.jpg``: true boxes green, those
            found with a score of at least 0.3 yellow; None for no images.

    Returns:
        "SET/AP", "SET/AP50" and "SET/AR" of person boxes; 0 where nobody is labelled. {} without
        sets.

    Raises:
        PosepipeError: an annotation file or an image is missing or wrong.
    """
    if not tables:
        return {}
    stage, skeleton = _stage(network, recipe, device), recipe_skeleton(recipe)
    metrics: dict[str, float] = {}
    for name, table in zip(set_names(tables), tables, strict=True):
        annotations = data.people(table)
        images = list(image_files(annotations, table.images))
        found = _detected(stage, images)
        card = evaluate_boxes(found, annotations, split=name, skeleton=skeleton)
        numbers = {"AP": card.ap, "AP50": card.ap50, "AR": card.ar}
        metrics |= {f"{name}/{key}": value or 0.0 for key, value in numbers.items()}
        if folder is not None and images:
            truth = labelled_boxes(annotations, everybody=True)
            save_image(folder / f"boxes_{name}.jpg", _sheet(images, truth, found))
    return metrics


def _stage(network: nn.Module, recipe: Recipe, device: torch.device) -> DetectionStage:
    """The detection stage of a copy of the network: running it changes its settings."""
    runner: Any = copy.deepcopy(network)
    detector = backend_of(recipe).detector(
        runner,
        recipe,
        origin=Origin(recipe.name, "training", ""),
        device=device,
        dtype=resolve_precision(recipe.table("detector", DetectorTable).torch_precision, device),
    )
    return DetectionStage(
        [detector],
        DetectionSettings(suppression=recipe_suppression(recipe), scales=recipe_scales(recipe)),
        record=False,
    )


def _detected(stage: DetectionStage, images: Sequence[ImageFile]) -> list[Detections]:
    ready = prefetch(stage.prepare, images, workers=2, ahead=4)
    size = stage.batch_size
    return [
        as_written(detections)
        for batch in batched(ready, full=size, most_items=size, weight=stage.weight)
        for detections in stage(batch)
    ]


def _sheet(
    images: Sequence[ImageFile], truth: Sequence[Detections], found: Sequence[Detections]
) -> npt.NDArray[np.uint8]:
    """Some images side by side, evenly taken from all, with true boxes and those found."""
    tiles = _SHEET_COLUMNS * _SHEET_ROWS
    chosen = np.unique(np.linspace(0, len(images) - 1, tiles).round().astype(int)).tolist()
    columns = min(_SHEET_COLUMNS, len(chosen))
    rows = -(-len(chosen) // columns)
    sheet = np.zeros((rows * _SHEET_SIDE, columns * _SHEET_SIDE, 3), np.uint8)
    for tile, index in enumerate(chosen):
        pixels = images[index].read()
        scale = _SHEET_SIDE / max(pixels.shape[:2])
        width, height = (max(1, round(side * scale)) for side in pixels.shape[1::-1])
        shrunk = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)
        drawn = draw_detections(
            shrunk.astype(np.uint8, copy=False), _scaled(truth[index], scale), style=_TRUE_STYLE
        )
        drawn = draw_detections(drawn, _scaled(found[index], scale), style=_FOUND_STYLE)
        top, left = (_SHEET_SIDE * at for at in divmod(tile, columns))
        sheet[top : top + height, left : left + width] = drawn
    return sheet


def _scaled(detections: Detections, scale: float) -> Detections:
    boxes = (detections.boxes_xyxy * scale).astype(np.float32)
    return Detections(detections.image_id, boxes, detections.scores)
