"""detectron2's checkpoints: known by their names, described by their shapes, checked key by key."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path

import msgspec
import torch
from safetensors.torch import save

from posepipe.curation.golden import GOLDEN_FILE, make_golden
from posepipe.curation.importing.checkpoints import ForeignCheckpoint
from posepipe.detection.candidates import Origin
from posepipe.detection.categories import COCO_CATEGORY_IDS
from posepipe.detection.native.detector import detector, fit_weights, unused_keys
from posepipe.detection.native.network import build_network
from posepipe.errors import WeightsError
from posepipe.io.checksums import sha256_of
from posepipe.networks.native.tables import (
    NOT_WEIGHTS,
    BackboneTable,
    NetworkTable,
    PreprocessingTable,
)
from posepipe.pose.networks.build import backend_of
from posepipe.pose.networks.keypoint_rcnn import NativeKeypointRCNNTable
from posepipe.zoo.recipe import WEIGHTS_FILE, Recipe, list_recipes
from posepipe.zoo.sources import RECIPE_FILE

Shapes = Mapping[str, tuple[int, ...]]

_MARKS = ("proposal_generator.rpn_head.", "head.cls_subnet.")
_DEPTHS = {6: 50, 23: 101, 36: 152}  # by the blocks of res4
_ANCHORS = 9  # of a cell of RetinaNet's
_RESNEXT_STD = (57.375, 57.12, 58.395)


def is_detectron2(shapes: Shapes) -> bool:
    """Whether names are those of a detectron2 R-CNN or RetinaNet."""
    return any(name.startswith(_MARKS) for name in shapes)


def network_of(shapes: Shapes) -> NetworkTable:
    """The network that a checkpoint's names and shapes describe, with the zoo's own conventions.

    What weights do not tell: where bottlenecks halve their input. The zoo's ResNets do so in the
    first 1x1 convolution, its ResNeXts in the 3x3 one.

    Raises:
        KeyError: a weight is missing that any such network has.
        ValueError: no such network.
    """
    retina = any(name.startswith("head.cls_subnet.") for name in shapes)
    fpn = "backbone.fpn_lateral5.weight" in shapes
    backbone = "backbone.bottom_up." if fpn else "backbone."
    cascade = "roi_heads.box_head.0.fc1.weight" in shapes
    blocks = {found[1] for n in shapes if (found := re.match(rf"{backbone}res4\.(\d+)\.", n))}
    middle, of_group = shapes[f"{backbone}res2.0.conv2.weight"][:2]
    fields: dict[str, object] = {
        "architecture": "retinanet" if retina else "cascade_rcnn" if cascade else "faster_rcnn",
        "features": "fpn" if fpn else "dc5" if f"{backbone}res5.0.conv1.weight" in shapes else "c4",
        "depth": _DEPTHS.get(len(blocks), len(blocks)),
        "groups": middle // of_group,
        "width_per_group": of_group,
        "backbone_channels": shapes[f"{backbone}res2.0.conv3.weight"][0],
        "stride_in_1x1": middle == of_group,
        "classes": _classes(shapes, retina=retina, cascade=cascade),
    }
    if fpn:
        fields["channels"] = shapes["backbone.fpn_lateral5.weight"][0]
    first = "roi_heads.box_head.0.fc1.weight" if cascade else "roi_heads.box_head.fc1.weight"
    if first in shapes:
        fields["hidden"] = shapes[first][0]
    for head in ("mask", "keypoint"):
        if any(name.startswith(f"roi_heads.{head}_head.") for name in shapes):
            fields["unused_head"] = head
    return msgspec.convert(fields, NetworkTable)


def _classes(shapes: Shapes, *, retina: bool, cascade: bool) -> int:
    if retina:
        return shapes["head.cls_score.weight"][0] // _ANCHORS
    stage = "0." if cascade else ""
    return shapes[f"roi_heads.box_predictor.{stage}cls_score.weight"][0] - 1


def detector_files(
    checkpoint: ForeignCheckpoint, name: str
) -> tuple[dict[str, bytes], str, tuple[str, ...]]:
    """The files of a detectron2 checkpoint's model folder, what it is in a few words, and remarks.

    Args:
        checkpoint: one for which `is_detectron2` holds.
        name: the model's.

    Raises:
        WeightsError: of a network that is not run here; names the first key that does not fit.
    """
    try:
        table = network_of(checkpoint.shapes)
    except (KeyError, ValueError) as error:
        raise WeightsError(
            f"{checkpoint.path} is one of detectron2's networks, but of a kind that is not run "
            f"here: {error}"
        ) from None
    if table.classes not in (1, len(COCO_CATEGORY_IDS)):
        raise WeightsError(
            f"{checkpoint.path} has {table.classes} classes: write a recipe that extends one of "
            "detectron2's, with network.classes and detector.category_ids"
        )
    with torch.device("meta"):
        network = build_network(table)
    network.to_empty(device="cpu")
    given = {key: checkpoint.read(key).float() for key in checkpoint.shapes}
    fit_weights(network, table, given, checkpoint.path)
    left_out = (*NOT_WEIGHTS, *unused_keys(table))
    state = {
        key: value.contiguous() for key, value in given.items() if not key.startswith(left_out)
    }
    weights = save(state)
    digest = hashlib.sha256(weights).hexdigest()
    kept = msgspec.structs.replace(table, unused_head="")
    std = _RESNEXT_STD if table.groups > 1 else PreprocessingTable().std
    title = _title(table)
    people = "people only" if table.classes == 1 else "80 classes"
    tables = {
        "model": {
            "stage": "detection",
            "summary": f"{title}, {people}, imported from detectron2",
            "licence": "weights: that of the checkpoint, which does not state it",
            "weights_sha256": digest,
        },
        "detector": {"backend": "detectron2_native"},
        "network": msgspec.to_builtins(kept),
        "preprocessing": msgspec.to_builtins(PreprocessingTable(std=std)),
        "candidates": {"min_score": 0.05},
    }
    sure = {**tables, "candidates": {"min_score": 0.0}}
    ready = detector(
        network,
        Recipe(name, Path(name), sure),
        origin=Origin(name, "", digest),
        device=torch.device("cpu"),
        dtype=torch.float32,
    )
    files = {
        WEIGHTS_FILE: weights,
        RECIPE_FILE: _recipe_text(tables).encode(),
        "README.md": _card(name, title, people, checkpoint).encode(),
        GOLDEN_FILE: make_golden(ready),
    }
    told = ["names and shapes of its weights; the rest is as in detectron2's model zoo"]
    if table.unused_head == "keypoint":
        told.append(keypoint_remark(table, checkpoint.path))
    return files, title, tuple(told)


def keypoint_remark(table: NetworkTable, path: Path) -> str:
    """Which recipe runs the keypoint head of the same file."""
    for recipe in list_recipes("pose"):
        if backend_of(recipe) == "detectron2_native":
            own = recipe.table("network", NativeKeypointRCNNTable)
            fields = BackboneTable.__struct_fields__
            if all(getattr(own, field) == getattr(table, field) for field in fields):
                return (
                    "a detector, without its keypoint head, which `posepipe pose boxes.json "
                    f"-o kps.json --model {recipe.name} --weights {path}` runs"
                )
    return "a detector, without its keypoint head"


def _title(table: NetworkTable) -> str:
    kinds = {"faster_rcnn": "Faster", "cascade_rcnn": "Cascade", "retinanet": "RetinaNet"}
    words = [kinds[table.architecture], table.unused_head.title()]
    if table.architecture == "faster_rcnn" and table.unused_head:
        words = words[1:]
    kind = (
        "RetinaNet"
        if table.architecture == "retinanet"
        else " ".join([*filter(None, words), "R-CNN"])
    )
    backbone = f"ResNe{'t' if table.groups == 1 else 'Xt'}-{table.depth}"
    return f"{kind} on {backbone} {table.features.upper()}"


def _recipe_text(tables: Mapping[str, Mapping[str, object]]) -> str:
    lines = [
        "# Imported from detectron2. Weights do not tell two things, which are those of its model",
        "# zoo here: network.stride_in_1x1, and the preprocessing (BGR, means and deviations).",
    ]
    for table, fields in tables.items():
        # For these types JSON's notation is TOML's.
        rows = [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in fields.items()]
        lines += ["", f"[{table}]", *rows]
    return "\n".join(lines) + "\n"


def _card(name: str, title: str, people: str, checkpoint: ForeignCheckpoint) -> str:
    [file] = checkpoint.files
    return f"""# {name}

{title}, {people}, imported from a checkpoint of detectron2's. Its accuracy was not measured here.

| | |
|---|---|
| from | {file.name}, SHA-256 {sha256_of(file)} |
| assumed | where bottlenecks halve their input, colours and sizes: as in detectron2's model zoo |
| licence | that of the checkpoint, which does not state it |
"""
