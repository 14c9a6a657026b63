"""Backbones from torchvision and timm: four strides, ImageNet weights, clear refusals."""

from __future__ import annotations

import sys

import pytest
import torch
import torchvision
from safetensors.torch import save_file

from posepipe.errors import MissingDependencyError, RecipeError, WeightsError
from posepipe.networks.backbones.build import build_backbone

RESNET18 = (64, 128, 256, 512)


@torch.inference_mode()
@pytest.mark.parametrize(
    ("name", "channels"),
    [("resnet18", RESNET18), ("mobilenet_v2", (24, 32, 96, 320)), ("resnet18d", RESNET18)],
)
def test_a_backbone_has_features_at_strides_4_8_16_and_32(name, channels):
    if name == "resnet18d":
        pytest.importorskip("timm")
    backbone = build_backbone(name)
    assert tuple(backbone.channels) == channels
    features = backbone.eval()(torch.randn(1, 3, 64, 96))
    assert [tuple(level.shape) for level in features] == [
        (1, width, 64 // stride, 96 // stride)
        for width, stride in zip(channels, (4, 8, 16, 32), strict=True)
    ]


@torch.inference_mode()
@pytest.mark.parametrize(
    ("dilated_stages", "strides"), [(1, (4, 8, 16, 16)), (2, (4, 8, 8, 8)), (3, (4, 4, 4, 4))]
)
def test_dilated_stages_keep_their_size(dilated_stages, strides):
    backbone = build_backbone("resnet50", dilated_stages=dilated_stages).eval()
    features = backbone(torch.zeros(1, 3, 32, 64))
    found = [tuple(level.shape[-2:]) for level in features]
    assert found == [(32 // stride, 64 // stride) for stride in strides]


@torch.inference_mode()
def test_where_a_resnet_halves_its_input_changes_its_cost_but_neither_weights_nor_sizes():
    plain, other = (build_backbone("resnet50", stride_in_1x1=moved).eval() for moved in (0, 1))
    other.load_state_dict(plain.state_dict())
    images = torch.randn(1, 3, 64, 64)
    for one, two in zip(plain(images)[1:], other(images)[1:], strict=True):
        assert one.shape == two.shape
        assert not torch.allclose(one, two)
    for stage in list(other.stages)[1:]:
        assert (stage[0].conv1.stride, stage[0].conv2.stride) == ((2, 2), (1, 1))


@pytest.mark.parametrize("changes", [{"stride_in_1x1": True}, {"dilated_stages": 1}])
@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "resnet18d"])
def test_a_backbone_without_bottlenecks_cannot_be_changed(name, changes):
    with pytest.raises(RecipeError, match=f"'{name}' has no bottlenecks"):
        build_backbone(name, **changes)


def test_features_of_a_network_without_padding_are_padded_to_the_strides(tmp_path):
    timm = pytest.importorskip("timm")
    name = "inception_resnet_v2"
    with torch.device("meta"):
        backbone = build_backbone(name).eval()
        images = torch.zeros(1, 3, 256, 192)
        unpadded = timm.create_model(name, features_only=True).eval()
    found = [tuple(level.shape[-2:]) for level in backbone(images)]
    assert found == [(64, 48), (32, 24), (16, 12), (8, 6)]
    assert tuple(unpadded(images)[1].shape[-2:]) == (60, 44)  # so the padding did something
    assert backbone.channels == (192, 320, 1088, 1536)
    assert set(unpadded.state_dict()) == {
        key.removeprefix("body.") for key in backbone.state_dict()
    }


@torch.inference_mode()
def test_a_resnets_last_features_are_torchvisions_own(tmp_path):
    torch.manual_seed(0)
    whole = torchvision.models.resnet18(weights=None).eval()
    save_file(whole.state_dict(), tmp_path / "imagenet.safetensors")
    backbone = build_backbone("resnet18", tmp_path / "imagenet.safetensors").eval()
    images = torch.randn(1, 3, 64, 64)
    pooled = backbone(images)[-1].mean(dim=(-2, -1))
    assert torch.allclose(whole.fc(pooled), whole(images), atol=1e-5)


def test_a_classifiers_weights_in_half_precision_are_taken_too(tmp_path):
    whole = torchvision.models.mobilenet_v2(weights=None).half()
    save_file(whole.state_dict(), tmp_path / "imagenet.safetensors")
    backbone = build_backbone("mobilenet_v2", tmp_path / "imagenet.safetensors")
    assert torch.equal(backbone.stages[0][0][0].weight, whole.features[0][0].weight.float())


def test_weights_of_another_network_are_refused(tmp_path):
    other = torchvision.models.mobilenet_v2(weights=None)
    save_file(other.state_dict(), tmp_path / "imagenet.safetensors")
    with pytest.raises(WeightsError, match=r"not of backbone 'resnet18': conv1.weight"):
        build_backbone("resnet18", tmp_path / "imagenet.safetensors")


@pytest.mark.parametrize("name", ["resnet9000", "no_such_network", ""])
def test_an_unknown_backbone_is_named(name):
    pytest.importorskip("timm")
    with pytest.raises(RecipeError, match=f"no backbone '{name}' in torchvision or timm"):
        build_backbone(name)


@pytest.mark.parametrize(
    "name", ["hf-hub:someone/resnet18", "hf_hub:someone/resnet18", "local-dir:/tmp", "../resnet18"]
)
def test_a_backbone_is_one_of_a_list_and_nothing_is_asked_for(name, monkeypatch):
    timm = pytest.importorskip("timm")
    monkeypatch.setattr(timm, "create_model", lambda *_, **__: pytest.fail("asked timm to make it"))
    with pytest.raises(RecipeError, match=f"no backbone '{name}' in torchvision or timm"):
        build_backbone(name)


def test_a_backbone_without_the_four_strides_is_refused():
    pytest.importorskip("timm")
    with pytest.raises(RecipeError, match=r"'test_vit' has strides|no backbone 'test_vit'"):
        build_backbone("test_vit")


def test_a_backbone_for_one_size_of_input_is_refused():
    pytest.importorskip("timm")
    with (
        torch.device("meta"),
        pytest.raises(RecipeError, match=r"'swin_tiny_patch4_window7_224' does not make features"),
    ):
        build_backbone("swin_tiny_patch4_window7_224")


def test_the_four_strides_are_found_wherever_they_stand_among_a_networks_features():
    pytest.importorskip("timm")
    with torch.device("meta"):  # its first feature, of stride 1, is left out by default
        features = build_backbone("dla34").eval()(torch.zeros(1, 3, 64, 96))
    assert [tuple(level.shape[-2:]) for level in features] == [(16, 24), (8, 12), (4, 6), (2, 3)]


def test_weights_of_a_classifier_of_timm_are_taken(tmp_path):
    timm = pytest.importorskip("timm")
    whole = timm.create_model("resnet18d", pretrained=False)
    save_file(whole.state_dict(), tmp_path / "imagenet.safetensors")
    backbone = build_backbone("resnet18d", tmp_path / "imagenet.safetensors")
    for key, value in backbone.body.state_dict().items():
        assert torch.equal(value, whole.state_dict()[key]), key


def test_without_timm_the_message_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(
        MissingDependencyError, match=r"'resnet18d'.*pip install 'posepipe\[timm\]'"
    ):
        build_backbone("resnet18d")
