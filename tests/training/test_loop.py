from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from toys import Line

from posepipe.errors import DocumentError, OptionError, TrainingError
from posepipe.training import checkpoint as checkpoint_module
from posepipe.training.loop import Loop, LoopOptions
from posepipe.training.processes import Processes
from posepipe.training.reports import Report
from posepipe.training.run_folder import RunFolder
from posepipe.training.tables import TrainingTable

ALONE = Processes(0, 1, torch.device("cpu"))
TABLE = TrainingTable(
    samples=80, batch=8, learning_rate=0.05, average=0.8, clip=5.0, precision="fp32"
)


class Sitting:
    """A loop over the toy task in a folder, going on from what is there; its reports are kept."""

    def __init__(self, folder: Path, task: Line, table: TrainingTable, **options: Any) -> None:
        folder.mkdir(exist_ok=True)
        run = RunFolder(folder)
        self.reports: list[Report] = []
        self.loop = Loop(
            task,
            table,
            ALONE,
            run,
            checkpoint=run.checkpoint(),
            options=LoopOptions(report=self.reports.append, **options),
        )

    @property
    def losses(self) -> list[float]:
        return [r.losses["squares"] for r in self.reports if r.losses]


def weights(folder: Path, name: str = "last.safetensors") -> dict[str, Tensor]:
    return load_file(folder / name)


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def rows(folder: Path, name: str = "metrics.csv") -> list[dict[str, str]]:
    return list(csv.DictReader((folder / name).read_text().splitlines()))


def test_the_loop_learns_and_tells_how_it_goes(tmp_path: Path) -> None:
    sitting = Sitting(tmp_path, Line(), TABLE)
    progress = sitting.loop.run()
    assert (progress.samples, progress.steps) == (80, 10)
    assert sum(sitting.losses[-3:]) < 0.6 * sum(sitting.losses[:3])
    assert [report.samples for report in sitting.reports[:-1]] == list(range(8, 81, 8))
    assert sitting.reports[-1].measured is not None
    assert (tmp_path / "checkpoint-000000000080.pt").is_file()


@pytest.mark.parametrize("stops", [(3,), (1, 2, 9)])
def test_a_run_that_was_stopped_ends_as_one_that_never_was(
    tmp_path: Path, stops: tuple[int, ...]
) -> None:
    table = msgspec.structs.replace(TABLE, validate_every=32)
    never = Sitting(tmp_path / "never", Line(scores=(0.1, 0.3, 0.2)), table)
    never.loop.run()
    losses: list[float] = []
    scores = (0.1, 0.3, 0.2)
    measured = 0
    for stop in (*stops, None):
        task = Line(scores=scores[measured:])
        reports: list[Report] = []
        so_far = len(losses)

        def asked(reports: list[Report] = reports, so_far: int = so_far, stop: Any = stop) -> bool:
            return stop is not None and so_far + sum(1 for r in reports if r.losses) >= stop

        sitting = Sitting(tmp_path / "stopped", task, table, stop=asked)
        sitting.reports = reports
        sitting.loop.options = LoopOptions(report=reports.append, stop=asked)
        if stop is None:
            sitting.loop.run()
        else:
            with pytest.raises(KeyboardInterrupt):
                sitting.loop.run()
        losses += sitting.losses
        measured += len(task.measured)
    assert losses == never.losses
    for name in ("last.safetensors", "weights.safetensors"):
        assert same(weights(tmp_path / "stopped", name), weights(tmp_path / "never", name))
    for name in ("metrics.csv", "mined.csv"):
        ours, theirs = rows(tmp_path / "stopped", name), rows(tmp_path / "never", name)
        for row in (*ours, *theirs):
            row.pop("minutes", None)
        assert ours == theirs
        assert [row["samples"] for row in ours] == ["32", "64", "80"]


def test_averaged_weights_are_measured_and_kept(tmp_path: Path) -> None:
    task = Line()
    Sitting(tmp_path, task, TABLE).loop.run()
    (measured,) = task.measured
    assert measured is not task.network
    assert same(weights(tmp_path), dict(measured.state_dict()))
    assert not same(weights(tmp_path), dict(task.network.state_dict()))
    plain = Line()
    Sitting(tmp_path / "plain", plain, msgspec.structs.replace(TABLE, average=0.0)).loop.run()
    assert plain.measured == [plain.network]


def test_a_batch_in_parts_gives_what_it_gives_whole(tmp_path: Path) -> None:
    for accumulate in (1, 2, 4):
        task = Line(accumulate=accumulate)
        task.network[1].p = 0.0  # what is dropped does depend on the parts
        table = msgspec.structs.replace(TABLE, accumulate=accumulate)
        Sitting(tmp_path / str(accumulate), task, table).loop.run()
    whole = weights(tmp_path / "1")
    for accumulate in (2, 4):
        for key, value in weights(tmp_path / str(accumulate)).items():
            torch.testing.assert_close(value, whole[key], rtol=1e-4, atol=1e-5)


def test_a_batch_that_cannot_be_divided_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"training.batch = 8 cannot be divided by 3"):
        Sitting(tmp_path, Line(), msgspec.structs.replace(TABLE, accumulate=3))


def test_the_best_weights_are_those_of_the_highest_first_metric(tmp_path: Path) -> None:
    table = msgspec.structs.replace(TABLE, validate_every=16, average=0.0)
    task = Line(scores=(0.1, 0.5, 0.5, 0.2, 0.3))
    kept: list[dict[str, Tensor]] = []

    def validate(network: torch.nn.Module, folder: Path | None) -> dict[str, float]:
        kept.append({key: value.clone() for key, value in network.state_dict().items()})
        return Line.validate(task, network, folder)

    task.validate = validate  # type: ignore[method-assign]
    sitting = Sitting(tmp_path, task, table)
    progress = sitting.loop.run()
    assert progress.best == 0.5
    assert same(weights(tmp_path, "weights.safetensors"), kept[1])
    assert same(weights(tmp_path, "last.safetensors"), kept[-1])
    best = [r.measured.is_best for r in sitting.reports if r.measured]
    assert best == [True, True, False, False, False]


def test_without_a_measure_the_latest_weights_are_the_models(tmp_path: Path) -> None:
    Sitting(tmp_path, Line(), TABLE).loop.run()
    assert same(weights(tmp_path, "weights.safetensors"), weights(tmp_path))


def test_figures_and_what_was_mined_are_rows_of_csv_files(tmp_path: Path) -> None:
    table = msgspec.structs.replace(TABLE, validate_every=40)
    sitting = Sitting(tmp_path, Line(scores=(0.25, 0.5)), table)
    sitting.loop.run()
    first, second = rows(tmp_path)
    assert [first["samples"], second["samples"]] == ["40", "80"]
    assert float(first["squares"]) == pytest.approx(sum(sitting.losses[:5]) / 5, rel=1e-4)
    assert float(second["squares"]) == pytest.approx(sum(sitting.losses[5:]) / 5, rel=1e-4)
    assert [first["set/score"], second["set/score"]] == ["0.25", "0.5"]
    mined = rows(tmp_path, "mined.csv")[0]
    assert float(mined["even"]) + float(mined["odd"]) == pytest.approx(1, abs=1e-5)
    counted = sum(number % 3 > 0 for number in range(40))
    assert float(mined["odd"]) == pytest.approx(counted / (40 + counted), abs=1e-5)


def test_the_end_of_the_time_leaves_a_checkpoint(tmp_path: Path) -> None:
    progress = Sitting(tmp_path, Line(), TABLE, minutes=1e-9).loop.run()
    assert progress.samples == 8
    assert Sitting(tmp_path, Line(), TABLE).loop.progress.samples == 8


def test_checkpoints_are_written_on_a_schedule(tmp_path: Path) -> None:
    task = Line()
    there: list[int] = []

    def look(number: int) -> None:
        found = RunFolder(tmp_path).checkpoint()
        there.append(0 if found is None else found.progress.samples)

    task.before_batch = look
    Sitting(tmp_path, task, msgspec.structs.replace(TABLE, checkpoint_minutes=1e-9)).loop.run()
    assert there == list(range(0, 80, 8))


def test_a_loss_that_is_no_number_ends_the_run_and_keeps_the_checkpoint(tmp_path: Path) -> None:
    table = msgspec.structs.replace(TABLE, validate_every=16)
    with pytest.raises(TrainingError, match="the loss of samples 40 to 47 is not a number"):
        Sitting(tmp_path, Line(spoil=42), table).loop.run()
    found = RunFolder(tmp_path).checkpoint()
    assert found is not None
    assert found.progress.samples == 32
    assert all(value.isfinite().all() for value in found.network.values())
    assert all(value.isfinite().all() for value in weights(tmp_path).values())
    progress = Sitting(tmp_path, Line(), table).loop.run()  # the data repaired
    assert progress.samples == 80


def test_a_full_disk_is_one_line_and_leaves_the_last_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = msgspec.structs.replace(TABLE, checkpoint_minutes=1e-9)
    write = checkpoint_module.write_whole
    times = 0

    def fill_up(path: Path, pieces: Any) -> None:
        nonlocal times
        times += 1
        if times == 4:
            raise DocumentError(f"{path} cannot be written: No space left on device")
        write(path, pieces)

    monkeypatch.setattr(checkpoint_module, "write_whole", fill_up)
    with pytest.raises(DocumentError, match="No space left"):
        Sitting(tmp_path, Line(), table).loop.run()
    found = RunFolder(tmp_path).checkpoint()
    assert found is not None
    assert found.progress.samples == 24
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []


def test_the_iterator_of_batches_is_closed(tmp_path: Path) -> None:
    task = Line()
    closed = []
    batches: Callable[..., Any] = task.batches

    def watched(*arguments: int) -> Any:
        try:
            yield from batches(*arguments)
        finally:
            closed.append(True)

    task.batches = watched  # type: ignore[method-assign]
    Sitting(tmp_path, task, TABLE).loop.run()
    assert closed == [True]
