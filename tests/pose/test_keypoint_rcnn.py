"""Keypoint R-CNN as a pose model, against torchvision's own run of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from posepipe.core.boxes import Detections
from posepipe.core.skeleton import COCO_PERSON
from posepipe.errors import OptionError, RecipeError, WeightsError
from posepipe.io.images import ImageFile
from posepipe.pose.keypoint_rcnn import (
    KeypointRCNN,
    KeypointRCNNStage,
    build_keypoint_rcnn,
)
from posepipe.pose.loading import load_pose_stage
from posepipe.pose.model import build_pose_network
from posepipe.pose.networks.keypoint_rcnn import KeypointRCNNTable
from posepipe.zoo.recipe import load_recipe

NAME = "keypointrcnn-resnet50-fpn"


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    """torchvision's, with random weights, for pictures of 200 pixels."""
    torch.manual_seed(1)
    made = build_keypoint_rcnn(KeypointRCNNTable(backend="torchvision"), 17).eval()
    made.transform.min_size, made.transform.max_size = (160,), 256
    made.roi_heads.detections_per_img = 6
    made.roi_heads.score_thresh = 0.0
    with torch.no_grad():  # random weights alone find the same everywhere
        made.roi_heads.box_predictor.bbox_pred.weight.mul_(20)
        made.roi_heads.keypoint_predictor.kps_score_lowres.weight.mul_(20)
    return made


def item(image: np.ndarray) -> ImageFile:
    return ImageFile(7, Path("a.png"), "a.png", pixels=image)


def noise(height: int, width: int) -> np.ndarray:
    random = np.random.default_rng(0)
    cells = random.integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8)
    return np.repeat(np.repeat(cells, 8, axis=0), 8, axis=1)[:height, :width].copy()


def test_in_its_own_boxes_the_keypoints_are_torchvisions_own(network) -> None:
    # Half as large in the network: a box comes back as it was, to the last bit. (The heatmap is
    # stretched to the box's sides, rounded up: the last bit may make a pixel of difference there.)
    image = noise(320, 420)
    with torch.inference_mode():
        [own] = network([torch.from_numpy(image).permute(2, 0, 1).float() / 255])
    assert len(own["boxes"]) == 6
    stage = KeypointRCNNStage(KeypointRCNN("a", network, COCO_PERSON, torch.device("cpu")))
    boxes = Detections(7, own["boxes"].numpy(), own["scores"].numpy())
    [poses, nobody] = stage(
        [stage.prepare((item(image), boxes)), stage.prepare((item(image), Detections.none(7)))]
    )
    np.testing.assert_allclose(poses.keypoints[..., :2], own["keypoints"][..., :2], atol=1e-3)
    assert poses.keypoints[..., 2].min() > 0
    assert poses.keypoints[..., 2].max() <= 1
    assert len(set(poses.keypoints[:, 0, 0].tolist())) > 1
    np.testing.assert_array_equal(poses.scores, boxes.scores.astype(np.float64))
    assert nobody.keypoints.shape == (0, 17, 3)


def test_a_sharper_heatmap_is_a_surer_keypoint(network) -> None:
    stage = KeypointRCNNStage(KeypointRCNN("a", network, COCO_PERSON, torch.device("cpu")))
    boxes = Detections(7, np.array([[20.0, 10, 90, 140]], np.float32), np.ones(1, np.float32))
    found = []
    for factor in (1.0, 4.0):
        with torch.no_grad():
            network.roi_heads.keypoint_predictor.kps_score_lowres.weight.mul_(factor)
        [poses] = stage([stage.prepare((item(noise(150, 211)), boxes))])
        found.append(poses.keypoints[0, :, 2].mean())
    assert found[0] < found[1]


def test_a_file_gives_the_stage_and_another_networks_does_not(tmp_path: Path) -> None:
    made = build_keypoint_rcnn(KeypointRCNNTable(backend="torchvision"), 17)
    state = made.state_dict()
    torch.save(state, tmp_path / "w.pth")
    stage = load_pose_stage([NAME], weights=tmp_path / "w.pth", device="cpu", precision="fp32")
    assert [model.name for model in stage.models] == [NAME]
    assert stage.skeleton.name == COCO_PERSON.name
    del state["roi_heads.keypoint_predictor.kps_score_lowres.weight"]
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=r"it has no 'roi_heads\.keypoint_predictor"):
        load_pose_stage([NAME], weights=tmp_path / "w.pth", device="cpu")


def test_what_it_cannot_do_is_refused() -> None:
    with pytest.raises(OptionError, match="looks at whole pictures"):
        load_pose_stage([NAME, "cpn-litehrnet-256x192"], device="cpu")
    with pytest.raises(OptionError, match="the head 'global' is a CPN's"):
        load_pose_stage([NAME], device="cpu", head="global")
    with pytest.raises(RecipeError, match="cannot use mirror images"):
        load_pose_stage([NAME], device="cpu", changes=["decoding.flip=true"])
    with pytest.raises(RecipeError, match="cannot be trained"):
        build_pose_network(load_recipe(NAME))


def test_the_recipe_says_what_torchvision_says() -> None:
    from torchvision.models.detection import KeypointRCNN_ResNet50_FPN_Weights

    published = KeypointRCNN_ResNet50_FPN_Weights.COCO_V1
    recipe = load_recipe(NAME)
    assert recipe.weights.urls == (published.url,)
    assert published.url.endswith(f"-{recipe.weights.sha256_prefix}.pth")
    assert recipe.reported.keypoint_ap == published.meta["_metrics"]["COCO-val2017"]["kp_map"]
    size = published.meta["_file_size"]  # in 2^20 bytes
    assert recipe.weights.megabytes == round(size * 2**20 / 1e6)
    assert recipe.table("network", KeypointRCNNTable).batch_norm_eps == 0.0
