"""Train the two models that posepipe ships, from ImageNet weights and the project's data.

    python scripts/train_first_models.py pose     DATA WEIGHTS RUN --minutes 100
    python scripts/train_first_models.py detector DATA WEIGHTS RUN --minutes 100

DATA holds ``annotations/*.json`` and the picture folders; WEIGHTS is a safetensors file of
torchvision's mobilenet_v2 for inputs of x / 127.5 - 1.
"""

from __future__ import annotations

import logging
from pathlib import Path

import click
import cv2
import numpy as np
import torch

import json

from safetensors.torch import load_file

from posepipe.core.boxes import xywh_to_xyxy
from posepipe.detection.networks import compact_detector
from posepipe.pose.networks.cpn import CPN, CPNTable
from posepipe.training.detector_loop import (
    DetectionSample,
    DetectorTrainingTable,
    train_detector,
)
from posepipe.training.pose_loop import PoseInput, PoseTrainingTable, train_pose
from posepipe.training.samples import PoseSample

PSEUDO_WEIGHT = 0.3


def read(data, annotations, folder):
    document = json.loads((data / "annotations" / f"{annotations}.json").read_text())
    by_image = {entry["id"]: [] for entry in document["images"]}
    for a in document["annotations"]:
        by_image[a["image_id"]].append(a)
    for entry in document["images"]:
        yield (
            cv2.imread(str(data / folder / entry["file_name"]))[..., ::-1].copy(),
            by_image[entry["id"]],
        )


def pose_samples(data, annotations, folder):
    found = []
    for pixels, people in read(data, annotations, folder):
        for a in people:
            if a["iscrowd"] or not a["num_keypoints"]:
                continue
            keypoints = np.array(a["keypoints"], float).reshape(17, 3)
            weights = (keypoints[:, 2] > 0).astype(float)
            weights[a.get("pseudo_keypoints", [])] *= PSEUDO_WEIGHT
            found.append(
                PoseSample(pixels, xywh_to_xyxy(a["bbox"]), keypoints[:, :2], weights, a["area"])
            )
    return found


def detection_samples(data, annotations, folder):
    return [
        DetectionSample(
            pixels,
            xywh_to_xyxy([a["bbox"] for a in people if not a["iscrowd"]]),
            xywh_to_xyxy([a["bbox"] for a in people if a["iscrowd"]]),
        )
        for pixels, people in read(data, annotations, folder)
    ]


@click.command()
@click.argument("what", type=click.Choice(["pose", "detector"]))
@click.argument("data", type=click.Path(path_type=Path))
@click.argument("weights", type=click.Path(path_type=Path))
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--minutes", type=float, default=100.0)
@click.option("--start", type=click.Path(path_type=Path), help="weights to begin with")
@click.option("--threads", type=int, default=0)
def main(what, data, weights, run, minutes, start, threads):
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if threads:
        torch.set_num_threads(threads)
        cv2.setNumThreads(threads)
    if what == "pose":
        network = CPN(
            CPNTable(backbone="mobilenet_v2", channels=64, shortcut="identity"),
            imagenet_weights=weights,
        )
        for head in [network.refinenet.head, *(h[1] for h in network.globalnet.heads)]:
            torch.nn.init.constant_(head[1].weight, 0.1)
        train_pose(
            network,
            [
                pose_samples(data, "coco_people_train", "coco/train"),
                pose_samples(data, "lspet_train", "lspet"),
            ],
            [0.6, 0.4],
            {
                "coco_val": pose_samples(data, "coco_people_val", "coco/val"),
                "lspet_val": pose_samples(data, "lspet_val", "lspet"),
            },
            PoseTrainingTable(minutes=minutes),
            PoseInput(
                size_wh=(192, 256),
                margins_xy=(0.1, 0.15),
                fill=(123, 116, 103),
                mean=(127.5, 127.5, 127.5),
                std=(127.5, 127.5, 127.5),
            ),
            run=run,
        )
    else:
        network = compact_detector(classes=2, channels=128, proposals=300, imagenet_weights=weights)
        network.transform.image_mean = network.transform.image_std = [0.5, 0.5, 0.5]
        network.transform.min_size, network.transform.max_size = (384,), 384
        if start:
            network.load_state_dict(load_file(start))
        train_detector(
            network,
            [
                detection_samples(data, "coco_people_train", "coco/train"),
                detection_samples(data, "lspet_train", "lspet"),
            ],
            [0.65, 0.35],
            DetectorTrainingTable(minutes=minutes),
            run=run,
        )


if __name__ == "__main__":
    main()
