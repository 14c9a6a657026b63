"""Checkpoints: all that a run needs to go on, in one file that is whole or the earlier one."""

from __future__ import annotations

import io
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch

from posepipe.errors import TrainingError
from posepipe.io.jsonfiles import write_whole

FORMAT = 1


@dataclass
class Progress:
    """Where a run is.

    Attributes:
        samples: so far; the next one's number.
        steps: of the optimiser.
        seconds: spent, over all sittings.
        validated: the number of samples at the last measurement; -1 before the first.
        best: the first metric where it was highest; None before any measurement.
        since: sums since the last measurement: losses by name, "steps", "seconds".
        mined: how often each keypoint was mined since then.
    """

    samples: int = 0
    steps: int = 0
    seconds: float = 0.0
    validated: int = -1
    best: float | None = None
    since: dict[str, float] = field(default_factory=dict)
    mined: list[int] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """The state of a run between two steps.

    What is drawn at random depends on the seed and the sample's number, so that no generator's
    state is in it.

    Attributes:
        progress: where the run is.
        network: state_dict of the network.
        averaged: that of the averaged weights; None where there are none.
        optimiser: state_dict of the optimiser.
    """

    progress: Progress
    network: dict[str, Any]
    averaged: dict[str, Any] | None
    optimiser: dict[str, Any]


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint; the earlier one stays until the new one is whole.

    Raises:
        DocumentError: disk full, no permission, no such folder.
    """
    content = {
        "format": FORMAT,
        "progress": {f.name: getattr(checkpoint.progress, f.name) for f in fields(Progress)},
        "network": checkpoint.network,
        "averaged": checkpoint.averaged,
        "optimiser": checkpoint.optimiser,
    }
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_whole(path, [buffer.getvalue()])


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint, onto the CPU; only numbers and plain containers are read.

    Raises:
        TrainingError: it cannot be read, is damaged, or of another version.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        if content["format"] != FORMAT:
            raise TrainingError(f"{path} is of another version of posepipe: begin a new run")
        return Checkpoint(
            Progress(**content["progress"]),
            content["network"],
            content["averaged"],
            content["optimiser"],
        )
    except TrainingError:
        raise
    except OSError as error:
        raise TrainingError(f"{path} cannot be read: {error.strerror}") from None
    except Exception as error:  # damaged archives raise nearly anything
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise TrainingError(f"{path} is no checkpoint, or damaged: {reason}") from None
