"""Small detectron2 networks with known weights, and what the real detectron2 says with them.

Weights and pictures follow rules, so that nothing but the answers need be kept: they are in
`ANSWERS`, made by `real_answers`, which needs detectron2 (marked tests compare the two).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from code_bases import u01
from torch import nn

from posepipe.detection.native.tables import NetworkTable, PreprocessingTable

ANSWERS = Path(__file__).parent / "detection" / "native" / "detectron2.safetensors"
SIZES_HW = ((96, 128), (107, 161), (60, 215))
PREPROCESSING = PreprocessingTable(short_side=96, long_side=160)
Answer = tuple[np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Case:
    """A network: ours, and the configuration of detectron2's zoo that it is a small version of."""

    config: str
    table: NetworkTable
    min_score: float = 0.35


def _small(**fields: object) -> NetworkTable:
    small = {"trunk_channels": 32, "width_per_group": 8, "channels": 16, "hidden": 32, "classes": 5}
    return NetworkTable(**{**small, **fields})  # type: ignore[arg-type]


CASES = {
    "faster": Case("COCO-Detection/faster_rcnn_R_50_FPN_3x.yaml", _small()),
    "resnext": Case(
        "COCO-Detection/faster_rcnn_X_101_32x8d_FPN_3x.yaml",
        _small(depth=101, groups=4, width_per_group=4, stride_in_1x1=False),
    ),
    "cascade": Case("Misc/cascade_mask_rcnn_R_50_FPN_3x.yaml", _small(architecture="cascade_rcnn")),
    "c4": Case("COCO-Detection/faster_rcnn_R_50_C4_3x.yaml", _small(features="c4")),
    "dc5": Case("COCO-Detection/faster_rcnn_R_50_DC5_3x.yaml", _small(features="dc5")),
    "retinanet": Case(
        "COCO-Detection/retinanet_R_50_FPN_3x.yaml", _small(architecture="retinanet"), 0.93
    ),
}


def fill(network: nn.Module) -> dict[str, torch.Tensor]:
    """Put numbers that a rule gives into a network, in place; returns them by name."""
    state = {}
    for place, (name, tensor) in enumerate(sorted(network.state_dict().items())):
        if not name.endswith("num_batches_tracked"):
            u = u01(14, place, tensor.numel())
            state[name] = torch.from_numpy(_value(name, tuple(tensor.shape), u)).float()
            state[name] = state[name].reshape(tensor.shape)
    network.load_state_dict(state, strict=False)
    return state


def _value(name: str, shape: tuple[int, ...], u: np.ndarray) -> np.ndarray:
    if name.endswith("running_var"):
        return 0.5 + u
    if name.endswith(("running_mean", ".bias")):
        return (2 * u - 1) * 0.1
    if name.endswith(".norm.weight"):
        return (0.5 + u) * (0.25 if ".conv3." in name else 1.0)
    spread = ((2 * u - 1) * math.sqrt(6 / math.prod(shape[1:]))).reshape(shape)
    for end, factor in FACTORS.items():
        if name.endswith(end + ".weight"):
            rows = spread.reshape(shape[0], -1)  # features are positive: what they share drops out
            return ((rows - rows.mean(axis=1, keepdims=True)) * factor).reshape(shape)
    return spread


# For pictures in bytes, and for scores and boxes that differ from place to place.
FACTORS = {
    "stem.conv1": 1 / 64,
    "objectness_logits": 0.5,
    "anchor_deltas": 0.1,
    "cls_score": 2.0,
    "bbox_pred": 0.5,
}


def picture(seed: int, shape_hw: tuple[int, int]) -> np.ndarray:
    """(H, W, 3) uint8 RGB noise in coarse and fine grains."""
    height, width = shape_hw
    total = np.zeros((height, width, 3))
    for number, grain in enumerate((48, 16, 4, 1)):
        rows, columns = -(-height // grain), -(-width // grain)
        cells = u01(seed, number, rows * columns * 3).reshape(rows, columns, 3)
        total += cells.repeat(grain, axis=0).repeat(grain, axis=1)[:height, :width] * 64
    return np.floor(total).astype(np.uint8)


PICTURES = [picture(14 + place, shape_hw) for place, shape_hw in enumerate(SIZES_HW)]


def real_answers(case: Case, state: dict[str, torch.Tensor]) -> list[Answer]:
    """What detectron2 itself finds before NMS, in every picture: boxes, scores, classes."""
    from detectron2 import model_zoo
    from detectron2.config import get_cfg
    from detectron2.engine import DefaultPredictor

    table = case.table
    config = get_cfg()
    # RetinaNet's file computes its anchors in Python; it is detectron2's own.
    config.merge_from_file(model_zoo.get_config_file(case.config), allow_unsafe=True)
    config.INPUT.MIN_SIZE_TEST = PREPROCESSING.short_side
    config.INPUT.MAX_SIZE_TEST = PREPROCESSING.long_side
    model = config.MODEL
    model.WEIGHTS, model.DEVICE, model.MASK_ON = "", "cpu", False
    model.RESNETS.RES2_OUT_CHANNELS = table.trunk_channels
    model.RESNETS.NUM_GROUPS = table.groups
    model.RESNETS.WIDTH_PER_GROUP = table.width_per_group
    model.FPN.OUT_CHANNELS = table.channels
    model.ROI_BOX_HEAD.FC_DIM = table.hidden
    model.PIXEL_MEAN, model.PIXEL_STD = PREPROCESSING.mean, PREPROCESSING.std
    model.ROI_HEADS.NUM_CLASSES = model.RETINANET.NUM_CLASSES = table.classes
    model.ROI_HEADS.SCORE_THRESH_TEST = model.RETINANET.SCORE_THRESH_TEST = case.min_score
    model.ROI_HEADS.NMS_THRESH_TEST = model.RETINANET.NMS_THRESH_TEST = 1.0
    # Of a slice: below 0 is no limit for an R-CNN, and cuts the end off for a RetinaNet.
    config.TEST.DETECTIONS_PER_IMAGE = 10**6
    predictor = DefaultPredictor(config)
    unfit = predictor.model.load_state_dict(state, strict=False)
    assert not unfit.unexpected_keys
    assert not [key for key in unfit.missing_keys if "anchor" not in key and "pixel" not in key]
    found = [predictor(image[:, :, ::-1])["instances"] for image in PICTURES]
    return [
        (one.pred_boxes.tensor.numpy(), one.scores.numpy(), one.pred_classes.numpy())
        for one in found
    ]
