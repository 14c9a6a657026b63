"""What every pose network predicts in training."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class TrainingHeatmaps(NamedTuple):
    """What a pose network predicts in training.

    Attributes:
        levels: intermediate predictions (B, K, h, w), all of one stride: GlobalNet's from C2 to C5,
            or a stacked hourglass's of all stages but the last; [] where there are none.
        refined: the final prediction (B, K, h, w), the one that keypoints are mined in; None for
            GlobalNet alone, whose prediction is that of C2.
    """

    levels: list[Tensor]
    refined: Tensor | None
