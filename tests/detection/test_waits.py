"""How often a detector's host waits for its GPU: on one that computes shapes alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from fake_gpu import GPU, fake_gpu, put_on_gpu
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException

from posepipe.detection.candidates import Origin
from posepipe.detection.rtmdet import RTMDetDetector, RTMDetPreprocessing
from posepipe.detection.rtmdet_network import RTMDet, RTMDetTable
from posepipe.detection.stage import DetectionSettings, DetectionStage
from posepipe.io.images import ImageFile

LANDSCAPE, PORTRAIT = (64, 96), (96, 64)


def rtmdet() -> RTMDetDetector:
    network = RTMDet(RTMDetTable(width=0.125, channels=16, norm=False, classes=3))
    given = RTMDetPreprocessing(long_side=96)
    return RTMDetDetector(network, origin=Origin("", "", ""), preprocessing=given, min_score=0.9)


def test_the_fake_gpu_says_what_a_real_one_would_wait_for() -> None:
    with fake_gpu() as gpu:
        numbers = torch.zeros(3, device=GPU)
        numbers.cpu()
        torch.ones(2).to(GPU)
        assert gpu.blocking == [(3,), (2,)]
        with pytest.raises(DataDependentOutputException):
            numbers.sum().item()
        with pytest.raises(DynamicOutputShapeException):
            numbers[numbers > 0]
        with pytest.raises(RuntimeError, match="same device"):
            numbers + torch.ones(3)
        pinned = torch.ones(4).pin_memory()
        gpu.blocking.clear()
        torch._foreach_copy_([torch.ones(4, device=GPU)], [pinned], non_blocking=True)
        assert gpu.blocking == []
        for part, quick in ((pinned, False), (torch.ones(4), True)):
            torch._foreach_copy_([torch.ones(4, device=GPU)], [part], non_blocking=quick)
        assert gpu.blocking == [(4,)] * 2


def test_the_fake_gpu_says_what_streams_do_not_wait_for() -> None:
    with fake_gpu() as gpu:
        rest, beside = torch.cuda.current_stream(GPU), torch.cuda.Stream(GPU)
        with torch.cuda.stream(beside):
            numbers = torch.ones(3, device=GPU) * 2
            numbers + 1
        assert gpu.races == []
        numbers + 1  # waits for nothing
        assert gpu.races
        gpu.races.clear()
        rest.wait_stream(beside)
        numbers[:2] + 1  # whose memory may be given away
        assert gpu.races
        gpu.races.clear()
        numbers.record_stream(rest)
        numbers[:2] + 1
        assert gpu.races == []


@pytest.mark.parametrize("sizes", [[LANDSCAPE], [LANDSCAPE] * 5, [LANDSCAPE, PORTRAIT, (64, 90)]])
@pytest.mark.parametrize("pinned", [True, False])
def test_rtmdet_is_waited_for_once_per_batch(sizes, pinned) -> None:
    detector = rtmdet()
    images = [np.zeros((*size, 3), np.uint8) for size in sizes]
    stage = DetectionStage([detector], DetectionSettings(flip=True, scales=(1.0, 0.7)))

    def prepared() -> list[Any]:
        return [stage.prepare(ImageFile(n, None, "", image)) for n, image in enumerate(images)]

    batch = prepared()
    stage(batch)
    with fake_gpu() as gpu:
        put_on_gpu(detector.network)
        detector._device = detector._beside._device = GPU
        batch = prepared() if pinned else batch
        assert all((view.pinned is not None) == pinned for ready in batch for view in ready.views)
        stage(batch)  # constants are sent once
        gpu.blocking.clear()
        gpu.waits = 0
        finish = stage.start(batch)
        assert gpu.waits == 0
        assert len(finish()) == len(sizes)
    assert gpu.waits == 2  # for the images, and for their mirror images
    assert gpu.blocking == gpu.races == []


def test_images_of_several_passes_come_together_where_a_gpu_has_recordings() -> None:
    settings = DetectionSettings(batch_size=3)
    assert DetectionStage([rtmdet()], settings).batch_size == 3
    on_gpu, with_another = rtmdet(), rtmdet()
    on_gpu._device = with_another._device = GPU
    assert DetectionStage([on_gpu], settings).batch_size == 12
    assert DetectionStage([with_another, rtmdet()], settings).batch_size == 3
    used_once = rtmdet()
    used_once._device = GPU
    assert DetectionStage([used_once], settings, record=False).batch_size == 3
    assert used_once._in_sizes is None
