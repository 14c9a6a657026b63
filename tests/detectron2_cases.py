"""Small detectron2 networks with known weights, and what the real detectron2 says with them.

Weights and images follow rules, so that nothing but the answers need be kept: they are in
`ANSWERS`, made by `real_answers`, which needs detectron2 (marked tests compare the two).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from code_bases import u01
from torch import nn

from posepipe.networks.native.images import final_size_wh
from posepipe.networks.native.tables import BackboneTable, NetworkTable, PreprocessingTable
from posepipe.pose.networks.keypoint_rcnn import NativeKeypointRCNNTable

ANSWERS = Path(__file__).parent / "detection" / "native" / "detectron2.safetensors"
KEYPOINT_ANSWERS = Path(__file__).parent / "pose" / "detectron2_keypoints.safetensors"
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
    small = {
        "backbone_channels": 32,
        "width_per_group": 8,
        "channels": 16,
        "hidden": 32,
        "classes": 5,
    }
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


KEYPOINTS = NativeKeypointRCNNTable(
    backbone_channels=32, width_per_group=8, channels=16, keypoint_channels=24
)


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


# For images in bytes, and for scores and boxes that differ from place to place.
FACTORS = {
    "stem.conv1": 1 / 64,
    "objectness_logits": 0.5,
    "anchor_deltas": 0.1,
    "cls_score": 2.0,
    "bbox_pred": 0.5,
    "score_lowres": 2.0,
}


def an_image(seed: int, shape_hw: tuple[int, int]) -> np.ndarray:
    """(H, W, 3) uint8 RGB noise in coarse and fine grains."""
    height, width = shape_hw
    total = np.zeros((height, width, 3))
    for number, grain in enumerate((48, 16, 4, 1)):
        rows, columns = -(-height // grain), -(-width // grain)
        cells = u01(seed, number, rows * columns * 3).reshape(rows, columns, 3)
        total += cells.repeat(grain, axis=0).repeat(grain, axis=1)[:height, :width] * 64
    return np.floor(total).astype(np.uint8)


def boxes_in(seed: int, shape_hw: tuple[int, int]) -> np.ndarray:
    """(12, 4) float32 boxes of all sizes inside an image."""
    u = u01(seed, 0, 48).reshape(12, 4)
    size_wh = np.array(shape_hw[::-1])
    sides = (0.05 + 0.9 * u[:, 2:]) * size_wh
    corners = u[:, :2] * (size_wh - sides)
    return np.concatenate([corners, corners + sides], axis=1).astype(np.float32)


IMAGES = [an_image(14 + place, shape_hw) for place, shape_hw in enumerate(SIZES_HW)]


def _configured(config: str, table: BackboneTable) -> Any:
    """detectron2's own configuration of a network as small as a table."""
    from detectron2 import model_zoo
    from detectron2.config import get_cfg

    node = get_cfg()
    # RetinaNet's file computes its anchors in Python; it is detectron2's own.
    node.merge_from_file(model_zoo.get_config_file(config), allow_unsafe=True)
    node.INPUT.MIN_SIZE_TEST = PREPROCESSING.short_side
    node.INPUT.MAX_SIZE_TEST = PREPROCESSING.long_side
    model = node.MODEL
    model.WEIGHTS, model.DEVICE, model.MASK_ON = "", "cpu", False
    model.RESNETS.RES2_OUT_CHANNELS = table.backbone_channels
    model.RESNETS.NUM_GROUPS = table.groups
    model.RESNETS.WIDTH_PER_GROUP = table.width_per_group
    model.FPN.OUT_CHANNELS = table.channels
    model.PIXEL_MEAN, model.PIXEL_STD = PREPROCESSING.mean, PREPROCESSING.std
    return node


def _fill_real(network: nn.Module, state: Mapping[str, torch.Tensor], *further: str) -> None:
    """Put weights into detectron2's network, which may have others that begin with `further`."""
    unfit = network.load_state_dict(state, strict=False)
    assert not unfit.unexpected_keys
    missing = [key for key in unfit.missing_keys if "anchor" not in key and "pixel" not in key]
    assert not [key for key in missing if not key.startswith(further or ("-",))]


def real_answers(case: Case, state: dict[str, torch.Tensor]) -> list[Answer]:
    """What detectron2 itself finds before NMS, in every image: boxes, scores, classes."""
    from detectron2.engine import DefaultPredictor

    table = case.table
    config = _configured(case.config, table)
    model = config.MODEL
    model.ROI_BOX_HEAD.FC_DIM = table.hidden
    model.ROI_HEADS.NUM_CLASSES = model.RETINANET.NUM_CLASSES = table.classes
    model.ROI_HEADS.SCORE_THRESH_TEST = model.RETINANET.SCORE_THRESH_TEST = case.min_score
    model.ROI_HEADS.NMS_THRESH_TEST = model.RETINANET.NMS_THRESH_TEST = 1.0
    # Of a slice: below 0 is no limit for an R-CNN, and cuts the end off for a RetinaNet.
    config.TEST.DETECTIONS_PER_IMAGE = 10**6
    predictor = DefaultPredictor(config)
    _fill_real(predictor.model, state)
    found = [predictor(image[:, :, ::-1])["instances"] for image in IMAGES]
    return [
        (one.pred_boxes.tensor.numpy(), one.scores.numpy(), one.pred_classes.numpy())
        for one in found
    ]


def real_keypoints(state: dict[str, torch.Tensor]) -> list[np.ndarray]:
    """(12, 17, 2) keypoints that detectron2 itself finds in `boxes_in` of every image.

    As it writes them into COCO's files: a whole number is a pixel's centre.
    """
    from detectron2.engine import DefaultPredictor
    from detectron2.evaluation.coco_evaluation import instances_to_coco_json
    from detectron2.structures import Boxes, Instances

    config = _configured("COCO-Keypoints/keypoint_rcnn_R_50_FPN_3x.yaml", KEYPOINTS)
    config.MODEL.ROI_KEYPOINT_HEAD.CONV_DIMS = (KEYPOINTS.keypoint_channels,) * 8
    predictor = DefaultPredictor(config)
    _fill_real(predictor.model, state, "proposal_generator.", "roi_heads.box_")
    found = []
    for seed, image in enumerate(IMAGES):
        height, width = image.shape[:2]
        bgr = image[:, :, ::-1]
        pixels = predictor.aug.get_transform(bgr).apply_image(bgr)
        new_w, new_h = final_size_wh((width, height), PREPROCESSING)
        assert pixels.shape[:2] == (new_h, new_w)
        people = Instances((new_h, new_w))
        people.pred_boxes = Boxes(torch.from_numpy(boxes_in(seed, (height, width))))
        people.pred_boxes.scale(new_w / width, new_h / height)
        people.pred_classes = torch.zeros(12, dtype=torch.long)
        people.scores = torch.ones(12)
        given = {"image": torch.from_numpy(pixels.astype(np.float32).transpose(2, 0, 1))}
        given |= {"height": height, "width": width}
        with torch.no_grad():
            [result] = predictor.model.inference([given], [people])
        of_all = [one["keypoints"] for one in instances_to_coco_json(result["instances"], 1)]
        found.append(np.array(of_all).reshape(12, 17, 3)[..., :2])
    return found
