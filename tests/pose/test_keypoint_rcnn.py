"""Keypoint R-CNNs as pose models, against torchvision's and detectron2's own runs of them."""

from __future__ import annotations

import importlib.util
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2_cases import (
    IMAGES,
    KEYPOINT_ANSWERS,
    KEYPOINTS,
    PREPROCESSING,
    boxes_in,
    fill,
    real_keypoints,
)
from safetensors.numpy import load_file

from posepipe.core.boxes import Detections
from posepipe.core.skeleton import COCO_PERSON
from posepipe.errors import OptionError, RecipeError, WeightsError
from posepipe.io.images import ImageFile
from posepipe.pose.keypoint_rcnn import KeypointRCNN, KeypointRCNNStage
from posepipe.pose.loading import load_pose_stage
from posepipe.pose.model import build_pose_network
from posepipe.pose.networks.keypoint_heads import (
    KeypointNetwork,
    TorchvisionKeypoints,
    build_native,
    build_torchvision,
)
from posepipe.pose.networks.keypoint_rcnn import KeypointRCNNTable
from posepipe.zoo.recipe import list_recipes, load_recipe

NAME = "keypointrcnn-resnet50-fpn"
OF_DETECTRON2 = "detectron2-keypoint-rcnn-r-50-fpn-3x-pose"


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    """torchvision's, with random weights, for images of 200 pixels."""
    torch.manual_seed(1)
    made = build_torchvision(KeypointRCNNTable(backend="torchvision"), 17).network.eval()
    made.transform.min_size, made.transform.max_size = (160,), 256
    made.roi_heads.detections_per_img = 6
    made.roi_heads.score_thresh = 0.0
    with torch.no_grad():  # random weights alone find the same everywhere
        made.roi_heads.box_predictor.bbox_pred.weight.mul_(20)
        made.roi_heads.keypoint_predictor.kps_score_lowres.weight.mul_(20)
    return made


def stage_of(keypoints: KeypointNetwork) -> KeypointRCNNStage:
    return KeypointRCNNStage(KeypointRCNN("a", keypoints, COCO_PERSON, torch.device("cpu")))


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
    stage = stage_of(TorchvisionKeypoints(network))
    boxes = Detections(7, own["boxes"].numpy(), own["scores"].numpy())
    [poses, nobody] = stage(
        [stage.prepare((item(image), boxes)), stage.prepare((item(image), Detections.none(7)))]
    )
    apart = np.abs(poses.keypoints[..., :2] - own["keypoints"][..., :2].numpy()).max(axis=-1)
    # Of noise, two cells may be equally high but for the last bit, which folded norms change.
    assert (apart > 1e-3).sum() <= 1, apart
    assert poses.keypoints[..., 2].min() > 0
    assert poses.keypoints[..., 2].max() <= 1
    assert len(set(poses.keypoints[:, 0, 0].tolist())) > 1
    np.testing.assert_array_equal(poses.scores, boxes.scores.astype(np.float64))
    assert nobody.keypoints.shape == (0, 17, 3)


def test_a_sharper_heatmap_is_a_surer_keypoint(network) -> None:
    stage = stage_of(TorchvisionKeypoints(network))
    boxes = Detections(7, np.array([[20.0, 10, 90, 140]], np.float32), np.ones(1, np.float32))
    found = []
    for factor in (1.0, 4.0):
        with torch.no_grad():
            network.roi_heads.keypoint_predictor.kps_score_lowres.weight.mul_(factor)
        [poses] = stage([stage.prepare((item(noise(150, 211)), boxes))])
        found.append(poses.keypoints[0, :, 2].mean())
    assert found[0] < found[1]


@pytest.mark.slow
def test_a_file_gives_the_stage_and_another_networks_does_not(tmp_path: Path) -> None:
    made = build_torchvision(KeypointRCNNTable(backend="torchvision"), 17)
    state = made.network.state_dict()
    torch.save(state, tmp_path / "w.pth")
    stage = load_pose_stage([NAME], weights=tmp_path / "w.pth", device="cpu", precision="fp32")
    assert [model.name for model in stage.models] == [NAME]
    assert stage.skeleton.name == COCO_PERSON.name
    del state["roi_heads.keypoint_predictor.kps_score_lowres.weight"]
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=r"it has no 'roi_heads\.keypoint_predictor"):
        load_pose_stage([NAME], weights=tmp_path / "w.pth", device="cpu")


def test_its_detector_is_no_pose_model_but_names_the_one_that_is() -> None:
    with pytest.raises(RecipeError, match=f"not for poses: model {OF_DETECTRON2} is its keypoint"):
        load_pose_stage([OF_DETECTRON2.removesuffix("-pose")], device="cpu")


def test_what_it_cannot_do_is_refused() -> None:
    with pytest.raises(OptionError, match="looks at whole images"):
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


def test_boxes_that_leave_the_image_count_as_far_as_it_reaches(network) -> None:
    stage = stage_of(TorchvisionKeypoints(network))
    # The second one would ask for a heatmap of terabytes; the third lies beside the image.
    given = [[0, 0, 211, 150], [-1e6, -1e6, 1e6, 1e6], [500, 20, 600, 90]]
    boxes = Detections(7, np.array(given, np.float32), np.ones(3, np.float32))
    [poses] = stage([stage.prepare((item(noise(150, 211)), boxes))])
    np.testing.assert_array_equal(poses.keypoints[0], poses.keypoints[1])
    assert np.isfinite(poses.keypoints).all()
    np.testing.assert_array_equal(poses.boxes_xyxy, boxes.boxes_xyxy)


def small_native() -> tuple[KeypointRCNNStage, dict[str, torch.Tensor]]:
    keypoints = build_native(KEYPOINTS, PREPROCESSING, 17)
    state = fill(keypoints.network)
    return stage_of(keypoints), state


def native_keypoints(stage: KeypointRCNNStage) -> list[np.ndarray]:
    found = []
    for seed, image in enumerate(IMAGES):
        boxes = Detections(7, boxes_in(seed, image.shape[:2]), np.ones(12, np.float32))
        found += [poses.keypoints for poses in stage([stage.prepare((item(image), boxes))])]
    return found


def share_moved(found: list[np.ndarray], expected: list[np.ndarray]) -> float:
    """How many keypoints are elsewhere; a tie of two cells may be decided otherwise."""
    moved = np.concatenate(found)[..., :2] - np.concatenate(expected)
    return float((np.abs(moved).max(axis=-1) > 0.01).mean())


def test_in_the_same_boxes_the_keypoints_are_detectron2s() -> None:
    stage, _ = small_native()
    answers = load_file(KEYPOINT_ANSWERS)
    expected = [answers[str(place)] for place in range(len(IMAGES))]
    found = native_keypoints(stage)
    assert np.ptp(expected[0][..., 0], axis=0).min() > 30  # they lie here and there
    assert share_moved(found, expected) < 0.02
    confidences = np.concatenate(found)[..., 2]
    assert 0 < confidences.min() < confidences.max() <= 1


@pytest.mark.detectron2
@pytest.mark.skipif(
    importlib.util.find_spec("detectron2") is None, reason="detectron2 is not installed"
)
@pytest.mark.filterwarnings("ignore")
def test_the_real_one_still_finds_the_same_keypoints() -> None:
    stage, state = small_native()
    real = real_keypoints(state)
    np.testing.assert_allclose(
        np.concatenate(native_keypoints(stage))[..., :2], np.concatenate(real), atol=1e-3
    )
    answers = load_file(KEYPOINT_ANSWERS)
    assert share_moved(real, [answers[str(place)] for place in range(len(IMAGES))]) < 0.02


def test_many_boxes_have_the_keypoints_that_few_have() -> None:
    stage, _ = small_native()
    few = boxes_in(0, IMAGES[0].shape[:2])
    many = Detections(7, np.tile(few, (10, 1)), np.ones(120, np.float32))
    [poses] = stage([stage.prepare((item(IMAGES[0]), many))])
    each = poses.keypoints[..., :2].reshape(10, 12, 17, 2)
    assert share_moved(list(each), [each[0]] * 10) < 0.02


def test_a_file_of_detectron2s_zoo_gives_the_stage(tmp_path: Path) -> None:
    _, state = small_native()
    changes = [
        f"network.{name}={getattr(KEYPOINTS, name)}"
        for name in ("backbone_channels", "width_per_group", "channels", "keypoint_channels")
    ]
    arrays = {name: value.numpy() for name, value in state.items()}
    arrays["roi_heads.box_predictor.cls_score.bias"] = np.zeros(2, np.float32)
    arrays["pixel_mean"] = np.zeros((3, 1, 1), np.float32)
    path = tmp_path / "model_final_a6e10b.pkl"

    def load() -> str:
        path.write_bytes(pickle.dumps({"model": arrays, "__author__": "a test"}))
        stage = load_pose_stage([OF_DETECTRON2], weights=path, device="cpu", changes=changes)
        return stage.skeleton.name

    assert load() == COCO_PERSON.name
    arrays["roi_heads.mask_head.deconv.weight"] = np.zeros(1, np.float32)
    with pytest.raises(WeightsError, match=r"'roi_heads\.mask_head\.deconv\.weight' is unknown"):
        load()
    del arrays["roi_heads.mask_head.deconv.weight"]
    del arrays["roi_heads.keypoint_head.conv_fcn1.weight"]
    with pytest.raises(WeightsError, match=r"it has no 'roi_heads\.keypoint_head\.conv_fcn1"):
        load()


def test_each_keypoint_head_of_detectron2_has_its_detectors_weights_and_settings() -> None:
    heads = [recipe for recipe in list_recipes("pose") if recipe.name.startswith("detectron2-")]
    assert len(heads) == 3
    for recipe in heads:
        detector = load_recipe(recipe.name.removesuffix("-pose"))
        assert recipe.weights == detector.weights
        ours = recipe.table("network", type(KEYPOINTS))
        theirs = detector.tables["network"]
        for name in ("depth", "groups", "width_per_group", "stride_in_1x1"):
            assert getattr(ours, name) == theirs[name]
        pixels = [one.table("preprocessing", type(PREPROCESSING)) for one in (recipe, detector)]
        assert pixels[0] == pixels[1]
