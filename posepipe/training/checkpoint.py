"""Checkpoints: all that a run needs to go on, in files that end with their own checksum.

A run folder keeps the last two, ``checkpoint-N.pt`` after N samples. None of torch's own checks
finds a flipped bit among the numbers.
"""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch

from posepipe.errors import TrainingError
from posepipe.io.jsonfiles import write_whole
from posepipe.zoo.weights import damage

FORMAT = 2
_MARK = b"\nsha256 "  # and 64 hexadecimal digits: of all that comes before
_TAIL = len(_MARK) + 64
_FORMAT_WITHOUT_CHECKSUM = 1


@dataclass
class TrainingProgress:
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

    What is drawn at random depends only on the seed and the sample's number, so no generator's
    state is in it.

    Attributes:
        progress: where the run is.
        network: state_dict of the network.
        averaged: that of the averaged weights; None where there are none.
        optimiser: state_dict of the optimiser.
    """

    progress: TrainingProgress
    network: dict[str, Any]
    averaged: dict[str, Any] | None
    optimiser: dict[str, Any]


def checkpoints_of(folder: Path) -> list[Path]:
    """A run's checkpoints, the latest first."""
    found = [path for path in folder.glob("checkpoint*.pt") if _samples_of(path) is not None]
    return sorted(found, key=lambda path: _samples_of(path) or 0, reverse=True)


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint; of the others, only the one before it stays.

    Raises:
        DocumentError: disk full, no permission, no such folder; the others all stay.
    """
    content = {
        "format": FORMAT,
        "progress": {
            f.name: getattr(checkpoint.progress, f.name) for f in fields(TrainingProgress)
        },
        "network": checkpoint.network,
        "averaged": checkpoint.averaged,
        "optimiser": checkpoint.optimiser,
    }
    buffer = io.BytesIO()
    torch.save(content, buffer)
    digest = hashlib.sha256(buffer.getbuffer()).hexdigest().encode()
    samples = checkpoint.progress.samples
    path = folder / f"checkpoint-{samples:012d}.pt"
    write_whole(path, [buffer.getbuffer(), _MARK, digest])
    # Later ones are damaged, or this would not go on from an earlier one.
    before = [other for other in checkpoints_of(folder) if (_samples_of(other) or 0) < samples]
    for other in checkpoints_of(folder):
        if other not in (path, *before[:1]):
            other.unlink()


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint, onto the CPU; only numbers and plain containers are read.

    Raises:
        TrainingError: it cannot be read, is damaged, or is from another version.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise TrainingError(f"{path} cannot be read: {error.strerror}") from None
    has_checksum = data[-_TAIL:].startswith(_MARK)
    saved = memoryview(data)[:-_TAIL] if has_checksum else data
    if has_checksum and hashlib.sha256(saved).hexdigest().encode() != data[-64:]:
        raise TrainingError(f"{path} is damaged: it is not what its checksum says")
    try:
        content = torch.load(io.BytesIO(saved), map_location="cpu", weights_only=True)
        version = content["format"]
        if version not in (FORMAT, _FORMAT_WITHOUT_CHECKSUM):
            raise TrainingError(f"{path} is from another version of posepipe: begin a new run")
        if version == FORMAT and not has_checksum:
            raise TrainingError(f"{path} is damaged: its end is missing")
        return Checkpoint(
            TrainingProgress(**content["progress"]),
            content["network"],
            content["averaged"],
            content["optimiser"],
        )
    except TrainingError:
        raise
    except Exception as error:  # damaged archives raise nearly anything
        raise TrainingError(f"{path} is not a checkpoint, or damaged: {damage(error)}") from None


def _samples_of(path: Path) -> int | None:
    """The number of a checkpoint's file; "checkpoint.pt", of earlier versions, comes first."""
    number = path.stem.removeprefix("checkpoint").removeprefix("-")
    return -1 if not number else int(number) if number.isdecimal() else None
