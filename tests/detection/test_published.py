"""Recipes of published detectors, held against the libraries that publish them."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.models import get_model, get_model_weights
from torchvision.models._api import WeightsEnum
from torchvision.ops import FrozenBatchNorm2d

from posepipe.core.suppression import Suppression, suppress
from posepipe.detection.candidates import CandidatesTable, DetectorTable
from posepipe.detection.loading import load_detector
from posepipe.detection.native.detector import unused_keys
from posepipe.detection.native.network import build_network as build_native
from posepipe.detection.networks import NetworkTable, build_network
from posepipe.detection.torchvision import UNUSED_HEADS, Preprocessing
from posepipe.networks.native.tables import NOT_WEIGHTS
from posepipe.networks.native.tables import NetworkTable as NativeTable
from posepipe.networks.native.tables import PreprocessingTable as NativePreprocessing
from posepipe.zoo.recipe import Recipe, list_recipes, load_recipe
from posepipe.zoo.weights import fit_state

SMALLEST = "fasterrcnn-mobilenet-v3-large-320-fpn"
DETECTORS = [recipe for recipe in list_recipes("detection") if recipe.weights.urls]
OF_TORCHVISION = [r for r in DETECTORS if r.tables["detector"]["backend"] == "torchvision"]
OF_DETECTRON2 = [r for r in DETECTORS if r.tables["detector"]["backend"] == "detectron2_native"]


def each(recipes: list[Recipe]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("recipe", recipes, ids=lambda recipe: recipe.name)


def architecture(recipe: Recipe) -> str:
    return recipe.table("network", NetworkTable).architecture


@pytest.fixture
def torchvisions_own(monkeypatch: pytest.MonkeyPatch) -> Callable[..., nn.Module]:
    """Makes torchvision's own network as it is when its published weights are asked for.

    The weights are random ones, since there is no network here; all else that goes with them
    (frozen batch normalisation, its epsilon) is torchvision's.
    """

    def make(recipe: Recipe) -> nn.Module:
        with monkeypatch.context() as patch:
            patch.setattr(WeightsEnum, "get_state_dict", lambda *_, **__: {})
            patch.setattr(nn.Module, "load_state_dict", lambda *_, **__: None)
            return get_model(architecture(recipe), weights="COCO_V1", weights_backbone=None)

    return make


def test_all_published_detectors_that_we_know_are_there() -> None:
    assert {architecture(recipe) for recipe in OF_TORCHVISION} == {
        "fasterrcnn_mobilenet_v3_large_320_fpn",
        "fasterrcnn_mobilenet_v3_large_fpn",
        "fasterrcnn_resnet50_fpn",
        "fasterrcnn_resnet50_fpn_v2",
        "maskrcnn_resnet50_fpn",
        "maskrcnn_resnet50_fpn_v2",
    }
    assert len(OF_DETECTRON2) == 14


@each(OF_TORCHVISION)
def test_url_checksum_size_and_accuracy_are_torchvisions(recipe: Recipe) -> None:
    published = get_model_weights(architecture(recipe)).COCO_V1
    weights = recipe.weights
    assert weights.urls == (published.url,)
    assert PurePosixPath(published.url).stem.endswith(f"-{weights.sha256_prefix}")
    assert len(weights.sha256_prefix) == 8
    assert recipe.reported.box_ap == published.meta["_metrics"]["COCO-val2017"]["box_map"]
    assert recipe.reported.person_ap is None
    size = published.meta.get("_file_size")  # in 2^20 bytes; older torchvisions do not say
    assert size is None or weights.megabytes == round(size * 2**20 / 1e6)


@each(OF_TORCHVISION)
@pytest.mark.filterwarnings("ignore:for .*copying from a non-meta parameter")
def test_network_and_preprocessing_are_torchvisions(recipe: Recipe, torchvisions_own) -> None:
    with torch.device("meta"):
        theirs, ours = (
            torchvisions_own(recipe),
            build_network(recipe.table("network", NetworkTable)),
        )
    # Numbers that take no memory, since weights have to be finite.
    state = {
        key: torch.zeros((), dtype=value.dtype).expand(value.shape)
        for key, value in theirs.state_dict().items()
    }
    fit_state(ours, state, Path("w.pth"), ignored=UNUSED_HEADS)  # every key fits
    eps = {m.eps for m in theirs.modules() if isinstance(m, FrozenBatchNorm2d | nn.BatchNorm2d)}
    own = recipe.table("detector", DetectorTable).batch_norm_eps
    assert eps == {1e-5 if own is None else own}
    settings = recipe.table("preprocessing", Preprocessing)
    assert theirs.transform.min_size == (settings.short_side,)
    assert theirs.transform.max_size == settings.long_side
    assert theirs.transform.image_mean == list(settings.mean)
    assert theirs.transform.image_std == list(settings.std)
    assert recipe.table("candidates", CandidatesTable).min_score == theirs.roi_heads.score_thresh
    assert theirs.rpn.score_thresh == ours.rpn.score_thresh


def test_a_published_file_gives_torchvisions_own_boxes(
    torchvisions_own, an_image, tmp_path: Path
) -> None:
    recipe = load_recipe(SMALLEST)
    torch.manual_seed(3)
    theirs = torchvisions_own(recipe).eval().to(memory_format=torch.channels_last)
    with torch.no_grad():  # random weights alone give equal scores everywhere
        theirs.rpn.head.cls_logits.weight.mul_(200)
        theirs.roi_heads.box_predictor.cls_score.weight.mul_(200)
        theirs.roi_heads.box_predictor.bbox_pred.weight.mul_(20)
    torch.save(theirs.state_dict(), tmp_path / "w.pth")
    detector = load_detector(recipe, weights=tmp_path / "w.pth", device="cpu", precision="fp32")
    image = an_image(320, 320)
    with torch.inference_mode():
        own = theirs([torch.from_numpy(image).permute(2, 0, 1).float() / 255])[0]
    [found] = detector([detector.prepare(image)])
    hard = Suppression(method="hard", threshold=0.5, min_score=0.0)
    picks = suppress(found.boxes_xyxy, found.scores, found.classes, hard)
    assert len(picks) > 10
    np.testing.assert_allclose(found.boxes_xyxy[picks.indices], own["boxes"], atol=1e-3)
    np.testing.assert_allclose(picks.scores, own["scores"], atol=1e-5)
    np.testing.assert_array_equal(found.classes[picks.indices], own["labels"])


@each(OF_DETECTRON2)
def test_a_detectron2_recipe_names_one_model_throughout(recipe: Recipe) -> None:
    config = detectron2_config(recipe)
    assert recipe.name == "detectron2-" + PurePosixPath(config).stem.lower().replace("_", "-")
    (url,) = recipe.weights.urls
    assert url.endswith(f"/model_final_{recipe.weights.md5_prefix}.pkl")
    assert len(recipe.weights.md5_prefix) == 6
    table = recipe.table("network", NativeTable)
    kind = PurePosixPath(config).stem.split("_")[0]
    assert table.architecture.startswith({"mask": "faster", "keypoint": "faster"}.get(kind, kind))
    heads = [head for head in ("mask", "keypoint") if f"{head}_rcnn" in config]
    assert table.unused_head == "".join(heads)


def detectron2_config(recipe: Recipe) -> str:
    """The name of a recipe's configuration in detectron2's model zoo, as its URL has it."""
    (url,) = recipe.weights.urls
    return "/".join(url.split("/")[4:6]) + ".yaml"


@each(OF_DETECTRON2)
@pytest.mark.detectron2
@pytest.mark.skipif(
    importlib.util.find_spec("detectron2") is None, reason="detectron2 is not installed"
)
@pytest.mark.filterwarnings("ignore")
def test_config_keys_and_url_are_detectron2s(recipe: Recipe) -> None:
    from detectron2 import model_zoo
    from detectron2.config import get_cfg
    from detectron2.modeling import build_model

    config = detectron2_config(recipe)
    assert recipe.weights.urls == (model_zoo.get_checkpoint_url(config),)
    node = get_cfg()
    node.merge_from_file(model_zoo.get_config_file(config), allow_unsafe=True)
    node.MODEL.DEVICE = "cpu"
    theirs = build_model(node)
    with torch.device("meta"):
        ours = build_native(recipe.table("network", NativeTable))
    unused = unused_keys(recipe.table("network", NativeTable))
    wanted = {
        key: value.shape
        for key, value in theirs.state_dict().items()
        if not key.startswith((*NOT_WEIGHTS, *unused))
    }
    own = {k: v.shape for k, v in ours.state_dict().items() if not k.endswith("tracked")}
    assert own == wanted
    settings = recipe.table("preprocessing", NativePreprocessing)
    assert settings.colour_order.upper() == node.INPUT.FORMAT
    assert settings.mean == tuple(node.MODEL.PIXEL_MEAN)
    assert settings.std == tuple(node.MODEL.PIXEL_STD)
    assert settings.short_side == node.INPUT.MIN_SIZE_TEST
    assert settings.long_side == node.INPUT.MAX_SIZE_TEST
    assert recipe.table("network", NativeTable).stride_in_1x1 == node.MODEL.RESNETS.STRIDE_IN_1X1
