"""What a run keeps on the disk: damaged, missing, half begun, or asked for twice."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from toys import Line

from posepipe.errors import TrainingError
from posepipe.training.checkpoint import (
    Checkpoint,
    TrainingProgress,
    checkpoints_of,
    load_checkpoint,
    save_checkpoint,
)
from posepipe.training.data import DataTable
from posepipe.training.loop import Loop, LoopOptions
from posepipe.training.processes import Processes
from posepipe.training.run_folder import RunFolder
from posepipe.training.runs import TrainOptions, train
from posepipe.training.tables import TrainingTable

ALONE = Processes(0, 1, torch.device("cpu"))
TABLE = TrainingTable(
    samples=80, batch=8, average=0.8, precision="fp32", checkpoint_minutes=1e-9, validate_every=40
)


def learn(folder: Path, table: TrainingTable = TABLE, minutes: float | None = None) -> list[str]:
    """Train the toy task, going on from what is there; what was warned of."""
    warned: list[str] = []
    run = RunFolder(folder)
    Loop(
        Line(),
        table,
        ALONE,
        run,
        checkpoint=run.checkpoint(warned.append),
        options=LoopOptions(minutes=minutes),
    ).run()
    return warned


def names(folder: Path) -> list[str]:
    return [path.name for path in checkpoints_of(folder)]


def checkpoint(samples: int) -> Checkpoint:
    torch.manual_seed(samples)
    state = {"weight": torch.randn(30, 10), "steps": torch.tensor(samples)}
    return Checkpoint(
        TrainingProgress(samples, since={"loss": 0.5}), state, None, {"state": {0: state}}
    )


@pytest.fixture
def stopped(tmp_path: Path) -> Path:
    """A run that stopped after 56 of 80 samples, with checkpoints after 48 and 56."""
    folder = tmp_path / "run"
    folder.mkdir()
    learn(folder, msgspec.structs.replace(TABLE, samples=56, validate_every=0))
    return folder


# --- checkpoints


def test_the_last_two_are_kept(tmp_path: Path) -> None:
    for samples in (0, 8, 16, 16, 1000):
        save_checkpoint(tmp_path, checkpoint(samples))
    assert names(tmp_path) == ["checkpoint-000000001000.pt", "checkpoint-000000000016.pt"]
    (tmp_path / "checkpoint-mine.pt").write_bytes(b"a copy of somebody's")
    save_checkpoint(tmp_path, checkpoint(24))  # after the other one turned out to be damaged
    assert names(tmp_path) == ["checkpoint-000000000024.pt", "checkpoint-000000000016.pt"]
    assert (tmp_path / "checkpoint-mine.pt").exists()


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, checkpoint(8))
    (path,) = checkpoints_of(tmp_path)
    read, written = load_checkpoint(path), checkpoint(8)
    assert read.progress == written.progress
    assert torch.equal(read.network["weight"], written.network["weight"])
    assert torch.equal(read.optimiser["state"][0]["weight"], written.network["weight"])


def test_no_damage_passes(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, checkpoint(8))
    (path,) = checkpoints_of(tmp_path)
    whole = path.read_bytes()
    random = np.random.default_rng(0)

    def flipped() -> bytes:
        place = int(random.integers(len(whole)))
        return whole[:place] + bytes([whole[place] ^ 1 << random.integers(8)]) + whole[place + 1 :]

    def with_a_hole() -> bytes:
        place = int(random.integers(len(whole)))
        return whole[:place] + bytes(min(500, len(whole) - place)) + whole[place + 500 :]

    def shortened() -> bytes:
        return whole[: int(random.integers(len(whole)))]

    for damaged in (flipped, with_a_hole, shortened):
        for _ in range(60):
            path.write_bytes(content := damaged())
            if content == whole:
                continue
            try:
                read = load_checkpoint(path)
            except TrainingError as error:
                (line,) = str(error).splitlines()
                assert line.startswith(str(path))
                assert "weights_only" not in line
            else:  # the mark of the checksum is hit, which alone says nothing of the numbers
                assert torch.equal(read.network["weight"], checkpoint(8).network["weight"])


def test_checkpoints_from_before_there_were_checksums_are_read(tmp_path: Path) -> None:
    given = checkpoint(8)
    content = {
        "format": 1,
        "progress": {"samples": 8, "mined": [1]},
        "network": given.network,
        "averaged": None,
        "optimiser": {},
    }
    torch.save(content, tmp_path / "checkpoint.pt")
    assert load_checkpoint(tmp_path / "checkpoint.pt").progress.samples == 8
    found = RunFolder(tmp_path).checkpoint()
    assert found is not None
    save_checkpoint(tmp_path, checkpoint(16))
    assert names(tmp_path) == ["checkpoint-000000000016.pt", "checkpoint.pt"]
    save_checkpoint(tmp_path, checkpoint(24))
    assert "checkpoint.pt" not in names(tmp_path)


@pytest.mark.parametrize("content", [3, [1], {"format": 7}, {"format": 2}, {"formats": 1}])
def test_what_is_no_checkpoint_is_one_line(content: Any, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint-000000000008.pt"
    torch.save(content, path)
    with pytest.raises(
        TrainingError, match=r"not a checkpoint, or damaged|another version|its end"
    ):
        load_checkpoint(path)


# --- going on


def test_a_damaged_checkpoint_is_named_and_the_one_before_it_is_used(
    stopped: Path, tmp_path: Path
) -> None:
    latest, _ = checkpoints_of(stopped)
    content = bytearray(latest.read_bytes())
    content[len(content) // 2] ^= 4
    latest.write_bytes(content)
    (line,) = learn(stopped)
    assert line.startswith(f"{latest} is damaged")
    assert line.endswith("going on from checkpoint-000000000048.pt")
    (tmp_path / "never").mkdir()
    learn(tmp_path / "never")
    ours, theirs = (load_file(run / "last.safetensors") for run in (stopped, tmp_path / "never"))
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


def test_two_damaged_checkpoints_are_an_error_that_says_what_to_do(stopped: Path) -> None:
    for path in checkpoints_of(stopped):
        path.write_bytes(path.read_bytes()[:-1])
    before = (stopped / "weights.safetensors").read_bytes()
    with pytest.raises(TrainingError, match=r"56\.pt is damaged: .* --start .*last.safetensors"):
        learn(stopped)
    assert (stopped / "weights.safetensors").read_bytes() == before


@pytest.mark.parametrize("left", ["last.safetensors", "weights.safetensors"])
def test_a_run_without_its_checkpoints_never_begins_again_in_silence(
    left: str, stopped: Path
) -> None:
    for path in stopped.iterdir():
        if path.is_file() and path.name != left:
            path.unlink()
    with pytest.raises(TrainingError, match=rf"no longer has a checkpoint: .* --start .*{left}"):
        learn(stopped)


# --- beginning


@pytest.fixture
def options(painted_set: Callable[..., Path]) -> TrainOptions:
    """A step of four painted people."""
    file = painted_set()
    data = (DataTable(annotations=str(file), images=str(file.parent)),)
    return TrainOptions(data=data, changes=("training.samples=4",), device="cpu")


def resumed(options: TrainOptions) -> TrainOptions:
    return TrainOptions(
        data=options.data, changes=options.changes, device=options.device, resume=True
    )


@pytest.mark.slow
def test_a_start_that_was_interrupted_anywhere_is_begun_again(
    tiny_recipe: Path, options: TrainOptions, tmp_path: Path
) -> None:
    whole = tmp_path / "whole"
    train(tiny_recipe, whole, options=options)
    for number, (left, chosen) in enumerate(
        [
            ((), resumed(options)),
            (("run.json",), options),
            (("run.json", "recipe.toml"), resumed(options)),
        ]
    ):
        run = tmp_path / f"run-{number}"
        run.mkdir()
        for name in left:
            (run / name).write_bytes((whole / name).read_bytes())
        (run / ".weights.safetensors.77.tmp").write_bytes(b"what a killed process left")
        assert train(tiny_recipe, run, options=chosen).finished
        assert [path for path in run.iterdir() if path.name.startswith(".")] == []
        ours, theirs = (load_file(folder / "last.safetensors") for folder in (run, whole))
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


@pytest.mark.slow
def test_two_trainings_cannot_write_the_same_folder(
    tiny_recipe: Path, options: TrainOptions, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    program = (
        "import sys; from pathlib import Path\n"
        "from posepipe.training.run_folder import RunFolder\n"
        "with RunFolder(Path(sys.argv[1])).held():\n"
        "    print('held', flush=True); sys.stdin.read()\n"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", program, str(run)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        for chosen in (options, resumed(options)):
            with pytest.raises(TrainingError, match=r"another training is writing .*run: wait for"):
                train(tiny_recipe, run, options=chosen)
        other.kill()
    assert train(tiny_recipe, run, options=options).finished  # the lock went with the process


def test_a_folder_that_cannot_be_made_is_one_line(
    tiny_recipe: Path, options: TrainOptions, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(b"")
    for place in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(
            TrainingError, match=r"cannot be written: (File exists|Not a directory)"
        ):
            train(tiny_recipe, place, options=options)


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{", b"[" * 100_000, b'{"recipe": "\xff"}', b'{"recipe": 3}']
)
def test_a_damaged_record_is_one_line(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_bytes(content)
    with pytest.raises(TrainingError, match=r"run\.json is not .*: restore it, or begin another"):
        RunFolder(tmp_path).read_record()
