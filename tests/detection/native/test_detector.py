"""Native networks as detectors: weights, batches, precision, nothing found."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2_cases import CASES, IMAGES, fill

from posepipe.detection.candidates import Origin
from posepipe.detection.loading import load_detector
from posepipe.detection.native.detector import NativeDetector
from posepipe.detection.native.network import build_network
from posepipe.errors import RecipeError, WeightsError
from posepipe.zoo.recipe import Recipe

TABLE = CASES["faster"].table
MASK_KEY = "roi_heads.mask_head.deconv.weight"


@pytest.fixture
def recipe(tmp_path: Path) -> Callable[..., Recipe]:
    """Makes the recipe of the small Faster R-CNN, with other fields of ``[network]``."""

    def make(**network: object) -> Recipe:
        fields = {name: getattr(TABLE, name) for name in TABLE.__struct_fields__}
        tables = {
            "model": {"stage": "detection", "summary": "a test"},
            "detector": {"backend": "detectron2_native", "category_ids": [1, 7, 44, 2, 90]},
            "network": {**fields, **network},
            "preprocessing": {"short_side": 96, "long_side": 160},
            "candidates": {"min_score": 0.35},
        }
        return Recipe("small", tmp_path, tables)

    return make


@pytest.fixture
def zoo_file(tmp_path: Path) -> Callable[..., Path]:
    """Writes the small network's weights as detectron2's model zoo does, with further arrays."""

    def write(**further: np.ndarray) -> Path:
        arrays = {name: value.numpy() for name, value in fill(build_network(TABLE)).items()}
        content = {"model": {**arrays, **further}, "__author__": "a test"}
        path = tmp_path / "weights.pkl"
        path.write_bytes(pickle.dumps(content, protocol=2))
        return path

    return write


def test_a_file_of_detectron2s_zoo_is_read_with_what_older_ones_carry(recipe, zoo_file) -> None:
    anchors = "proposal_generator.anchor_generator.cell_anchors.0"
    weights = zoo_file(**{"pixel_mean": np.zeros((3, 1, 1)), anchors: np.zeros((3, 4))})
    detector = load_detector(recipe(), weights=weights, device="cpu", precision="fp32")
    [found] = detector([detector.prepare(IMAGES[0])])
    assert len(found) > 100
    assert set(found.classes.tolist()) <= {1, 7, 44, 2, 90}
    assert len(set(found.classes.tolist())) > 1


@pytest.mark.parametrize(
    ("unused", "further", "says"),
    [
        ("mask", {}, "it has no 'roi_heads.mask_head.*', the head of a Mask R-CNN"),
        ("keypoint", {MASK_KEY: np.zeros(1)}, "the head of a Keypoint R-CNN"),
        ("", {MASK_KEY: np.zeros(1)}, f"'{MASK_KEY}' is unknown to it"),
        ("", {"stem.fc.weight": np.zeros(1)}, "'stem.fc.weight' is unknown to it"),
    ],
)
def test_weights_of_another_network_are_refused(recipe, zoo_file, unused, further, says) -> None:
    with pytest.raises(WeightsError, match=says):
        load_detector(recipe(unused_head=unused), weights=zoo_file(**further), device="cpu")


def test_weights_with_the_head_that_is_not_run_fit(recipe, zoo_file) -> None:
    weights = zoo_file(**{MASK_KEY: np.zeros(1)})
    assert load_detector(recipe(unused_head="mask"), weights=weights, device="cpu")


@pytest.mark.parametrize(
    ("network", "says"),
    [
        ({"architecture": "cascade_rcnn", "features": "c4"}, "needs features = 'fpn'"),
        ({"classes": 3}, "3 classes, 5 have category ids"),
        ({"depth": 18}, "depth"),
    ],
)
def test_a_recipe_that_says_something_impossible_is_refused(recipe, zoo_file, network, says):
    weights = zoo_file()
    with pytest.raises((RecipeError, WeightsError), match=says):
        load_detector(recipe(**network), weights=weights, device="cpu")


def small(name: str, dtype: torch.dtype = torch.float32) -> NativeDetector:
    case = CASES[name]
    network = build_network(case.table)
    fill(network)
    return NativeDetector(
        network,
        origin=Origin("", "", ""),
        category_ids=range(case.table.classes),
        min_score=case.min_score,
        dtype=dtype,
    )


@pytest.mark.parametrize(
    "name", ["faster", pytest.param("c4", marks=pytest.mark.slow), "retinanet"]
)
def test_an_image_has_the_same_boxes_alone_and_among_others(name: str) -> None:
    detector = small(name)
    ready = [detector.prepare(image, scale=0.15) for image in [*IMAGES, IMAGES[0][:, ::-1]]]
    for together, one in zip(detector(ready), ready, strict=True):
        [alone] = detector([one])
        assert abs(len(together) - len(alone)) <= 1
        best = [np.sort(found.scores)[-50:] for found in (together, alone)]
        np.testing.assert_allclose(*best, atol=1e-4)


@pytest.mark.parametrize("name", ["faster", "cascade", "c4", "retinanet"])
def test_bf16_changes_scores_little(name: str) -> None:
    found = []
    for dtype in (torch.float32, torch.bfloat16):
        detector = small(name, dtype)
        found += detector([detector.prepare(IMAGES[0], scale=0.15)])
    exact, rough = found
    assert len(rough) == pytest.approx(len(exact), rel=0.1)
    assert np.median(rough.scores) == pytest.approx(np.median(exact.scores), abs=0.03)
    assert rough.scores.tolist() != exact.scores.tolist()


@pytest.mark.parametrize("name", CASES)
def test_a_network_that_finds_nothing_says_so(name: str) -> None:
    detector = small(name)
    for parameter in detector.network.parameters():
        parameter.fill_(torch.nan)
    [found] = detector([detector.prepare(IMAGES[2], scale=0.15)])
    assert len(found) == 0
