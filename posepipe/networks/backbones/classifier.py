"""Weights of a whole classifier put into the backbone that is a part of it."""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import load_file
from torch import nn

from posepipe.errors import WeightsError


def load_classifier_weights(network: nn.Module, name: str, file: Path | None) -> None:
    """Give a backbone its weights from a state dict of the classifier; its last layer is left out.

    Args:
        network: has the classifier's own names; changed in place.
        name: the backbone's, for messages.
        file: safetensors, of any precision; None leaves the weights as they are.

    Raises:
        WeightsError: the file is of another network.
    """
    if file is None:
        return
    wanted = network.state_dict()
    given = {
        key: value.to(wanted[key].dtype)
        for key, value in load_file(file).items()
        if key in wanted and value.shape == wanted[key].shape
    }
    missing = [
        key
        for key in wanted
        if key not in given
        and not key.startswith(("fc.", "classifier."))
        and not key.endswith("num_batches_tracked")
    ]
    if missing:
        raise WeightsError(
            f"{file} is not of backbone {name!r}: {missing[0]} is missing or differs"
        )
    network.load_state_dict(given, strict=False)
