"""A cascade of box heads: what it gives, by hand, and which recipes may have one."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torchvision.ops import clip_boxes_to_image

from posepipe.detection.candidates import Origin
from posepipe.detection.cascade import box_stages, refined
from posepipe.detection.networks import (
    MobileNetV2FPN,
    NetworkTable,
    build_network,
    compact_detector,
)
from posepipe.detection.torchvision import TorchvisionDetector

ORIGIN = Origin("cascade", "torchvision", "")


@pytest.fixture
def network():
    """Three stages, each with its own random weights, large enough to tell boxes apart."""
    torch.manual_seed(0)
    network = compact_detector(
        MobileNetV2FPN(16), classes=3, proposals=30, cascade=(0.6, 0.7)
    ).eval()
    with torch.no_grad():
        for stage in box_stages(network.roi_heads):
            stage.box_predictor.cls_score.weight.mul_(30)
            stage.box_predictor.bbox_pred.weight.mul_(20)
    return network


@pytest.fixture
def seen():
    """A pyramid, RoIs of two images, one of them without any, and the images' sizes."""
    generator = torch.Generator().manual_seed(1)
    features = {
        name: torch.randn(2, 16, 96 // stride, 128 // stride, generator=generator)
        for name, stride in (("0", 8), ("1", 16), ("2", 32))
    }
    low = torch.rand(12, 2, generator=generator) * 60
    rois = torch.cat([low, low + 8 + 25 * torch.rand(12, 2, generator=generator)], dim=1)
    return features, [rois, torch.zeros(0, 4)], [(96, 128), (96, 128)]


def test_each_stage_looks_at_the_boxes_of_the_one_before_and_scores_are_their_mean(network, seen):
    heads, (features, rois, shapes) = network.roi_heads, seen
    heads.score_thresh, heads.nms_thresh, heads.detections_per_img = 0.0, 1.0, 1000
    with torch.inference_mode():
        found, losses = heads(features, rois, shapes)
        boxes, scores = rois[0], torch.zeros(12, 3)
        for stage in box_stages(heads):
            of_roi = heads.box_roi_pool(features, [boxes, rois[1]], shapes)
            vectors = stage.box_head(of_roi)
            scores += stage.box_predictor.cls_score(vectors).softmax(dim=1) / 3
            deltas = stage.box_predictor.bbox_pred(vectors)
            boxes = heads.box_coder.decode_single(deltas, boxes)
            boxes = clip_boxes_to_image(boxes, (96, 128))
    assert losses == {}
    assert len(found[1]["boxes"]) == 0
    wanted = [
        (score, label, *box)
        for box, of_box in zip(boxes.tolist(), scores.tolist(), strict=True)
        for label, score in enumerate(of_box)
        if label > 0 and box[2] - box[0] >= 0.01 and box[3] - box[1] >= 0.01
    ]
    given = zip(
        found[0]["scores"].tolist(),
        found[0]["labels"].tolist(),
        *found[0]["boxes"].T.tolist(),
        strict=True,
    )
    np.testing.assert_allclose(sorted(given), sorted(wanted), rtol=1e-4, atol=1e-4)
    assert len(wanted) > 10


def test_refined_boxes_are_decoded_cut_to_the_image_and_carry_no_gradient():
    coder = compact_detector(MobileNetV2FPN(16), classes=2, proposals=5).roi_heads.box_coder
    # Deltas are in tenths of the side for places and fifths of its logarithm for sizes.
    twice = 5 * math.log(2)
    deltas = torch.tensor([[5.0, 0, 0, 0] * 2, [0, 0, twice, 0] * 2], requires_grad=True)
    rois = [torch.tensor([[10.0, 10, 30, 50]]), torch.tensor([[20.0, 0, 40, 10]])]
    first, second = refined(deltas, rois, [(100, 100), (100, 45)], coder)
    torch.testing.assert_close(first, torch.tensor([[20.0, 10, 40, 50]]))
    torch.testing.assert_close(second, torch.tensor([[10.0, 0, 45, 10]]))
    assert not first.requires_grad


def test_every_stage_runs_in_the_lower_precision(network, an_image, small):
    detector = TorchvisionDetector(
        network, origin=ORIGIN, preprocessing=small, dtype=torch.bfloat16
    )
    dtypes = []
    for stage in box_stages(network.roi_heads):
        stage.box_head.fc6.register_forward_hook(lambda *given: dtypes.append(given[-1].dtype))
    [candidates] = detector([detector.prepare(an_image(128, 96))])
    assert dtypes == [torch.bfloat16] * 3
    assert len(candidates) > 0


def test_a_recipe_without_a_cascade_has_one_stage():
    heads = build_network(NetworkTable("fasterrcnn_mobilenet_v2_fpn", classes=2)).roi_heads
    assert box_stages(heads) == [heads]


def test_torchvisions_losses_are_not_to_be_had_of_a_cascade(network, seen):
    with pytest.raises(ValueError, match="trained with posepipe"):
        network.roi_heads(*seen, [])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"architecture": "fasterrcnn_resnet50_fpn", "cascade": (0.6,)}, "has none"),
        ({"architecture": "fasterrcnn_mobilenet_v2_fpn", "cascade": (0.6, 1.0)}, r"IoUs in \(0, 1"),
        ({"architecture": "fasterrcnn_mobilenet_v2_fpn", "cascade": (0.7, 0.6)}, "rising IoUs"),
    ],
)
def test_other_cascades_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        NetworkTable(**fields)
