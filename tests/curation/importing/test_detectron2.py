"""Checkpoints of detectron2 become models that find what the network finds."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2_cases import CASES, IMAGES, fill

from posepipe.curation import golden
from posepipe.curation.importing.detectron2 import is_detectron2, keypoint_remark, network_of
from posepipe.curation.importing.model_folder import import_checkpoint
from posepipe.detection.loading import load_detector
from posepipe.detection.native.network import build_network
from posepipe.errors import OptionError, WeightsError
from posepipe.networks.native.tables import NetworkTable
from posepipe.zoo.recipe import list_recipes, load_recipe

NATIVE = [r for r in list_recipes("detection") if r.name.startswith("detectron2-")]


@pytest.mark.parametrize("recipe", NATIVE, ids=lambda recipe: recipe.name)
def test_names_and_shapes_tell_every_network_of_the_zoo(recipe) -> None:
    table = recipe.table("network", NetworkTable)
    with torch.device("meta"):
        state = build_network(table).state_dict()
    shapes = {key: tuple(value.shape) for key, value in state.items()}
    if table.unused_head:
        shapes[f"roi_heads.{table.unused_head}_head.a.weight"] = (1,)
    assert is_detectron2(shapes)
    assert network_of(shapes) == table


def checkpoint(path: Path, classes: int = 80, **further: np.ndarray) -> Path:
    table = CASES["faster"].table
    small = NetworkTable(
        backbone_channels=32, width_per_group=8, channels=16, hidden=32, classes=classes
    )
    assert small.backbone_channels == table.backbone_channels
    state = {key: value.numpy() for key, value in fill(build_network(small)).items()}
    content = {"model": {**state, **further}, "__author__": "a test"}
    if path.suffix == ".pkl":
        path.write_bytes(pickle.dumps(content, protocol=2))
    else:
        content["model"] = {key: torch.from_numpy(value) for key, value in content["model"].items()}
        torch.save(content, path)
    return path


@pytest.mark.parametrize("suffix", [".pkl", ".pth"])
def test_a_checkpoint_becomes_a_model_with_golden_numbers(suffix, tmp_path, monkeypatch) -> None:
    mask = {"roi_heads.mask_head.deconv.weight": np.zeros((2, 2), np.float32)}
    file = checkpoint(tmp_path / f"model_final{suffix}", **mask)
    made = import_checkpoint(file, tmp_path / "mine")
    assert made.title == "detectron2, Mask R-CNN on ResNet-50 FPN"
    recipe = load_recipe(tmp_path / "mine")
    assert "mask" not in (tmp_path / "mine" / "recipe.toml").read_text().partition("[network]")[2]
    assert golden.verify(recipe).passed
    assert "SHA-256" in (tmp_path / "mine" / "README.md").read_text()
    detector = load_detector(recipe, device="cpu")
    assert len(detector([detector.prepare(IMAGES[0], scale=0.15)])[0]) > 20


def test_what_is_not_run_here_is_refused(tmp_path) -> None:
    file = checkpoint(tmp_path / "a.pkl", classes=3)
    with pytest.raises(WeightsError, match="has 3 classes: write a recipe that extends"):
        import_checkpoint(file, tmp_path / "mine")
    with pytest.raises(OptionError, match="options of CPNs"):
        import_checkpoint(file, tmp_path / "mine", batch_norm_eps=0.1)
    file = checkpoint(tmp_path / "b.pkl", **{"sem_seg_head.p2.weight": np.zeros(1, np.float32)})
    with pytest.raises(WeightsError, match=r"'sem_seg_head.p2.weight' is unknown"):
        import_checkpoint(file, tmp_path / "mine")
    assert not (tmp_path / "mine").exists()


@pytest.mark.parametrize(("depth", "name"), [(50, "r-50-fpn-3x-pose"), (101, "r-101-fpn-3x-pose")])
def test_the_keypoint_head_of_a_checkpoint_has_a_recipe_that_runs_it(depth, name, tmp_path) -> None:
    table = NetworkTable(depth=depth, classes=1, unused_head="keypoint")
    said = keypoint_remark(table, tmp_path / "a.pkl")
    assert f"--model detectron2-keypoint-rcnn-{name} --weights {tmp_path / 'a.pkl'}" in said
    assert "--model" not in keypoint_remark(NetworkTable(depth=152), tmp_path / "a.pkl")


def test_whoever_imports_a_keypoint_rcnn_is_told_what_becomes_of_its_head(tmp_path) -> None:
    head = {"roi_heads.keypoint_head.score_lowres.bias": np.zeros(17, np.float32)}
    made = import_checkpoint(checkpoint(tmp_path / "a.pkl", classes=1, **head), tmp_path / "mine")
    assert made.because[1] == "a detector, without its keypoint head"  # no recipe is so small
