"""Train the two models that posepipe ships, from ImageNet weights and the project's data.

    python scripts/train_first_models.py pose     DATA IMAGENET RUN --minutes 98
    python scripts/train_first_models.py detector DATA IMAGENET RUN --minutes 78

DATA holds ``annotations/*.json`` and the picture folders; IMAGENET is a safetensors file of
torchvision's mobilenet_v2 for inputs of x / 127.5 - 1. ``RUN/weights.safetensors`` is written anew
every few minutes; `scripts/pack_weights.py` makes a model of it.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import click
import cv2
import torch
from safetensors.torch import load_file

from posepipe.data.coco import Annotations, read_annotations
from posepipe.detection.networks import compact_detector
from posepipe.pose.crops import PreprocessingTable
from posepipe.pose.networks.cpn import CPN, CPNTable
from posepipe.recipe import load_recipe
from posepipe.training.detector_loop import DetectorTrainingTable, train_detector
from posepipe.training.pose_loop import PoseTrainingTable, train_pose
from posepipe.training.samples import PoseSample, detection_samples, pose_samples

# Of LSPET's faces, which a small network labelled.
PSEUDO_WEIGHT = 0.3

FOLDERS = {
    "coco_people_train": "coco/train",
    "coco_people_val": "coco/val",
    "lspet_train": "lspet",
    "lspet_val": "lspet",
}


@click.command()
@click.argument("what", type=click.Choice(["pose", "detector"]))
@click.argument("data", type=click.Path(path_type=Path, exists=True))
@click.argument("imagenet", type=click.Path(path_type=Path, exists=True))
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--minutes", type=float, default=98.0, show_default=True)
@click.option("--threads", type=int, help="Of the network's arithmetic.  [default: all cores]")
@click.option("--start", type=click.Path(path_type=Path), help="Weights to begin with.")
def main(
    what: str,
    data: Path,
    imagenet: Path,
    run: Path,
    minutes: float,
    threads: int | None,
    start: Path | None,
) -> None:
    """Train the pose network or the detector."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if threads:
        torch.set_num_threads(threads)
        cv2.setNumThreads(threads)
    train: Any = train_first_cpn if what == "pose" else train_first_detector
    train(data, imagenet, run, minutes, start)


def train_first_cpn(
    data: Path, imagenet: Path, run: Path, minutes: float, start: Path | None
) -> None:
    """The CPN on COCO's and LSPET's people, measured on both sets' validation pictures."""
    recipe = load_recipe("cpn-mobilenetv2-256x192")
    network = CPN(recipe.table("network", CPNTable), imagenet_weights=imagenet)
    heads: Any = [network.refinenet.head, *network.globalnet.heads]
    for head in heads:
        # Heatmaps begin near zero, where most of their targets are.
        torch.nn.init.constant_(list(head.modules())[-1].weight, 0.1)
    if start:
        network.load_state_dict(load_file(start))

    def people(name: str) -> list[PoseSample]:
        annotations, folder = labelled(data, name)
        return pose_samples(annotations, folder, pseudo_weight=PSEUDO_WEIGHT)

    train_pose(
        network,
        [people("coco_people_train"), people("lspet_train")],
        [0.6, 0.4],
        {"coco_val": people("coco_people_val"), "lspet_val": people("lspet_val")},
        PoseTrainingTable(minutes=minutes),
        recipe.table("preprocessing", PreprocessingTable),
        run=run,
    )


def train_first_detector(
    data: Path, imagenet: Path, run: Path, minutes: float, start: Path | None
) -> None:
    """The detector of persons on COCO's and LSPET's pictures."""
    table = DetectorTrainingTable(minutes=minutes)
    network = compact_detector(classes=2, channels=128, proposals=300, imagenet_weights=imagenet)
    if start:
        network.load_state_dict(load_file(start))
    transform: Any = network.transform
    transform.image_mean = transform.image_std = [0.5, 0.5, 0.5]
    transform.min_size, transform.max_size = (table.mosaic.side,), table.mosaic.side
    train_detector(
        network,
        [detection_samples(*labelled(data, name)) for name in ("coco_people_train", "lspet_train")],
        [0.65, 0.35],
        table,
        run=run,
    )


def labelled(data: Path, name: str) -> tuple[Annotations, Path]:
    """A data set's labels, and the folder of its pictures."""
    return read_annotations(data / "annotations" / f"{name}.json"), data / FOLDERS[name]


if __name__ == "__main__":
    main()
