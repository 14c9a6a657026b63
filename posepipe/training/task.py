"""What the training loop asks of what it trains; the loop knows nothing about poses or boxes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor, nn

# Of one batch or part of one, already on the device; only its task looks inside.
Batch = Any


class Task(Protocol):
    """A network with its losses, its samples and its measure.

    Attributes:
        name: "pose" or "detection".
        network: its state_dict is what becomes the model's weights.
        module: what is run, and wrapped for several processes: a batch in; the losses out, and how
            often each keypoint was mined, (K,) int64, or None.
        mined_names: names of what is mined, as many as K; () where nothing is.
        leaves_some_out: whether the losses leave out parameters that learn.
    """

    name: str
    network: nn.Module
    module: nn.Module
    mined_names: tuple[str, ...]
    leaves_some_out: bool

    def train_mode(self) -> None:
        """Put the network into training mode, but for what is frozen."""

    def batches(self, start: int, rank: int, world: int) -> Iterator[Batch]:
        """This process's parts of batches without end, from a sample number of the run on.

        A sample depends on the seed and its number alone.
        """

    def counts(self, batch: Batch) -> dict[str, Tensor]:
        """What each loss of a batch will be divided by, which the labels alone determine.

        Called only where a batch is worked through in parts.
        """

    def validate(self, network: nn.Module, folder: Path | None) -> dict[str, float]:
        """Measure a network of this task's kind.

        Args:
            network: the one that is trained, or a copy of it with averaged weights.
            folder: where images of results go, made if need be; None for no images.

        Returns:
            Metrics by name, the higher the better; the first one decides which weights are best.
            {} where there is nothing to measure on.
        """


def freeze(network: nn.Module, *, stages: int, norm: bool) -> None:
    """Training mode, but for the backbone's first stages and, if asked for, batch normalisations.

    Args:
        network: its attribute ``backbone`` has ``stages``; a backbone that has none to tell
            apart has nothing frozen.
        stages: how many keep weights and statistics.
        norm: whether batch normalisations keep their statistics.
    """
    network.train()
    backbone = getattr(network, "backbone", None)
    for stage in list(getattr(backbone, "stages", []))[:stages]:
        stage.eval().requires_grad_(False)
    if norm:
        for module in network.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
