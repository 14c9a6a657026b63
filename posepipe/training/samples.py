"""What a pose network learns from: labelled people in pictures, drawn in some proportion."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from posepipe.core.shapes import checked


@dataclass(frozen=True, eq=False)
class PoseSample:
    """One labelled person.

    Attributes:
        pixels: (H, W, 3) uint8 RGB, the whole picture, shared among its people.
        box_xyxy: (4,) float64 pixels.
        keypoints_xy: (K, 2) float64 pixels of the picture.
        weights: (K,) float64: 0 where not labelled, 1 where labelled by a person, between for
            keypoints that another network labelled.
        area: square pixels, for OKS.
    """

    pixels: npt.NDArray[np.uint8]
    box_xyxy: npt.NDArray[np.float64]
    keypoints_xy: npt.NDArray[np.float64]
    weights: npt.NDArray[np.float64]
    area: float

    def __post_init__(self) -> None:
        fields = {
            "box_xyxy": checked("box_xyxy", self.box_xyxy, (4,), np.float64),
            "keypoints_xy": checked("keypoints_xy", self.keypoints_xy, ("K", 2), np.float64),
            "weights": checked("weights", self.weights, (len(self.keypoints_xy),), np.float64),
        }
        for name, array in fields.items():
            object.__setattr__(self, name, array)


def draw_forever(
    sets: Sequence[Sequence[PoseSample]], shares: Sequence[float], generator: np.random.Generator
) -> Iterator[PoseSample]:
    """Samples without end: a set by its share, then the next person of that set's shuffled order.

    Args:
        sets: the data sets, none of them empty.
        shares: how often each set is drawn, relative to the others.
        generator: the only source of randomness.
    """
    probabilities = np.asarray(shares, dtype=np.float64) / np.sum(shares)
    orders = [_endless_order(len(samples), generator) for samples in sets]
    while True:
        chosen = int(generator.choice(len(sets), p=probabilities))
        yield sets[chosen][next(orders[chosen])]


def _endless_order(length: int, generator: np.random.Generator) -> Iterator[int]:
    while True:
        yield from generator.permutation(length).tolist()
