"""Another model's heatmaps as targets: which teachers fit, and what is learnt of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from posepipe.core.skeleton import COCO_PERSON
from posepipe.errors import RecipeError
from posepipe.networks.devices import resolve_precision
from posepipe.pose.codecs.choose import HeatmapGrid
from posepipe.pose.crops import PreprocessingTable
from posepipe.pose.model import build_pose_network
from posepipe.pose.networks.outputs import TrainingHeatmaps
from posepipe.training.pose.distillation import DistilTable, Teacher, warmed
from posepipe.training.pose.task import PoseTask
from posepipe.training.runs import TrainOptions, build_task, prepared
from posepipe.training.samples import DataTable
from posepipe.zoo.recipe import load_recipe

CPU = torch.device("cpu")
GIVEN = PreprocessingTable(input_size_wh=(64, 64))
GRID = HeatmapGrid(4, "squares", 2.0)
RECIPE = """
[model]
stage = "pose"
summary = "small"
licence = "for tests"

[network]
architecture = "plain"
backbone = "mobilenet_v2"

[preprocessing]
input_size_wh = [64, 64]

[decoding]
amplitude = 4.0

[training]
samples = 8
batch = 4
workers = 0
loss = {levels = "none", refine = "l2"}
"""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model folder with random weights; its heatmaps have peaks of 4."""
    folder = tmp_path / "teacher"
    folder.mkdir()
    (folder / "recipe.toml").write_text(RECIPE)
    torch.manual_seed(1)
    save_file(build_pose_network(load_recipe(folder)).state_dict(), folder / "weights.safetensors")
    return folder


def teacher(
    model: Path,
    *,
    scale: float = 1.0,
    grid: HeatmapGrid = GRID,
    precision: str = "fp32",
    **fields: Any,
) -> Teacher:
    return Teacher(
        DistilTable(teacher=str(model), **fields),
        GIVEN,
        grid,
        COCO_PERSON,
        scale=scale,
        device=CPU,
        precision=precision,
    )


def test_a_teacher_computes_as_training_does_where_poses_would_be_in_fp16(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("posepipe.pose.model.multiplies_fp16", lambda device: True)
    assert teacher(model, precision="auto").model.dtype == resolve_precision("auto", CPU)


def test_the_loss_is_the_mean_square_from_the_teachers_maps_in_our_amplitude(model: Path) -> None:
    pixels = torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8)
    one = teacher(model, scale=10.0, weight=0.5, flip=False)
    theirs = one.model.heatmaps(pixels, flip=False).clone() * 2.0 / 4.0
    assert torch.allclose(one.targets(pixels), theirs)
    maps = (theirs + 0.25).requires_grad_()
    part = one.loss(TrainingHeatmaps([], maps), pixels)
    assert part.count == 2 * 17
    assert part.mean.item() == pytest.approx(10 * 0.5 * 0.25**2)
    part.mean.backward()
    assert maps.grad is not None
    alone = one.loss(TrainingHeatmaps([maps, maps + 1], None), pixels)  # GlobalNet without more
    assert alone.mean.item() == pytest.approx(part.mean.item())


def test_targets_are_means_with_those_of_the_mirror_image(model: Path) -> None:
    pixels = torch.randint(0, 256, (1, 64, 64, 3), dtype=torch.uint8)
    expected = teacher(model).model.heatmaps(pixels, flip=True)
    assert torch.allclose(teacher(model).targets(pixels) * 2, expected)


def test_a_temperature_widens_peaks_and_keeps_them() -> None:
    cells = torch.arange(9.0)
    maps = 0.8 * torch.exp(-((cells - 4) ** 2) / (2 * 1.0**2))[None, None, None]
    wide = 0.8 * torch.exp(-((cells - 4) ** 2) / (2 * 2.0**2))[None, None, None]
    assert torch.allclose(warmed(maps, 4.0), wide)
    assert torch.equal(warmed(maps, 1.0), maps)
    dark = torch.tensor([[[[-0.5, 0.0]]]])
    assert torch.equal(warmed(dark, 2.0), torch.zeros_like(dark))


@pytest.mark.parametrize(
    ("grid", "field"),
    [(HeatmapGrid(8, "squares", 1.0), "stride is 4"), (HeatmapGrid(4, "corners", 1.0), "cells is")],
)
def test_a_teacher_that_does_not_fit_is_refused(model: Path, grid: HeatmapGrid, field: str) -> None:
    with pytest.raises(RecipeError, match=rf"the teacher teacher's {field}"):
        teacher(model, grid=grid)


@pytest.mark.parametrize(
    "fields",
    [{"temperature": 0.0}, {"weight": -1.0}, {"unlabelled": True}, {"weight": float("nan")}],
)
def test_settings_that_make_no_sense_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"temperature|weight|teacher"):
        DistilTable(**fields)


def task(model: Path, data: Path, *changes: str) -> PoseTask:
    options = TrainOptions(
        changes=(f'training.distil.teacher="{model}"', *changes),
        data=(DataTable(annotations=str(data), images=str(data.parent)),),
    )
    recipe, table = prepared(model, options)
    made = build_task(recipe, table, device=torch.device("cpu"), start=None)
    assert isinstance(made, PoseTask)
    return made


def test_a_run_learns_of_labels_and_teacher(model: Path, painted_set: Callable[..., Path]) -> None:
    made = task(model, painted_set())
    batch = next(made.batches(0, 0, 1))
    losses, _ = made.module(batch)
    assert set(losses) == {"refine", "distil"}
    counts = made.counts(batch)
    assert {name: part.count.item() for name, part in losses.items()} == {
        name: count.item() for name, count in counts.items()
    }
    same = model / "weights.safetensors"
    options = TrainOptions(
        changes=(f'training.distil.teacher="{model}"', "training.distil.flip=false"),
        data=(DataTable(annotations=str(painted_set()), images=str(painted_set().parent)),),
        start=same,
    )
    recipe, table = prepared(model, options)
    own = build_task(recipe, table, device=torch.device("cpu"), start=same)
    own.network.eval()
    assert own.module(batch)[0]["distil"].mean.item() == pytest.approx(0, abs=1e-6)


def test_people_without_labels_are_seen_where_there_is_a_teacher(
    model: Path, tmp_path: Path, painted_set: Callable[..., Path]
) -> None:
    path = painted_set(people=3)
    content = json.loads(path.read_text())
    content["annotations"][0] |= {"keypoints": [0] * 51, "num_keypoints": 0}
    path.write_text(json.dumps(content))

    def people(*changes: str) -> int:
        return len(task(model, path, *changes)._sets[0])

    assert people() == 2
    assert people("training.distil.unlabelled=true") == 3
