"""A training run from its recipe to its folder; whatever is trained, by however many processes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from msgspec.structs import replace

from posepipe.errors import PosepipeError, RecipeError, TrainingError
from posepipe.io.findings import Finding
from posepipe.training.checkpoint import Checkpoint
from posepipe.training.data import DataSets, DataTable, SetKey
from posepipe.training.datacheck import Learnt, check_data, data_fingerprint
from posepipe.training.detector.kinds import kind_of
from posepipe.training.detector.task import DetectorTask, DetectorTrainingTable
from posepipe.training.loop import Loop, LoopOptions
from posepipe.training.order import check_batch
from posepipe.training.pose.task import PoseTask
from posepipe.training.processes import Processes, join_processes
from posepipe.training.reports import Report
from posepipe.training.run_folder import (
    DataUsed,
    RunFolder,
    RunRecord,
    check_same_data,
    resolved,
    sha256_by_name,
    sitting,
)
from posepipe.training.tables import PoseTrainingTable, TrainingTable, with_data
from posepipe.training.task import Task
from posepipe.zoo.recipe import Recipe, load_recipe
from posepipe.zoo.skeleton import recipe_skeleton

T = TypeVar("T")

_TABLES = {
    "pose": ("model", "skeleton", "network", "preprocessing", "decoding", "training"),
    "detection": (
        *("model", "skeleton", "detector", "network", "preprocessing", "candidates", "suppression"),
        "training",
    ),
}


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """What to train on, and for how long, in addition to the recipe.

    Attributes:
        changes: fields of the recipe to override, like "training.learning_rate=1e-4".
        data: data sets to train on, instead of the recipe's.
        validate: data sets to evaluate on, instead of the recipe's.
        start: weights of the whole network to start from.
        minutes: stop with a checkpoint after this time; None: at the end of the run.
        resume: continue from the run folder's checkpoint; start a run if there is none.
        device: see `posepipe.networks.devices`; each of several processes uses a GPU of its own.
    """

    changes: tuple[str, ...] = ()
    data: tuple[DataTable, ...] = ()
    validate: tuple[DataTable, ...] = ()
    start: Path | None = None
    minutes: float | None = None
    resume: bool = False
    device: str = "auto"


@dataclass(frozen=True)
class TrainResult:
    """The result of a call of `train`.

    Attributes:
        run: the folder, which is a model: ``posepipe pose --model``.
        samples: samples processed so far.
        of: the length of the run in samples.
        best: the best value of the first metric; None without an evaluation.
    """

    run: Path
    samples: int
    of: int
    best: float | None

    @property
    def finished(self) -> bool:
        """Whether the run came to its end."""
        return self.samples >= self.of


def no_interruption() -> AbstractContextManager[Callable[[], bool]]:
    """Interruptions as Python has them: KeyboardInterrupt at once, the last checkpoint stays."""
    return nullcontext(lambda: False)


def train(
    recipe: str | Path,
    run: str | Path,
    *,
    options: TrainOptions | None = None,
    report: Callable[[Report], None] = lambda _: None,
    warn: Callable[[str], None] = lambda _: None,
    interruption: Callable[[], AbstractContextManager[Callable[[], bool]]] = no_interruption,
) -> TrainResult:
    """Train the model of a recipe; ``docs/training.md`` says what the run folder holds.

    Args:
        recipe: a model's name or folder; a run folder works as well.
        run: the run folder; created if necessary.
        options: see `TrainOptions`.
        report: called with the progress, after every step or (on GPUs) every tenth step.
        warn: called with possible problems of the data or the run folder, one line each.
        interruption: a context manager that is entered during training; its value is called between
            steps and says whether to stop with a checkpoint.

    Raises:
        RecipeError: a wrong field, or no such recipe.
        TrainingError: the folder already contains a run, or one of another recipe; the data cannot
            be used; or the loss is not finite.
        PosepipeError: a file, device or package is missing, or something cannot be written.
        KeyboardInterrupt: interrupted; the folder has a checkpoint.
    """
    options = options or TrainOptions()
    processes = join_processes(options.device)
    given, table = prepared(recipe, options, world=processes.world)
    folder = RunFolder(Path(run))
    data = _data_sets(given, table)
    findings, left_out = _by_first(processes, lambda: _check(folder, given, table, options, data))
    data.left_out = left_out
    for finding in findings:
        warn(finding.line.removeprefix("warning: "))
    torch.manual_seed(table.seed)
    task = build_task(given, table, device=processes.device, start=options.start, data=data)
    task.module = processes.with_synchronised_norms(task.module, frozen_norm=table.frozen_norm)
    with ExitStack() as stack:
        _by_first(processes, lambda: stack.enter_context(folder.held()))
        changes = _by_first(
            processes, lambda: _begin_or_compare(folder, given, table, options, data)
        )
        for change in changes:
            warn(change)
        checkpoint = folder.checkpoint(warn if processes.is_first else lambda _: None)
        if processes.is_first:
            _note_sitting(folder, checkpoint, processes)
        stop = stack.enter_context(interruption())
        loop = Loop(
            task,
            table,
            processes,
            folder,
            checkpoint=checkpoint,
            options=LoopOptions(minutes=options.minutes, report=report, stop=stop),
        )
        progress = loop.run()
    return TrainResult(folder.path, progress.samples, table.samples, progress.best)


def check_run(recipe: str | Path, options: TrainOptions) -> list[Finding]:
    """What may be wrong with the recipe's data; nothing is trained, nothing written.

    The network is built, too, so that a recipe's errors come to light.

    Raises:
        PosepipeError: as `train`, but for what the findings say.
    """
    given, table = prepared(recipe, options)
    data = _data_sets(given, table)
    findings = _findings(given, table, data)
    if not any(finding.fatal for finding in findings):
        build_task(given, table, device=torch.device("cpu"), start=options.start, data=data)
    return findings


def prepared(
    recipe: str | Path, options: TrainOptions, *, world: int = 1
) -> tuple[Recipe, TrainingTable]:
    """The recipe of a run with everything in it, and its table ``[training]``.

    Args:
        recipe: a model's name or folder.
        options: what changes it.
        world: how many processes are to share its batches.

    Raises:
        RecipeError: a wrong field or table, or no data to learn from.
        OptionError: a batch that cannot be divided among processes and parts.
    """
    given = load_recipe(recipe)
    known = {*_TABLES[given.model.stage], *given.tables}
    changed = given.with_changes(options.changes, known=known)
    found = with_data(changed, options.data, options.validate)
    if found.model.stage == "pose":
        table: TrainingTable = found.table("training", PoseTrainingTable)
    else:
        kind_of(found)
        table = found.table("training", DetectorTrainingTable)
    if not table.data:
        raise RecipeError(
            f"{found.name}: no data to learn from: name annotation files and folders of images "
            "with --data, or in the recipe's [[training.data]]"
        )
    check_batch(table.batch, table.accumulate, world)
    return resolved(found, table), table


def build_task(
    recipe: Recipe,
    table: TrainingTable,
    *,
    device: torch.device,
    start: Path | None,
    data: DataSets | None = None,
) -> Task:
    """What the recipe trains; `data` has read its sets' files, None reads them.

    Raises:
        PosepipeError: a wrong field, or weights or data that are missing or wrong.
    """
    if isinstance(table, PoseTrainingTable):
        return PoseTask(recipe, table, device=device, start=start, data=data)
    assert isinstance(table, DetectorTrainingTable)  # noqa: S101  # see `prepared`
    return DetectorTask(recipe, table, device=device, start=start, data=data)


def _by_first(processes: Processes, work: Callable[[], T]) -> T:
    """What only the first process does; its result, or its error, is shared with all."""
    result: T | None = None
    error: PosepipeError | None = None
    if processes.is_first:
        try:
            result = work()
        except PosepipeError as raised:
            error = raised
    result, error = processes.broadcast((result, error))
    if error is not None:
        raise error
    return result


def _check(
    folder: RunFolder,
    recipe: Recipe,
    table: TrainingTable,
    options: TrainOptions,
    data: DataSets,
) -> tuple[list[Finding], dict[SetKey, frozenset[int]]]:
    """Check that the run may begin here, on this data; what was found, and what is left out."""
    if folder.holds_a_run():
        if not options.resume:
            raise folder.refusal()
        folder.read_record()  # raises where it is a model's folder
    findings = _findings(recipe, table, data)
    fatal = [finding for finding in findings if finding.fatal]
    if fatal:
        more = f" (and {len(fatal) - 1} more: see --check-only)" if len(fatal) > 1 else ""
        raise TrainingError(f"{fatal[0].line.removeprefix('error: ')}{more}")
    return findings, data.left_out


def _data_sets(recipe: Recipe, table: TrainingTable) -> DataSets:
    return DataSets(recipe_skeleton(recipe), keypoints=isinstance(table, PoseTrainingTable))


def _findings(recipe: Recipe, table: TrainingTable, data: DataSets) -> list[Finding]:
    learnt: Learnt = "keypoints"
    if not isinstance(table, PoseTrainingTable):
        learnt = "people" if kind_of(recipe).classes(recipe) == 2 else "things"
    return check_data(table.data, table.validate, data=data, learnt=learnt)


def _begin_or_compare(
    folder: RunFolder,
    recipe: Recipe,
    table: TrainingTable,
    options: TrainOptions,
    sets: DataSets,
) -> list[str]:
    """Write what the run begins with, or check that it goes on with it; what has changed since."""
    if folder.holds_a_run() and not options.resume:  # another process was quicker
        raise folder.refusal()
    data = [*_data_used("train", table.data, sets), *_data_used("validate", table.validate, sets)]
    if folder.holds_a_run():
        folder.check_same(recipe)
        return check_same_data(folder.read_record().data, data, folder.path)
    start = sha256_by_name([str(options.start or ""), table.imagenet_weights])
    folder.begin(recipe, RunRecord(recipe.name, table.seed, data, start, []))
    return []


def _note_sitting(folder: RunFolder, checkpoint: Checkpoint | None, processes: Processes) -> None:
    """Add this start to ``run.json``."""
    samples = 0 if checkpoint is None else checkpoint.progress.samples
    now = sitting(samples, processes=processes.world, device=processes.device.type)
    record = folder.read_record()
    folder.write_record(replace(record, sittings=[*record.sittings, now]))


def _data_used(use: str, tables: Sequence[DataTable], data: DataSets) -> Iterable[DataUsed]:
    for table, print_of in zip(tables, data_fingerprint(tables, data), strict=True):
        annotations = data.all_people(table)
        labels = annotations.labels_by_image.values()
        people = sum(int((~one.is_crowd).sum()) for one in labels)
        with_keypoints = sum(
            int((~one.is_crowd & (one.visibility > 0).any(axis=1)).sum()) for one in labels
        )
        yield DataUsed(
            use=use,
            annotations=table.annotations,
            sha256=print_of.sha256,
            images=table.images,
            weight=table.weight,
            image_count=print_of.image_count,
            image_bytes=print_of.image_bytes,
            people=people,
            with_keypoints=with_keypoints,
        )
