"""An R-CNN's steps on a whole batch: torchvision's own numbers, and few waits for a device."""

from __future__ import annotations

import sys
from unittest import mock

import numpy as np
import pytest
import torch
from fake_gpu import GPU, fake_gpu, put_on_gpu
from torch._subclasses.fake_tensor import FakeTensor
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import nms

from posepipe.detection import whole_batch
from posepipe.detection.candidates import Origin
from posepipe.detection.networks import MobileNetV2FPN, compact_detector
from posepipe.detection.torchvision import Preprocessing, TorchvisionDetector
from posepipe.detection.whole_batch import boxes_of_all, unsuppressed

SIZES_WH = [(160, 96), (131, 90), (150, 65)]  # all padded to the first


@pytest.fixture(params=[(), (0.6, 0.7)], ids=["faster", "cascade"])
def network(request) -> torch.nn.Module:
    """A small R-CNN of 5 classes with random weights that tell boxes apart, one stage or three."""
    torch.manual_seed(4)
    made = compact_detector(MobileNetV2FPN(16), classes=5, proposals=60, cascade=request.param)
    heads = made.roi_heads
    with torch.no_grad():
        made.rpn.head.cls_logits.weight.mul_(30)
        for stage in (heads, *getattr(heads, "later", ())):
            stage.box_predictor.cls_score.weight.mul_(30)
            stage.box_predictor.bbox_pred.weight.mul_(20)
    heads.score_thresh, heads.nms_thresh, heads.detections_per_img = 0.05, 1.0, sys.maxsize
    return made.eval().requires_grad_(False)


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    """Three images of noise that pad to one shape, and their sizes."""
    images = torch.randn(3, 3, 96, 160, generator=torch.Generator().manual_seed(0))
    for image, (width, height) in zip(images, SIZES_WH, strict=True):
        image[:, height:] = 0
        image[:, :, width:] = 0
    return images, torch.tensor(SIZES_WH, dtype=torch.float32)


@pytest.mark.parametrize("everywhere", [False, True], ids=["as on a CPU", "as on a GPU"])
def test_the_boxes_are_torchvisions_own(network, everywhere, monkeypatch) -> None:
    if everywhere:
        monkeypatch.setattr(whole_batch, "_unsuppressed_one_by_one", unsuppressed)
    images, sizes_wh = batch()
    with torch.inference_mode():
        found = boxes_of_all(network, images, sizes_wh).numpy()
        listed = ImageList(images, [(height, width) for width, height in SIZES_WH])
        features = network.backbone(images)
        proposals, _ = network.rpn(listed, features)
        theirs, _ = network.roi_heads(features, proposals, listed.image_sizes)
    assert [len(part) for part in proposals] == [60] * 3
    for number, own in enumerate(theirs):
        mine = found[found[:, 0] == number]
        mine = mine[np.argsort(-mine[:, 2], kind="stable")]
        assert len(mine) == len(own["scores"]) > 30
        np.testing.assert_allclose(mine[:, 2], own["scores"], atol=1e-4)
        np.testing.assert_array_equal(mine[:, 1], own["labels"])
        np.testing.assert_allclose(mine[:, 3:], own["boxes"], atol=1e-3)


def test_what_is_suppressed_is_what_greedy_nms_suppresses() -> None:
    random = torch.Generator().manual_seed(1)
    corners = 60 * torch.rand(4, 300, 2, generator=random)
    boxes = torch.cat([corners, corners + 2 + 40 * torch.rand(4, 300, 2, generator=random)], dim=-1)
    valid = torch.rand(4, 300, generator=random) < 0.9
    # Each overlaps the next, so that every second one stays: a chain longer than a few steps.
    line = torch.arange(50.0)[:, None] * torch.tensor([3.0, 0, 3, 0]) + torch.tensor([0.0, 0, 9, 9])
    chain, all_of_it = line[None].expand(4, -1, -1), torch.ones(4, 50, dtype=torch.bool)
    random_kept, chain_kept = unsuppressed([boxes, chain], [valid, all_of_it], 0.45)
    assert chain_kept.tolist() == [[place % 2 == 0 for place in range(50)]] * 4
    for number in range(4):
        known = valid[number].nonzero()[:, 0]
        best_first = torch.arange(len(known), 0, -1).float()
        wanted = known[nms(boxes[number, known], best_first, 0.45)].sort().values
        assert 20 < len(wanted) < len(known) - 20
        assert torch.equal(random_kept[number].nonzero()[:, 0], wanted)


@pytest.mark.parametrize("count", [1, 5])
def test_waits_are_as_many_for_one_image_as_for_five(network, count) -> None:
    detector = TorchvisionDetector(
        network,
        origin=Origin("", "", ""),
        preprocessing=Preprocessing(short_side=96, long_side=160),
    )
    ready = [detector.prepare(np.zeros((96, 144, 3), np.uint8)) for _ in range(count)]
    detector(ready)
    looks = []  # what the host learns of tensors

    def changed(_) -> bool:
        looks.append("whether anything changed")
        return False

    def counts(_) -> list[int]:
        looks.append("RoIs of each level")
        return [60 * count, 0, 0]

    def places(_) -> torch.Tensor:
        looks.append("boxes")
        return torch.zeros(9, 2, dtype=torch.long, device=GPU)

    with (
        fake_gpu() as gpu,
        mock.patch.object(FakeTensor, "__bool__", changed),
        mock.patch.object(FakeTensor, "tolist", counts),
        mock.patch.object(FakeTensor, "nonzero", places),
    ):
        put_on_gpu(network)
        anchors = network.rpn.anchor_generator
        anchors.cell_anchors = [torch.empty_like(one, device=GPU) for one in anchors.cell_anchors]
        detector._device = GPU
        detector(ready)  # constants are sent once
        looks.clear()
        gpu.blocking.clear()
        gpu.waits = 0
        finish = detector.start(ready)
        assert gpu.waits == 0
        finish()
    stages = 1 + len(getattr(network.roi_heads, "later", ()))
    assert looks == ["whether anything changed", *["RoIs of each level"] * stages, "boxes"]
    assert gpu.waits == 1
    assert gpu.blocking == []
