"""Networks exported as a list of operations: the convolutions' weights, by the operations' names.

A graph is two files: NAME.json lists the operations in order (``plan``: each with ``name``, ``op``
and ``ins``, the names of what goes in), NAME.safetensors holds the constants, which ``ins`` names
with a ``$`` before them. Batch normalisations are folded into the convolutions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import torch
from torch import Tensor, nn

from posepipe.errors import WeightsError
from posepipe.zoo.weights import State, read_state

_CONSTANT = "$"


class _Operation(msgspec.Struct):
    name: str
    op: str
    ins: tuple[tuple[str, int], ...]


class _Plan(msgspec.Struct):
    plan: tuple[_Operation, ...]


@dataclass(frozen=True, eq=False)
class Convolution:
    """A convolution of a graph.

    Attributes:
        name: the operation's.
        weight: (out, in / groups, kernel, kernel).
        bias: (out,).
    """

    name: str
    weight: Tensor
    bias: Tensor


def read_convolutions(path: Path) -> list[Convolution]:
    """The convolutions of a graph in the order in which they are run.

    Args:
        path: the graph's .json; its constants lie beside it.

    Raises:
        WeightsError: a file is missing, damaged, or none of a graph of plain convolutions.
    """
    constants = path.with_suffix(".safetensors")
    try:
        plan = msgspec.json.decode(path.read_bytes(), type=_Plan).plan
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror}") from None
    except msgspec.DecodeError as error:
        raise WeightsError(f"{path} is not a list of a network's operations: {error}") from None
    if not constants.is_file():
        raise WeightsError(f"{path} has no constants beside it: {constants} is missing")
    state, found = read_state(constants), []
    for operation in plan:
        if operation.op != "Conv":
            continue
        names = [name.removeprefix(_CONSTANT) for name, _ in operation.ins[1:]]
        if len(names) != 2 or not all(name in state for name in names):
            raise WeightsError(f"{path}: {operation.name!r} has no weight and bias in {constants}")
        found.append(Convolution(operation.name, state[names[0]], state[names[1]]))
    return found


def state_of_convolutions(
    network: nn.Module, layers: Sequence[Convolution], names: Mapping[str, str], source: Path
) -> State:
    """A network's weights out of a graph's; every one of both is used once.

    Args:
        network: of convolutions with biases, without batch normalisations.
        layers: the graph's.
        names: for each of them, by its name, the module of the network that it becomes.
        source: for the error message.

    Raises:
        WeightsError: a convolution too few or too many, or one of another shape; names the first.
    """
    of_another = f"{source} is of another network"
    state: State = {}
    for layer in layers:
        module = names[layer.name]
        state |= {f"{module}.weight": layer.weight.float(), f"{module}.bias": layer.bias.float()}
    wanted = network.state_dict()
    for key, tensor in wanted.items():
        if key not in state:
            raise WeightsError(f"{of_another}: it has nothing for {key!r}")
        if state[key].shape != tensor.shape:
            raise WeightsError(
                f"{of_another}: {key!r} has shape {tuple(state[key].shape)}, "
                f"{tuple(tensor.shape)} is needed"
            )
        if not torch.isfinite(state[key]).all():
            raise WeightsError(f"{source}: {key!r} has numbers that are not finite")
    unknown = next((key for key in state if key not in wanted), None)
    if unknown is not None:
        raise WeightsError(f"{of_another}: it has {unknown!r}, which there is no use for")
    return state
