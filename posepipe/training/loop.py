"""The training loop: steps, measurements and checkpoints of any task, in one process or several."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from posepipe.errors import TrainingError
from posepipe.networks.devices import resolve_precision
from posepipe.training.checkpoint import Checkpoint, TrainingProgress
from posepipe.training.metrics import METRICS_FILE, MINED_FILE, MetricsLog
from posepipe.training.optimiser import average_into, build_optimiser, learning_rate
from posepipe.training.order import check_batch
from posepipe.training.processes import Processes
from posepipe.training.reports import Measured, Report, Speed
from posepipe.training.run_folder import RunFolder
from posepipe.training.tables import TrainingTable
from posepipe.training.task import Batch, Task

# Reading a loss makes the CPU wait for a GPU, so there it is read only every few steps.
_STEPS_UNREAD = 10
_STEPS = "steps"  # among the sums of `TrainingProgress.since`; no loss has this name


@dataclass(frozen=True, kw_only=True)
class LoopOptions:
    """What does not shape the weights of a run.

    Attributes:
        minutes: stop after this time, with a checkpoint; None: at the end of the run.
        report: called with how the run is doing, in the first process.
        stop: called between steps: whether to stop with a checkpoint.
    """

    minutes: float | None = None
    report: Callable[[Report], None] = field(default=lambda _: None)
    stop: Callable[[], bool] = field(default=lambda: False)


class Loop:
    """One sitting of a run.

    Args:
        task: what is trained, on the device of `processes`; its weights and those of the optimiser
            become the checkpoint's if there is one.
        table: how.
        processes: this one and the others.
        folder: where everything is kept.
        checkpoint: where to go on.
        options: see `LoopOptions`.

    Raises:
        OptionError: a batch that cannot be divided among processes and parts.
    """

    def __init__(
        self,
        task: Task,
        table: TrainingTable,
        processes: Processes,
        folder: RunFolder,
        *,
        checkpoint: Checkpoint | None = None,
        options: LoopOptions | None = None,
    ) -> None:
        check_batch(table.batch, table.accumulate, processes.world)
        self.task, self.table, self.processes, self.folder = task, table, processes, folder
        self.options = options or LoopOptions()
        self.progress = TrainingProgress(mined=[0] * len(task.mined_names))
        task.train_mode()
        self._averaged = (
            copy.deepcopy(task.network).eval().requires_grad_(False)
            if table.average and processes.is_first
            else None
        )
        self._optimiser = build_optimiser(task.network, table)
        if checkpoint is not None:
            self._go_on_from(checkpoint)
        self._module = processes.wrapped(task.module, some_left_out=task.leaves_some_out)
        self._dtype = resolve_precision(table.precision, processes.device)
        self._unread: list[_Step] = []
        self._mined = torch.zeros(len(task.mined_names), dtype=torch.int64, device=processes.device)
        self._speed = Speed()
        self._log: MetricsLog | None = None

    def run(self) -> TrainingProgress:
        """Train until the end of the run, the end of the time or a request to stop.

        Raises:
            KeyboardInterrupt: asked to stop; a checkpoint is written.
            TrainingError: the loss is no longer a number; the last checkpoint is kept.
            DocumentError: something cannot be written; the last checkpoint is kept.
        """
        progress, table, rank = self.progress, self.table, self.processes.rank
        if self.processes.is_first:
            self._log = MetricsLog(
                self.folder.path, samples=progress.samples, measured=progress.validated
            )
        begun = self._saved = self._counted = time.monotonic()
        batches = self.task.batches(progress.samples, rank, self.processes.world)
        try:
            while True:
                if self._measurement_is_due():
                    self._look()
                    self._measure()
                if progress.samples >= table.samples:
                    return progress
                self._step([next(batches) for _ in range(table.accumulate)])
                on_gpu = self.processes.device.type == "cuda"
                if len(self._unread) < (_STEPS_UNREAD if on_gpu else 1):
                    continue
                self._look()
                minutes_over = (
                    self.options.minutes is not None
                    and time.monotonic() - begun >= 60 * self.options.minutes
                )
                save_due = time.monotonic() - self._saved >= 60 * table.checkpoint_minutes
                stop, over, due = self._any(self.options.stop(), minutes_over, save_due)
                if stop or over or due:
                    self._saved = time.monotonic()
                    self._gather_mined()
                    if self.processes.is_first:
                        self._write_checkpoint()
                if stop:
                    raise KeyboardInterrupt
                if over and progress.samples < table.samples:
                    return progress
        finally:
            close = getattr(batches, "close", None)
            if close is not None:
                close()
            if self._log is not None:
                self._log.close()

    def _step(self, parts: Sequence[Batch]) -> None:
        """One step of the optimiser on this process's parts of a batch."""
        table, progress = self.table, self.progress
        # All randomness of a step depends on its place in the run: resuming needs no states.
        place = np.random.SeedSequence([table.seed, progress.samples, self.processes.rank])
        torch.manual_seed(int(place.generate_state(1, np.uint32)[0]))
        rate = learning_rate(table, progress.samples)
        for group in self._optimiser.param_groups:
            group["lr"] = rate * group["share"]
        self._optimiser.zero_grad(set_to_none=True)
        counts = self._counts_ahead(parts) if len(parts) > 1 else None
        totals: dict[str, Tensor] = {}
        for index, batch in enumerate(parts):
            with self._gradients_exchanged(index == len(parts) - 1):
                with torch.autocast(
                    self.processes.device.type,
                    dtype=self._dtype,
                    enabled=self._dtype != torch.float32,
                ):
                    losses, mined = self._module(batch)
                if counts is None:
                    counts = self._summed({name: part.count for name, part in losses.items()})
                loss = torch.stack(
                    [part.total / counts[name].clamp(min=1) for name, part in losses.items()]
                ).sum()
                # Processes' gradients are averaged, but each one's sums are but a part.
                (loss * self.processes.world).backward()  # type: ignore[no-untyped-call]  # torch's
            for name, part in losses.items():
                total = part.total.detach()
                totals[name] = totals[name] + total if name in totals else total
            if mined is not None:
                self._mined += mined.to(self._mined.device)
        if table.clip:
            torch.nn.utils.clip_grad_norm_(self.task.network.parameters(), table.clip)
        self._optimiser.step()
        assert counts is not None  # noqa: S101  # there is at least one part
        self._unread.append(_Step(progress.samples, rate, totals, counts))
        progress.samples += table.batch
        progress.steps += 1
        if self._averaged is not None:
            average_into(
                self._averaged, self.task.network, decay=table.average, steps=progress.steps
            )

    def _counts_ahead(self, parts: Sequence[Batch]) -> dict[str, Tensor]:
        """The divisors of the losses of a batch that comes in parts."""
        summed: dict[str, Tensor] = {}
        for batch in parts:
            for name, count in self.task.counts(batch).items():
                summed[name] = summed[name] + count if name in summed else count
        return self._summed(summed)

    def _summed(self, values: dict[str, Tensor]) -> dict[str, Tensor]:
        """The sums over all processes."""
        stacked = torch.stack([value.detach().float() for value in values.values()])
        return dict(zip(values, self.processes.sum(stacked), strict=True))

    def _gradients_exchanged(self, now: bool) -> AbstractContextManager[Any]:
        if now or not isinstance(self._module, nn.parallel.DistributedDataParallel):
            return nullcontext()
        context: AbstractContextManager[Any] = self._module.no_sync()
        return context

    def _any(self, *flags: bool) -> list[bool]:
        """For each flag, whether it is up in any process."""
        raised = torch.tensor(flags, dtype=torch.float32, device=self.processes.device)
        return [value > 0 for value in self.processes.sum(raised).tolist()]

    def _look(self) -> None:
        """Read the losses of the latest steps and report them.

        Raises:
            TrainingError: one of them is not a number.
        """
        now = time.monotonic()
        self.progress.seconds, self._counted = (
            self.progress.seconds + now - self._counted,
            now,
        )
        if not self._unread:
            return
        steps, self._unread = self._unread, []
        names = list(steps[0].totals)
        totals = torch.stack([torch.stack(list(step.totals.values())) for step in steps])
        counts = torch.stack([torch.stack(list(step.counts.values())) for step in steps])
        means = (self.processes.sum(totals.float()) / counts.clamp(min=1)).tolist()
        for step, row in zip(steps, means, strict=True):
            if not all(map(math.isfinite, row)):
                raise TrainingError(
                    f"the loss of samples {step.samples} to {step.samples + self.table.batch - 1} "
                    f"is not a number ({', '.join(names)}: {', '.join(map(str, row))}): lower "
                    "training.learning_rate or set training.clip; "
                    f"{self.folder.path} keeps the checkpoint from before"
                )
            self._note(step, dict(zip(names, row, strict=True)))

    def _note(self, step: _Step, losses: dict[str, float]) -> None:
        since = self.progress.since
        for name, value in losses.items():
            since[name] = since.get(name, 0.0) + value
            if self._log is not None:
                self._log.curve(f"loss/{name}", value, step.samples)
        since[_STEPS] = since.get(_STEPS, 0.0) + 1
        if self._log is not None:
            self._log.curve("learning_rate", step.learning_rate, step.samples)
        if self.processes.is_first:
            self._speed.note(step.samples + self.table.batch)
            samples, rate = step.samples + self.table.batch, self._speed.samples_per_second
            left = max(self.table.samples - samples, 0) / rate if rate else math.inf
            self.options.report(
                Report(samples, self.table.samples, losses, step.learning_rate, rate, left)
            )

    def _measurement_is_due(self) -> bool:
        progress, every = self.progress, self.table.validate_every
        if progress.samples >= self.table.samples:
            return progress.validated < progress.samples
        return every > 0 and progress.samples // every > max(progress.validated, 0) // every

    def _measure(self) -> None:
        """Measure, keep the best weights and the figures; a checkpoint before and after."""
        progress = self.progress
        self._gather_mined()
        if self.processes.is_first:
            self._write_checkpoint()
            metrics = self.task.validate(
                self._evaluated, self.folder.images / f"{progress.samples:09d}"
            )
            self.task.train_mode()
            score = next(iter(metrics.values()), None)
            is_best = score is not None and (progress.best is None or score > progress.best)
            if is_best:
                progress.best = score
                self.folder.keep_best(self._evaluated)
            shares = {
                name: times / max(sum(progress.mined), 1)
                for name, times in zip(self.task.mined_names, progress.mined, strict=True)
            }
            self._write_rows(metrics, shares)
        progress.validated = progress.samples
        progress.since, progress.mined = {}, [0] * len(progress.mined)
        if self.processes.is_first:
            self._write_checkpoint()
            self._speed = Speed()
            measured = Measured(metrics, is_best, shares)
            self.options.report(
                Report(
                    samples=progress.samples,
                    of=self.table.samples,
                    losses={},
                    learning_rate=self._rate_of_last_step,
                    samples_per_second=0.0,
                    seconds_left=math.inf,
                    measured=measured,
                )
            )

    @property
    def _rate_of_last_step(self) -> float:
        return float(self._optimiser.param_groups[0]["lr"])

    def _write_rows(self, metrics: dict[str, float], shares: dict[str, float]) -> None:
        assert self._log is not None  # noqa: S101  # the first process has one
        samples, since = self.progress.samples, self.progress.since
        steps = max(since.get(_STEPS, 0.0), 1.0)
        row = {
            "minutes": self.progress.seconds / 60,
            "learning_rate": self._rate_of_last_step,
            **{name: total / steps for name, total in since.items() if name != _STEPS},
            **metrics,
        }
        self._log.row(METRICS_FILE, samples, row)
        if shares:
            self._log.row(MINED_FILE, samples, shares)
        for name, value in {**metrics, **{f"mined/{k}": v for k, v in shares.items()}}.items():
            self._log.curve(name, value, samples)

    def _gather_mined(self) -> None:
        """Add how often each keypoint was mined, in all processes, to the progress."""
        if len(self._mined):
            taken = self.processes.sum(self._mined.clone()).tolist()
            self._mined.zero_()
            self.progress.mined = [a + b for a, b in zip(self.progress.mined, taken, strict=True)]

    @property
    def _evaluated(self) -> nn.Module:
        return self.task.network if self._averaged is None else self._averaged

    def _write_checkpoint(self) -> None:
        """The state of this moment, and its weights as a file of their own."""
        state = Checkpoint(
            self.progress,
            self.task.network.state_dict(),
            None if self._averaged is None else self._averaged.state_dict(),
            self._optimiser.state_dict(),
        )
        self.folder.save(state, self._evaluated)

    def _go_on_from(self, checkpoint: Checkpoint) -> None:
        self.progress = copy.deepcopy(checkpoint.progress)
        self.task.network.load_state_dict(checkpoint.network)
        if self._averaged is not None and checkpoint.averaged is not None:
            self._averaged.load_state_dict(checkpoint.averaged)
        self._optimiser.load_state_dict(checkpoint.optimiser)


@dataclass(frozen=True, eq=False)
class _Step:
    """A step whose losses are not read yet: its first sample's number, sums and their divisors."""

    samples: int
    learning_rate: float
    totals: dict[str, Tensor]
    counts: dict[str, Tensor]
