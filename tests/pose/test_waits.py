"""How often the pose stage's host waits for its GPU: on one that computes shapes alone."""

from __future__ import annotations

import copy
import dataclasses

import numpy as np
import pytest
from builders import detections
from fake_gpu import GPU, fake_gpu, put_on_gpu
from torch import Tensor, nn

from posepipe.io.images import ImageFile
from posepipe.pose.codecs.argmax import ArgmaxTable
from posepipe.pose.codecs.simcc import SimCCTable
from posepipe.pose.heatmaps import DecodingTable
from posepipe.pose.stage import PoseStage

DECODING = [DecodingTable(), ArgmaxTable(), ArgmaxTable(codec="dark"), SimCCTable()]


class Vectors(nn.Module):
    """SimCC's two vectors for each of 17 keypoints, of any image."""

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        lines = images.mean(dim=1, keepdim=True)
        return tuple(
            lines.mean(dim=axis).repeat_interleave(2, dim=-1).expand(-1, 17, -1) for axis in (2, 3)
        )


@pytest.mark.parametrize("decoding", DECODING, ids=lambda table: table.codec)
@pytest.mark.parametrize("window", ["exact", "whole_pixels"])
def test_the_pose_stage_waits_once_per_batch(decoding, window, random_cpn, make_model) -> None:
    network = Vectors() if decoding.codec == "simcc" else copy.deepcopy(random_cpn)
    model = make_model(network, window=window)
    stage = PoseStage([dataclasses.replace(model, device=GPU, decoding=decoding)], batch_size=2)
    image = ImageFile(1, None, "", np.zeros((200, 160, 3), np.uint8))
    boxes = [[10, 10, 50, 60], [0, 0, 150, 190], [20, 10, 60, 90], [5, 5, 5, 5], [9, 9, 99, 99]]
    with fake_gpu() as gpu:
        put_on_gpu(network)
        for people in (5, 3):
            batch = [stage.prepare((image, detections(1, boxes[:people]))) for _ in range(3)]
            gpu.blocking.clear()  # constants are sent once
            gpu.waits = 0
            finish = stage.start(batch)
            assert gpu.waits == 0
            assert [len(poses) for poses in finish()] == [people] * 3
        assert gpu.waits == 1
        assert gpu.blocking == gpu.races == []
