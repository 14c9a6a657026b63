"""The compact detector's loop runs and keeps its books."""

from __future__ import annotations

import csv

import numpy as np
import torch
from safetensors.torch import load_file

from posepipe.detection.networks import compact_detector
from posepipe.training.detector_loop import DetectorTrainingTable, train_detector
from posepipe.training.mosaic import MosaicTable
from posepipe.training.samples import DetectionSample

NOISE = np.random.default_rng(0).integers(0, 256, (120, 160, 3), dtype=np.uint8)
CROWDED = DetectionSample(NOISE, [[20, 30, 60, 110], [90, 10, 140, 70]], [[100, 80, 150, 110]])
EMPTY = DetectionSample(NOISE, [], [])


def test_the_loop_writes_weights_and_figures_and_leaves_frozen_stages_alone(tmp_path):
    torch.manual_seed(0)
    network = compact_detector(classes=2, channels=16, proposals=40)
    frozen = {k: v.clone() for k, v in network.backbone.stages[:2].state_dict().items()}
    table = DetectorTrainingTable(minutes=2 / 60, batch=2, mosaic=MosaicTable(side=128))
    train_detector(network, [[CROWDED], [EMPTY]], [3, 1], table, run=tmp_path / "run")
    files = sorted(path.name for path in (tmp_path / "run").iterdir())
    assert files == ["metrics.csv", "weights.safetensors"]
    [row] = csv.DictReader((tmp_path / "run/metrics.csv").read_text().splitlines())
    assert set(row) == {"minutes", "steps", "loss"}
    assert int(row["steps"]) >= 1
    assert np.isfinite(float(row["loss"]))
    fresh = compact_detector(classes=2, channels=16, proposals=40)
    fresh.load_state_dict(load_file(tmp_path / "run/weights.safetensors"))
    after = network.backbone.stages[:2].state_dict()
    assert all(torch.equal(after[key], value) for key, value in frozen.items())
