"""Whole runs of a tiny pose network on painted people."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
import torch
from safetensors.torch import load_file, save_file
from torchvision.models import mobilenet_v2

from posepipe.errors import OptionError, RecipeError, TrainingError
from posepipe.io.checksums import sha256_of
from posepipe.training.data import DataTable
from posepipe.training.pose.task import PoseTask
from posepipe.training.reports import Report
from posepipe.training.runs import TrainOptions, build_task, check_run, prepared, train
from posepipe.training.tables import PoseTrainingTable, with_data
from posepipe.zoo.recipe import load_recipe

PLAIN = "training.augment={flip=0, rotation=0, scale=[1, 1], shift=0, half_body=0, colour=0}"


@pytest.fixture
def data(painted_set: Callable[..., Path]) -> tuple[DataTable, ...]:
    """A set of four painted people."""
    file = painted_set()
    return (DataTable(annotations=str(file), images=str(file.parent)),)


@pytest.fixture
def validate(painted_set: Callable[..., Path]) -> tuple[DataTable, ...]:
    """The same people in other files."""
    file = painted_set(name="others", compress_level=1)
    return (DataTable(annotations=str(file), images=str(file.parent)),)


class Losses(list[dict[str, float]]):
    """Collects the losses of every step."""

    def __call__(self, report: Report) -> None:
        if report.losses:
            self.append(report.losses)


def rows(run: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((run / "metrics.csv").read_text().splitlines()))


@pytest.mark.slow
def test_a_tiny_cpn_learns_four_crops_by_heart(
    tiny_recipe: Path,
    data: tuple[DataTable, ...],
    validate: tuple[DataTable, ...],
    tmp_path: Path,
) -> None:
    losses = Losses()
    changes = (
        PLAIN,
        "training.samples=320",
        "training.validate_every=0",
        "training.learning_rate=1e-2",
        "training.schedule=cosine",
        "training.warm_up=40",
        "training.average=0.0",
        "training.head_scale=1.0",
        # Targets whose spread is about 1 from the start, as the last batch normalisation's.
        "decoding.amplitude=6.0",
        "decoding.blur_kernel=3",
        "decoding.flip=false",
        "network.channels=32",
        "network.batch_norm_momentum=0.5",
    )
    options = TrainOptions(data=data, validate=validate, changes=changes, device="cpu")
    result = train(tiny_recipe, tmp_path / "run", options=options, report=losses)
    assert result.finished
    assert losses[-1]["refine"] < 0.15 * losses[0]["refine"]
    (row,) = rows(tmp_path / "run")
    assert float(row["others/AP50"]) == pytest.approx(1)
    # Maps of 16 x 16 cells: the smallest keypoints are missed by a pixel or two.
    assert float(row["others/AP"]) > 0.7
    assert (tmp_path / "run" / "images" / "000000320" / "crops.jpg").stat().st_size > 1000


@pytest.mark.slow
def test_a_resumed_run_has_the_losses_and_weights_of_one_that_never_stopped(
    tiny_recipe: Path,
    data: tuple[DataTable, ...],
    validate: tuple[DataTable, ...],
    tmp_path: Path,
) -> None:
    never, stopped = Losses(), Losses()
    options = TrainOptions(data=data, validate=validate, device="cpu")
    train(tiny_recipe, tmp_path / "never", options=options, report=never)
    minute = TrainOptions(data=data, validate=validate, device="cpu", minutes=1e-9)
    first = train(tiny_recipe, tmp_path / "stopped", options=minute, report=stopped)
    assert (first.samples, first.finished) == (4, False)
    again = TrainOptions(data=data, validate=validate, device="cpu", resume=True)
    train(tiny_recipe, tmp_path / "stopped", options=again, report=stopped)
    assert len(never) == 6
    assert stopped == never
    for name in ("last.safetensors", "weights.safetensors"):  # averaged weights
        ours, theirs = (load_file(tmp_path / run / name) for run in ("stopped", "never"))
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    record = json.loads((tmp_path / "stopped" / "run.json").read_text())
    assert [sitting["samples"] for sitting in record["sittings"]] == [0, 4]


def test_a_run_folder_says_what_it_was_made_of_and_is_a_model(
    tiny_recipe: Path, data: tuple[DataTable, ...], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    options = TrainOptions(
        data=data, changes=("training.samples=4", "training.seed=3"), device="cpu"
    )
    train(tiny_recipe, run, options=options)
    recipe = load_recipe(run)
    assert recipe.tables["training"]["seed"] == 3
    assert recipe.tables["training"]["loss"]["hardest"] == 8  # defaults, too
    assert recipe.verified_weights()[0] == run / "weights.safetensors"
    record = json.loads((run / "run.json").read_text())
    (used,) = record["data"]
    assert used["sha256"] == sha256_of(Path(data[0].annotations))
    assert (used["image_count"], used["people"], used["with_keypoints"]) == (4, 4, 4)
    assert record["seed"] == 3
    assert record["sittings"][0]["versions"]["torch"] == str(torch.__version__)


def test_a_folder_with_a_run_is_refused_and_another_recipe_is_no_continuation(
    tiny_recipe: Path, data: tuple[DataTable, ...], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    short = ("training.samples=4",)
    train(tiny_recipe, run, options=TrainOptions(data=data, changes=short, device="cpu"))
    with pytest.raises(TrainingError, match="holds a run or a model: go on from it with --resume"):
        train(tiny_recipe, run, options=TrainOptions(data=data, changes=short, device="cpu"))
    changed = (*short, "training.learning_rate=1e-4")
    with pytest.raises(TrainingError, match=r"training.learning_rate was 0.001, is 0.0001"):
        train(
            tiny_recipe,
            run,
            options=TrainOptions(data=data, changes=changed, resume=True, device="cpu"),
        )
    # How many threads work has no say in the weights.
    free = (*short, "training.workers=1")
    options = TrainOptions(data=data, changes=free, resume=True, device="cpu")
    assert train(tiny_recipe, run, options=options).finished


def test_a_run_goes_on_from_its_own_folder_wherever_that_is_asked_for(
    tiny_recipe: Path,
    data: tuple[DataTable, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = Path(data[0].annotations).parent
    monkeypatch.chdir(folder)
    relative = (DataTable(annotations=Path(data[0].annotations).name, images="."),)
    options = TrainOptions(
        data=relative, changes=("training.samples=8",), minutes=1e-6, device="cpu"
    )
    run = tmp_path / "run"
    assert not train(tiny_recipe, run, options=options).finished
    monkeypatch.chdir("/")
    assert train(run, run, options=TrainOptions(resume=True, device="cpu")).finished


def test_a_models_folder_is_never_trained_into(
    tiny_recipe: Path, data: tuple[DataTable, ...]
) -> None:
    for resume in (False, True):
        with pytest.raises(TrainingError, match=r"holds a run or a model|is not a run folder"):
            train(tiny_recipe, tiny_recipe, options=TrainOptions(data=data, resume=resume))


def test_a_run_does_not_go_on_with_changed_annotations(
    tiny_recipe: Path, data: tuple[DataTable, ...], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    options = TrainOptions(data=data, changes=("training.samples=4",), device="cpu")
    train(tiny_recipe, run, options=options)
    path = Path(data[0].annotations)
    path.write_text(path.read_text() + "\n")
    again = TrainOptions(data=data, changes=("training.samples=4",), device="cpu", resume=True)
    with pytest.raises(TrainingError, match=r"people.json has changed since the run began"):
        train(tiny_recipe, run, options=again)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("training.learning_rat=1", "there is no field 'learning_rat'"),
        (
            "training.batch=many",
            r"with --set training.batch=many, \[training\]: batch takes a whole number",
        ),
        ("training.batch=0", "batch must be at least 1, got 0"),
        ("training.average=1.0", r"average must lie in \[0, 1\), got 1.0"),
        ("training.loss.hardest=0", "hardest must be at least 1"),
        ("training.loss.levels=l3", "loss.levels takes one of .*, got 'l3'"),
        ("network.chanels=3", "there is no field 'chanels'"),
        ("trainin.batch=3", "there is no table 'trainin'"),
        ("batch=3", "write TABLE.FIELD=VALUE"),
        ("training.batch", "write TABLE.FIELD=VALUE"),
        ("training.batch.size=3", "'batch' is not a table"),
    ],
)
def test_a_wrong_change_is_an_error_that_names_it(
    change: str, message: str, tiny_recipe: Path, data: tuple[DataTable, ...], tmp_path: Path
) -> None:
    with pytest.raises(RecipeError, match=message):
        train(
            tiny_recipe,
            tmp_path / "run",
            options=TrainOptions(data=data, changes=(change,), device="cpu"),
        )
    assert not (tmp_path / "run").exists()


def test_a_run_without_data_says_how_to_name_some(tiny_recipe: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"no data to learn from: name .* with --data"):
        train(tiny_recipe, tmp_path / "run")


def test_data_that_is_not_fit_is_found_before_anything_is_written(
    tiny_recipe: Path, data: tuple[DataTable, ...], tmp_path: Path
) -> None:
    for number in (1, 2, 3):
        (tmp_path / f"people-{number}.png").unlink()
    options = TrainOptions(data=data, device="cpu")
    (finding,) = check_run(tiny_recipe, options)
    assert finding.fatal
    with pytest.raises(TrainingError, match=r"missing images in .*: 3 of 4"):
        train(tiny_recipe, tmp_path / "run", options=options)
    assert not (tmp_path / "run").exists()


def test_a_truncated_image_is_left_out_and_once_it_is_mended_the_run_goes_on(
    tiny_recipe: Path, data: tuple[DataTable, ...], tmp_path: Path
) -> None:
    image = tmp_path / "people-2.png"
    whole = image.read_bytes()
    image.write_bytes(whole[: len(whole) // 2])
    warnings: list[str] = []
    options = TrainOptions(data=data, changes=("training.samples=8",), minutes=1e-6, device="cpu")
    first = train(tiny_recipe, tmp_path / "run", options=options, warn=warnings.append)
    assert not first.finished
    (line,) = warnings
    assert "unreadable images: 1 of 4" in line
    assert "people-2.png is damaged or truncated" in line
    image.write_bytes(whole)
    warnings.clear()
    going_on = replace(options, minutes=None, resume=True)
    second = train(tiny_recipe, tmp_path / "run", options=going_on, warn=warnings.append)
    assert second.finished
    (line,) = warnings
    assert line.startswith("images in ")
    assert line.endswith("have changed since the run began")


def test_a_network_of_detectron2_is_not_trained_here(data: tuple[DataTable, ...]) -> None:
    with pytest.raises(RecipeError, match="train detectron2's networks with detectron2"):
        check_run("detectron2-faster-rcnn-r-50-fpn-3x", TrainOptions(data=data))


def test_checking_finds_a_batch_that_cannot_be_divided(
    tiny_recipe: Path, data: tuple[DataTable, ...]
) -> None:
    changes = ("training.batch=7", "training.accumulate=2")
    with pytest.raises(OptionError, match=r"7 cannot be divided by 2: .* 2 times 1 process$"):
        check_run(tiny_recipe, TrainOptions(data=data, changes=changes))


@pytest.mark.parametrize("levels", ["none", "l2"])
def test_a_pose_task_says_whether_its_losses_leave_parameters_out(
    levels: str, tiny_recipe: Path, data: tuple[DataTable, ...]
) -> None:
    # Several processes wait for the gradients of all others: for ever, if there are none.
    recipe = with_data(load_recipe(tiny_recipe), data, ())
    table = recipe.table("training", PoseTrainingTable)
    table = msgspec.structs.replace(
        table, loss=msgspec.structs.replace(table.loss, levels=levels), workers=0
    )
    task = PoseTask(recipe, table, device=torch.device("cpu"))
    task.train_mode()
    losses, _ = task.module(next(task.batches(0, 0, 1)))
    torch.stack([part.total for part in losses.values()]).sum().backward()
    learning = [parameter for parameter in task.network.parameters() if parameter.requires_grad]
    left_out = any(parameter.grad is None for parameter in learning)
    assert task.leaves_some_out == left_out == (levels == "none")


def test_a_pose_task_begins_with_the_backbone_of_a_classifier(
    tiny_recipe: Path, data: tuple[DataTable, ...], tmp_path: Path
) -> None:
    torch.manual_seed(1)
    classifier, file = mobilenet_v2(weights=None), tmp_path / "imagenet.safetensors"
    save_file(classifier.state_dict(), file)
    changes = (f"training.imagenet_weights={file}",)
    recipe, table = prepared(tiny_recipe, TrainOptions(data=data, changes=changes))
    task = build_task(recipe, table, device=torch.device("cpu"), start=None)
    ours, theirs = task.network.backbone.state_dict(), classifier.features.state_dict()
    assert torch.equal(ours["stages.0.0.0.weight"], theirs["0.0.weight"])
    assert torch.equal(list(ours.values())[-2], theirs["17.conv.3.running_var"])
    options = TrainOptions(data=data, changes=(*changes, "network.channels=16"))
    recipe, table = prepared("hourglass-1-256x192", options)
    with pytest.raises(RecipeError, match="this kind of network has no backbone with ImageNet"):
        build_task(recipe, table, device=torch.device("cpu"), start=None)


@pytest.mark.slow
def test_two_processes_have_the_losses_of_one(
    tiny_recipe: Path, data: tuple[DataTable, ...], tmp_path: Path
) -> None:
    # On CPUs batch statistics are each process's own: here they are none of the run's.
    changes = (
        "training.samples=16",
        "training.validate_every=8",
        "training.frozen_norm=true",
        "training.learning_rate=1e-3",
    )
    alone = Losses()
    options = TrainOptions(data=data, changes=changes, device="cpu")
    train(tiny_recipe, tmp_path / "one", options=options, report=alone)
    sets = [part for change in changes for part in ("--set", change)]
    # As the manual has it, without --device: where no GPU is seen, on CPUs.
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"),
        *("--master-port", "0", "--standalone", "-m", "posepipe", "train", str(tiny_recipe)),
        *("-o", str(tmp_path / "two"), *sets),
        *("--data", data[0].annotations, data[0].images),
    ]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
    )
    assert done.returncode == 0, done.stderr
    assert "find_unused_parameters" not in done.stderr  # torch warns where it is needless
    one, two = (rows(tmp_path / name) for name in ("one", "two"))
    assert [row["samples"] for row in two] == ["8", "16"]
    for ours, theirs in zip(two, one, strict=True):
        for name in ("global", "refine"):
            assert float(ours[name]) == pytest.approx(float(theirs[name]), rel=1e-4)
    mined = [(tmp_path / name / "mined.csv").read_text() for name in ("one", "two")]
    assert mined[0] == mined[1]
    weights = [load_file(tmp_path / name / "last.safetensors") for name in ("one", "two")]
    floating = [key for key, value in weights[0].items() if value.is_floating_point()]
    differences = torch.cat([(weights[0][k] - weights[1][k]).abs().flatten() for k in floating])
    # Four steps of 1e-3; Adam's first ones blow up the rounding errors of the smallest gradients.
    assert differences.mean() < 1e-5
    record = json.loads((tmp_path / "two" / "run.json").read_text())
    assert record["sittings"][0]["processes"] == 2
