"""The adapter against a real detectron2, with random weights; skipped where there is none."""

from __future__ import annotations

import importlib.util
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from posepipe.core.suppression import Suppression, suppress
from posepipe.detection.candidates import CandidatesTable, DetectorTable
from posepipe.detection.categories import COCO_CATEGORY_IDS
from posepipe.detection.loading import load_detector
from posepipe.errors import MissingDependencyError, OptionError, RecipeError, WeightsError
from posepipe.zoo.recipe import Recipe

HAVE_DETECTRON2 = importlib.util.find_spec("detectron2") is not None

pytestmark = pytest.mark.filterwarnings("ignore")  # detectron2's own, on import
real = [
    pytest.mark.detectron2,
    pytest.mark.skipif(not HAVE_DETECTRON2, reason="detectron2 is not installed"),
]

MIN_SCORE = 0.02
CONFIGS = {
    "faster": "COCO-Detection/faster_rcnn_R_50_FPN_3x.yaml",
    "mask": "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x.yaml",
    "cascade": "Misc/cascade_mask_rcnn_R_50_FPN_3x.yaml",
    "c4": "COCO-Detection/faster_rcnn_R_50_C4_3x.yaml",
}
SMALLER = """
_BASE_: "{base}"
INPUT:
  MIN_SIZE_TEST: 128
  MAX_SIZE_TEST: 200
MODEL:
  WEIGHTS: ""
  DEVICE: cpu
  RESNETS:
    DEPTH: 18
    RES2_OUT_CHANNELS: 64
  FPN:
    OUT_CHANNELS: 32
  RPN:
    POST_NMS_TOPK_TEST: 100
  ROI_BOX_HEAD:
    FC_DIM: 64
  ROI_HEADS:
    SCORE_THRESH_TEST: {min_score}
"""


def own_predictor(name: str, folder: Path):
    """detectron2's own predictor with random weights, its configuration and weights as files."""
    from detectron2 import model_zoo
    from detectron2.config import get_cfg
    from detectron2.engine import DefaultPredictor

    file = folder / "small.yaml"
    base = model_zoo.get_config_file(CONFIGS[name])
    file.write_text(SMALLER.format(base=base, min_score=MIN_SCORE))
    config = get_cfg()
    config.merge_from_file(str(file))
    torch.manual_seed(0)
    predictor = DefaultPredictor(config)
    _make_lively(predictor)
    arrays = {key: tensor.numpy() for key, tensor in predictor.model.state_dict().items()}
    weights = folder / "weights.pkl"
    weights.write_bytes(pickle.dumps({"model": arrays, "__author__": "a test"}))
    return predictor, file, weights


def _make_lively(predictor) -> None:
    """Scale the last layers so that scores and boxes differ; random ones alone hardly do."""

    def scaled_to(deviation: float):
        def scale(layer: torch.nn.Linear, _, output: torch.Tensor) -> torch.Tensor:
            factor = deviation / output.std()
            layer.weight.mul_(factor)
            return output * factor  # the biases are 0

        return scale

    hooks = []
    for key, layer in predictor.model.roi_heads.named_modules():
        if key.endswith(("cls_score", "bbox_pred")):
            hook = scaled_to(2.0 if key.endswith("cls_score") else 1.0)
            hooks.append(layer.register_forward_hook(hook))
    noise = np.random.default_rng(0).integers(0, 256, (150, 200, 3), dtype=np.uint8)
    predictor(noise)
    for hook in hooks:
        hook.remove()


def small_recipe(config: Path | str, folder: Path, **detector: object) -> Recipe:
    table = {"backend": "detectron2", "config": str(config), **detector}
    tables = {
        "model": {"stage": "detection", "summary": "a test"},
        "detector": table,
        "candidates": {"min_score": MIN_SCORE},
    }
    return Recipe(name="small", folder=folder, tables=tables)


@pytest.mark.parametrize("name", CONFIGS)
class TestAgainstTheRealOne:
    pytestmark = real

    def test_hard_nms_at_its_own_threshold_gives_its_own_boxes(
        self, name: str, tmp_path: Path, an_image
    ) -> None:
        predictor, config, weights = own_predictor(name, tmp_path)
        detector = load_detector(
            small_recipe(config, tmp_path), weights=weights, device="cpu", precision="fp32"
        )
        settings = predictor.cfg.MODEL.ROI_HEADS
        rule = Suppression(
            method="hard",
            threshold=settings.NMS_THRESH_TEST,
            min_score=0.0,
            top_k=predictor.cfg.TEST.DETECTIONS_PER_IMAGE,
        )
        for size in ((200, 150), (90, 120)):
            image = an_image(*size)
            own = predictor(image[:, :, ::-1])["instances"]
            [candidates] = detector([detector.prepare(image)])
            picks = suppress(candidates.boxes_xyxy, candidates.scores, candidates.classes, rule)
            assert 20 <= len(own) < len(candidates)
            own_classes = np.array(COCO_CATEGORY_IDS)[own.pred_classes]
            assert len(set(own_classes.tolist())) > 1
            boxes = candidates.boxes_xyxy[picks.indices]
            np.testing.assert_array_equal(boxes, own.pred_boxes.tensor)
            np.testing.assert_array_equal(picks.scores, own.scores)
            np.testing.assert_array_equal(candidates.classes[picks.indices], own_classes)

    def test_a_batch_of_one_and_a_batch_of_many_give_the_same_boxes(
        self, name: str, tmp_path: Path, an_image
    ) -> None:
        _, config, weights = own_predictor(name, tmp_path)
        detector = load_detector(
            small_recipe(config, tmp_path), weights=weights, device="cpu", precision="fp32"
        )
        sizes = [(200, 150), (90, 120), (200, 150)]
        ready = [detector.prepare(an_image(*size, seed)) for seed, size in enumerate(sizes)]
        for together, one in zip(detector(ready), ready, strict=True):
            [alone] = detector([one])
            assert len(alone) > 20
            assert abs(len(together) - len(alone)) <= 2  # some scores lie at the lowest
            count = 20
            np.testing.assert_allclose(together.scores[:count], alone.scores[:count], atol=1e-4)


class TestPrecision:
    pytestmark = real

    @pytest.mark.parametrize("name", ["faster", "cascade"])
    def test_bf16_changes_scores_little(self, name: str, tmp_path: Path, an_image) -> None:
        _, config, weights = own_predictor(name, tmp_path)
        recipe = small_recipe(config, tmp_path)
        strongest = []
        for precision in ("fp32", "bf16"):
            detector = load_detector(recipe, weights=weights, device="cpu", precision=precision)
            [candidates] = detector([detector.prepare(an_image(200, 150))])
            strongest.append(candidates.scores[:20])
        np.testing.assert_allclose(*strongest, rtol=0.25)
        assert not np.array_equal(*strongest)


class TestRefusals:
    pytestmark = real

    def test_weights_of_another_network_are_refused_by_their_first_key(
        self, tmp_path: Path
    ) -> None:
        weights = tmp_path / "weights.pkl"
        weights.write_bytes(pickle.dumps({"model": {"stem.weight": np.zeros(3)}}))
        with pytest.raises(WeightsError, match="another network: it has no 'backbone"):
            load_detector(small_recipe(CONFIGS["faster"], tmp_path), weights=weights)

    def test_a_mask_rcnns_configuration_wants_a_mask_rcnns_weights(self, tmp_path: Path) -> None:
        _, _, of_faster = own_predictor("faster", tmp_path)
        weights = of_faster.rename(tmp_path / "faster.pkl")
        _, config, _ = own_predictor("mask", tmp_path)
        with pytest.raises(WeightsError, match=r"it has no 'roi_heads\.mask_head"):
            load_detector(small_recipe(config, tmp_path), weights=weights, device="cpu")

    def test_absent_weights_are_asked_for_by_their_address(self, tmp_path: Path) -> None:
        with pytest.raises(WeightsError, match="faster_rcnn_R_50_FPN_3x/137849458"):
            load_detector(small_recipe(CONFIGS["faster"], tmp_path))

    @pytest.mark.parametrize(
        ("config", "says"),
        [
            ("", "needs a configuration"),
            ("no/such.yaml", "no configuration 'no/such.yaml'"),
            ("COCO-Detection/rpn_R_50_FPN_1x.yaml", "only Faster, Mask and Cascade"),
            (
                "COCO-Detection/retinanet_R_50_FPN_3x.yaml",
                "contains Python code.*model detectron2-retinanet-r-50-fpn-3x is the same network",
            ),
        ],
    )
    def test_a_configuration_that_cannot_run_is_refused(
        self, config: str, says: str, tmp_path: Path
    ) -> None:
        with pytest.raises(RecipeError, match=says):
            load_detector(small_recipe(config, tmp_path), weights=tmp_path / "w.pkl")

    def test_a_configuration_cannot_run_code(self, tmp_path: Path) -> None:
        (tmp_path / "bad.yaml").write_text("OUTPUT_DIR: !!python/object/apply:os.getcwd []\n")
        with pytest.raises(RecipeError, match="contains Python code"):
            load_detector(small_recipe("bad.yaml", tmp_path), weights=tmp_path / "w.pkl")

    def test_other_classes_than_cocos_need_their_category_ids(self, tmp_path: Path) -> None:
        from detectron2 import model_zoo

        base = model_zoo.get_config_file(CONFIGS["faster"])
        text = f'_BASE_: "{base}"\nMODEL:\n  ROI_HEADS:\n    NUM_CLASSES: 3\n'
        (tmp_path / "three.yaml").write_text(text)
        with pytest.raises(RecipeError, match="3 classes, 0 have category ids"):
            load_detector(small_recipe("three.yaml", tmp_path), weights=tmp_path / "w.pkl")
        named = small_recipe("three.yaml", tmp_path, category_ids=[7, 1, 9])
        with pytest.raises(WeightsError, match=r"no weights file .*w\.pkl"):
            load_detector(named, weights=tmp_path / "w.pkl")


def test_without_detectron2_one_line_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "detectron2"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "detectron2", None)
    weights = tmp_path / "weights.pkl"
    weights.write_bytes(b"")
    with pytest.raises(MissingDependencyError, match="pip install") as caught:
        load_detector("detectron2", config=CONFIGS["faster"], weights=weights)
    assert len(str(caught.value).splitlines()) == 1
    assert "setuptools>=77,<81" in str(caught.value)
    assert "model detectron2-faster-rcnn-r-50-fpn-3x is the same network" in str(caught.value)


@pytest.mark.parametrize(
    ("missing", "remedy"),
    [("fvcore", "pip install 'fvcore'"), ("pkg_resources", "pip install 'setuptools>=77,<81'")],
)
def test_what_detectron2_lacks_is_named(missing, remedy, tmp_path, monkeypatch) -> None:
    package = tmp_path / "detectron2"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "model_zoo.py").write_text(f"import {missing}\n")
    for name in [name for name in sys.modules if name.split(".")[0] == "detectron2"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(sys.modules, missing, None)
    weights = tmp_path / "weights.pkl"
    weights.write_bytes(b"")
    with pytest.raises(MissingDependencyError, match="cannot be imported") as caught:
        load_detector("detectron2", config="mine.yaml", weights=weights)
    assert remedy in str(caught.value)
    assert "is the same network" not in str(caught.value)
    for name in [name for name in sys.modules if name.split(".")[0] == "detectron2"]:
        monkeypatch.delitem(sys.modules, name)


@pytest.mark.parametrize(
    ("model", "options", "says"),
    [
        ("detectron2", {"weights": "w.pkl"}, "needs --config"),
        ("detectron2", {"config": CONFIGS["faster"]}, "needs --weights"),
        ("fasterrcnn-resnet50-fpn", {"config": CONFIGS["faster"]}, "belongs to --model detectron2"),
    ],
)
def test_config_and_weights_go_with_the_model_detectron2(model, options, says) -> None:
    with pytest.raises(OptionError, match=says):
        load_detector(model, **options)


def test_the_common_class_numbers_are_cocos_80_category_ids() -> None:
    assert len(COCO_CATEGORY_IDS) == 80
    assert COCO_CATEGORY_IDS[0] == 1
    assert COCO_CATEGORY_IDS[-1] == 90
    assert DetectorTable().backend == "torchvision"
    assert CandidatesTable().min_score == 0.05
