"""Detection networks: what their backbones consist of and what they begin with."""

from __future__ import annotations

import pytest
import torch
import torchvision
from safetensors.torch import save_file

from posepipe.detection.networks import NetworkTable, backbone_stages, build_network, load_imagenet
from posepipe.detection.rtmdet_network import RTMDet, RTMDetTable
from posepipe.errors import WeightsError

ARCHITECTURES = {  # and torchvision's classifiers on the same backbones
    "fasterrcnn_mobilenet_v2_fpn": "mobilenet_v2",
    "fasterrcnn_mobilenet_v3_large_320_fpn": "mobilenet_v3_large",
    "maskrcnn_resnet50_fpn": "resnet50",
}


@pytest.fixture(params=ARCHITECTURES)
def architecture(request):
    return request.param


def backbone_of(network):
    backbone = network.backbone
    return backbone.stages if hasattr(backbone, "stages") else backbone.body


def test_a_backbone_has_four_stages_at_strides_4_to_32_and_nothing_else(architecture):
    network = build_network(NetworkTable(architecture=architecture, classes=2)).eval()
    stages = backbone_stages(network)
    maps, sides = torch.zeros(1, 3, 64, 64), []
    with torch.inference_mode():
        for stage in stages:
            for part in stage:
                maps = part(maps)
            sides.append(maps.shape[-1])
    assert sides == [16, 8, 4, 2]
    of_stages = {id(p) for stage in stages for part in stage for p in part.parameters()}
    assert of_stages == {id(p) for p in backbone_of(network).parameters()}


def test_a_backbone_takes_a_classifiers_weights(architecture, tmp_path):
    network = build_network(NetworkTable(architecture=architecture, classes=2))
    classifier = torchvision.models.get_model(ARCHITECTURES[architecture], num_classes=3)
    file = tmp_path / "classifier.safetensors"
    save_file(classifier.state_dict(), file)
    load_imagenet(network, file)
    wanted = [value for key, value in classifier.state_dict().items() if key.endswith("weight")]
    have = [
        value for key, value in backbone_of(network).state_dict().items() if key.endswith("weight")
    ]
    assert len(have) > 30
    assert all(torch.equal(one, other) for one, other in zip(have, wanted, strict=False))


def test_a_compact_detector_begins_with_rtmdets_backbone_and_pyramid(tmp_path):
    torch.manual_seed(0)
    rtmdet = RTMDet(RTMDetTable(norm=False))
    file = tmp_path / "rtmdet.safetensors"
    save_file(rtmdet.state_dict(), file)
    table = NetworkTable(architecture="fasterrcnn_cspnext_fpn", classes=2, channels=64)
    network = build_network(table).eval()
    load_imagenet(network, file)
    images = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        pyramid = network.backbone(images)
        levels = rtmdet.eval().neck(rtmdet.backbone(images)[1:])
    assert list(pyramid) == ["0", "1", "2", "pool"]
    for name, level in zip(pyramid, levels, strict=False):
        torch.testing.assert_close(pyramid[name], level)
    assert pyramid["pool"].shape[-1] == 1
    with pytest.raises(WeightsError, match="shape"):
        load_imagenet(build_network(NetworkTable(architecture=table.architecture)), file)


def test_weights_of_another_classifier_or_of_none_are_refused(architecture, tmp_path):
    network = build_network(NetworkTable(architecture=architecture, classes=2))
    file = tmp_path / "classifier.safetensors"
    save_file({"fc.weight": torch.zeros(3, 3)}, file)
    with pytest.raises(WeightsError, match=r"classifier\.safetensors is (not of|of another)"):
        load_imagenet(network, file)
    with pytest.raises(WeightsError, match="no weights file"):
        load_imagenet(network, tmp_path / "nowhere.safetensors")
