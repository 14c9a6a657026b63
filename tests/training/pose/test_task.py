"""What a pose task begins with."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from posepipe.pose.networks.globalnet import HeatmapHead
from posepipe.training.pose.task import PoseTask
from posepipe.training.tables import PoseTrainingTable
from posepipe.zoo.recipe import Recipe


def test_heads_alone_begin_with_their_scale_however_many_keypoints_there_are(
    tmp_path: Path,
) -> None:
    # As many keypoints as parts of the backbone and the pyramid have channels.
    tables = {
        "model": {"stage": "pose", "summary": ""},
        "skeleton": {"category": "face", "keypoints": [f"point {k}" for k in range(32)]},
        "network": {"backbone": "mobilenet_v2", "channels": 32},
        "preprocessing": {"input_size_wh": [64, 64]},
    }
    table = PoseTrainingTable(samples=1, head_scale=0.1)
    task = PoseTask(Recipe("faces", tmp_path, tables), table, device=torch.device("cpu"))
    heads = [module for module in task.network.modules() if isinstance(module, HeatmapHead)]
    assert len(heads) == 5  # GlobalNet's four, and RefineNet's
    scaled = {head.norm for head in heads}
    for module in task.network.modules():
        if isinstance(module, nn.BatchNorm2d):
            expected = 0.1 if module in scaled else 1.0
            assert torch.equal(module.weight, torch.full_like(module.weight, expected))
