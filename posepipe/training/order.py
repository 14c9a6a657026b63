"""Which sample comes when: worked out from its number alone, so that any place can be resumed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from posepipe.errors import OptionError

BLOCK = 1000  # sets are mixed in blocks of this many samples, by whole numbers of each

# The last word of a seed says what is drawn. It is never 0: numpy takes [a, b] and [a, b, 0, 0]
# for the same seed, and [seed, number] is what a sample's own random numbers come from.
_MIXTURE, _EPOCH = 1, 2


class SampleOrder:
    """The endless order of a run's samples: sets mixed by their shares, each in shuffled epochs.

    Nothing is remembered: sample `number` of the run is a function of (seed, number), whichever
    process asks, and whatever was asked before.

    In every block of 1,000 samples each set comes as often as its share says, to the nearest
    thousandth but at least once, in random order. Everybody of a set comes once before anybody of
    it comes again.

    >>> order = SampleOrder([3, 50], [1, 1], seed=0)
    >>> sorted(item for which, item in map(order, range(1000)) if which == 0)[166:168]
    [0, 1]
    """

    def __init__(self, sizes: Sequence[int], shares: Sequence[float], seed: int) -> None:
        """Make the order.

        Args:
            sizes: how many samples each set has.
            shares: how often each set is drawn, relative to the others; 0 for never.
            seed: of the run, 0 or more.

        Raises:
            OptionError: no set, an invalid share, or a set to draw from that is empty.
        """
        self.sizes, self.seed = tuple(sizes), seed
        self._per_block = _whole_shares(self.sizes, shares)

    def __call__(self, number: int) -> tuple[int, int]:
        """The set and the item of it that come as sample `number` of the run, from 0 on."""
        block, place = divmod(number, BLOCK)
        which, rank = _mixture(self._per_block, self.seed, block)
        chosen = int(which[place])
        turn = block * self._per_block[chosen] + int(rank[place])
        epoch, position = divmod(turn, self.sizes[chosen])
        return chosen, int(_epoch(self.sizes[chosen], self.seed, chosen, epoch)[position])


def sample_generator(seed: int, number: int) -> np.random.Generator:
    """What everything random about sample `number` of a run is drawn from."""
    return np.random.default_rng([seed, number])


def _whole_shares(sizes: Sequence[int], shares: Sequence[float]) -> tuple[int, ...]:
    """How many of a block's samples each set gives; they add up to the block."""
    weights = np.asarray(shares, dtype=np.float64)
    if len(sizes) != len(weights) or not 1 <= len(weights) <= BLOCK:
        raise OptionError(
            f"{len(sizes)} data sets with {len(weights)} weights: name 1 to {BLOCK} sets, and one "
            "weight for each"
        )
    if not (np.isfinite(weights).all() and (weights >= 0).all() and weights.sum() > 0):
        raise OptionError(
            f"the data sets' weights are {weights.tolist()}: they must be 0 or more, some above 0"
        )
    for place, (size, weight) in enumerate(zip(sizes, weights, strict=True)):
        if weight > 0 and size == 0:
            raise OptionError(
                f"data set {place + 1} of {len(sizes)} has nothing to learn from: leave it out, or "
                "give it the weight 0"
            )
    exact = weights / weights.sum() * BLOCK
    counts = np.where(weights > 0, np.maximum(np.floor(exact), 1), 0).astype(int)
    while (missing := BLOCK - counts.sum()) != 0:  # those farthest from their share change first
        step = 1 if missing > 0 else -1
        may = (weights > 0) & (counts + step > 0)
        counts[int(np.where(may, step * (exact - counts), -np.inf).argmax())] += step
    return tuple(counts.tolist())


@lru_cache(maxsize=16)
def _mixture(
    per_block: tuple[int, ...], seed: int, block: int
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """(1000,) the set of each sample of a block, and how many of that set came before in it."""
    which = np.repeat(np.arange(len(per_block)), per_block)
    if len(per_block) > 1:
        np.random.default_rng([seed, block, 0, _MIXTURE]).shuffle(which)
    rank = np.empty(BLOCK, np.intp)
    for chosen, count in enumerate(per_block):
        rank[which == chosen] = np.arange(count)
    return which, rank


@lru_cache(maxsize=32)
def _epoch(size: int, seed: int, chosen: int, epoch: int) -> npt.NDArray[np.int64]:
    """(size,) the order of a set's samples in one epoch."""
    return np.random.default_rng([seed, chosen, epoch, _EPOCH]).permutation(size)


def check_batch(batch: int, accumulate: int, world: int) -> None:
    """Check that a batch can be shared evenly by all parts of all processes.

    Raises:
        OptionError: it cannot.
    """
    parts = world * accumulate
    if batch < 1 or parts < 1 or batch % parts:
        raise OptionError(
            f"training.batch = {batch} cannot be divided by {parts}: training.accumulate = "
            f"{accumulate} times {world} process{'es' if world > 1 else ''}"
        )


def part_numbers(start: int, batch: int, accumulate: int, rank: int, world: int) -> Iterator[range]:
    """The sample numbers of each part of a batch that one process works through, without end.

    Args:
        start: the first batch's first sample.
        batch: samples per step, over all processes; a multiple of `world` times `accumulate`.
        accumulate: parts per step and process.
        rank: which process.
        world: how many there are.

    >>> import itertools
    >>> list(itertools.islice(part_numbers(0, batch=8, accumulate=2, rank=1, world=2), 3))
    [range(4, 6), range(6, 8), range(12, 14)]
    """
    size = batch // (world * accumulate)
    first = start + rank * size * accumulate
    while True:
        for part in range(accumulate):
            yield range(first + part * size, first + (part + 1) * size)
        first += batch
