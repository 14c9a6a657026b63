"""`posepipe train` as a user runs it."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import pytest
from builders import annotation, annotation_file, image_entry
from commands import error_of, lines, photo, posepipe, start

RECIPE = """
[model]
stage = "pose"
summary = "a tiny CPN for tests"

[network]
backbone = "mobilenet_v2"
channels = 16

[preprocessing]
input_size_wh = [64, 64]

[training]
samples = 6
batch = 2
workers = 0
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    folder = tmp_path / "tiny"
    folder.mkdir()
    (folder / "recipe.toml").write_text(RECIPE, encoding="utf-8")
    return folder


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """An annotation file of one person in an image beside it."""
    photo(tmp_path / "a.jpg")
    keypoints = [v for k in range(17) for v in (60.0 + 5 * k, 20.0 + 9 * k, 2)]
    images = [image_entry(1, file_name="a.jpg", width=200, height=200)]
    person = annotation(bbox=[40, 5, 120, 190], area=12000.0, keypoints=keypoints)
    return annotation_file(tmp_path / "people.json", [person], images)


def test_a_run_and_where_it_is(recipe: Path, data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    command = ("train", recipe, "-o", run, "--data", data, data.parent, "--device", "cpu")
    result = posepipe(*command)
    assert (result.exit_code, result.stdout) == (0, "")
    measured, end = lines(result)
    assert measured.startswith("6 samples: not measured (no --validate); mined most: ")
    assert end == f"6 samples: {run}"
    assert {
        "recipe.toml",
        "run.json",
        "last.safetensors",
        "weights.safetensors",
        "metrics.csv",
    } <= {path.name for path in run.iterdir()}
    assert "go on from it with --resume" in error_of(posepipe(*command))
    again = posepipe("-v", *command, "--resume")
    assert again.exit_code == 0
    assert f"6 samples: {run}" in lines(again)


def test_weights_of_data_sets_may_be_left_out(recipe: Path, data: Path, tmp_path: Path) -> None:
    other = data.with_name("other.json")
    other.write_text(data.read_text())
    run = tmp_path / "run"
    result = posepipe(
        *("train", "--data", data, data.parent, "--data", other, data.parent, "0.25", recipe),
        *("-o", run, "--device", "cpu", "--set", "training.samples=2"),
    )
    assert result.exit_code == 0, result.output
    record = json.loads((run / "run.json").read_text())
    assert [used["weight"] for used in record["data"]] == [1, 0.25]


def test_only_a_check_writes_nothing(recipe: Path, data: Path, tmp_path: Path) -> None:
    command = ("train", recipe, "-o", tmp_path / "run", "--check-only", "--data", data)
    assert posepipe(*command, data.parent).exit_code == 0
    assert not (tmp_path / "run").exists()
    (tmp_path / "a.jpg").unlink()
    result = posepipe(*command, data.parent)
    assert result.exit_code == 1
    assert any("missing images" in line for line in lines(result))


def test_a_wrong_field_is_one_line(recipe: Path, data: Path, tmp_path: Path) -> None:
    command = ("train", recipe, "-o", tmp_path / "run", "--data", data, data.parent)
    line = error_of(posepipe(*command, "--set", "training.learning_rat=1"))
    assert line == (
        f"{recipe / 'recipe.toml'} with --set training.learning_rat=1, [training]: "
        "there is no field 'learning_rat': did you mean 'learning_rate'?"
    )


def test_the_end_of_the_time_says_how_to_go_on(recipe: Path, data: Path, tmp_path: Path) -> None:
    result = posepipe(
        *("train", recipe, "-o", tmp_path / "run", "--data", data, data.parent),
        *("--device", "cpu", "--minutes", "0.00001"),
    )
    assert result.exit_code == 0
    assert lines(result) == [
        "posepipe: stopped after 2 of 6 samples: the same command with --resume goes on"
    ]


@pytest.mark.posix
@pytest.mark.slow
def test_an_interrupted_run_leaves_a_checkpoint(recipe: Path, data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    command = ("train", recipe, "-o", run, "--data", data, data.parent, "--device", "cpu")
    endless = ("--set", "training.samples=1000000", "--set", "training.checkpoint_minutes=1e-9")
    process = start(*command, *endless)
    deadline = time.monotonic() + 120
    while not list(run.glob("checkpoint-*.pt")):  # it is learning
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)  # as Ctrl-C: test_interruption.py
    try:
        _, said = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 130
    assert said.startswith("posepipe: interrupted after ")
    assert said.endswith(f" samples; the same command with --resume goes on from {run}\n")
    samples = int(said.split()[3])
    assert not [path for path in run.iterdir() if path.name.endswith(".tmp")]

    resumed = posepipe(*command, *endless, "--resume", "--minutes", "0.00001")
    assert lines(resumed) == [
        f"posepipe: stopped after {samples + 2} of 1000000 samples: the same command with --resume "
        "goes on"
    ]
