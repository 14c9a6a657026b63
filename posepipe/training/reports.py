"""What a training run reports while it is under way."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass


@dataclass(frozen=True)
class Measured:
    """What a measurement gave.

    Attributes:
        metrics: by name; the first one decides.
        is_best: whether these weights are the best so far.
        mined: the share of each keypoint among those mined since the last measurement.
    """

    metrics: dict[str, float]
    is_best: bool
    mined: dict[str, float]


@dataclass(frozen=True)
class Report:
    """How a run is doing.

    Attributes:
        samples: seen so far.
        of: the length of the run.
        losses: of the latest step, by name.
        learning_rate: of the latest step.
        samples_per_second: over the latest steps.
        seconds_left: until the end of the run at this rate.
        measured: the measurement, if there was one just now.
    """

    samples: int
    of: int
    losses: dict[str, float]
    learning_rate: float
    samples_per_second: float
    seconds_left: float
    measured: Measured | None = None


class Speed:
    """Samples per second over the latest steps; measurements do not count."""

    def __init__(self) -> None:
        self._times: deque[tuple[float, int]] = deque(maxlen=50)

    def note(self, samples: int) -> None:
        """Note how many samples have been seen by now."""
        self._times.append((time.monotonic(), samples))

    @property
    def samples_per_second(self) -> float:
        """Over the latest 50 steps; 0 until there are two."""
        if len(self._times) < 2:
            return 0.0
        (begun, first), (ended, last) = self._times[0], self._times[-1]
        return (last - first) / max(ended - begun, 1e-9)
