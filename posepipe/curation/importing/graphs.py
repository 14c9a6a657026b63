"""Exported graphs: a list of operations with their constants becomes the weights of a network.

What a runtime exports has lost the names of the network that it came from, and its batch
normalisations are folded into the convolutions before them. But both are the same graph: walked
from the result back to the input, operands in order, they come to the same convolutions in the same
order. Every one's shape, stride, padding and groups are compared on the way.

A graph is a pair of files: NAME.json has "plan", a list of operations ("op", "name", "ins"; an
operand is [name, output], a constant's name begins with "$"), and "outputs"; NAME.safetensors has
the constants.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import torch
from torch import Tensor, fx, nn

from posepipe.errors import WeightsError
from posepipe.zoo.weights import read_state

_CONVOLUTIONS = ("Conv", "Convolution", "GroupConvolution")
_Operand = tuple[str, int]


class Operation(msgspec.Struct, frozen=True):
    """An operation of a graph's plan; fields that other operations have are ignored."""

    op: str
    name: str
    ins: tuple[_Operand, ...] = ()
    strides: tuple[int, int] = (1, 1)
    pads: tuple[int, ...] = (0, 0)
    group: int = 1


class _Plan(msgspec.Struct, frozen=True):
    plan: tuple[Operation, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Convolution:
    """One convolution of a graph, with the addition of a constant that follows it.

    Attributes:
        name: the operation's.
        weight: (out, in / groups, rows, columns) float32.
        bias: (out,) float32.
        strides, pads: of rows and columns.
        groups: of channels.
    """

    name: str
    weight: Tensor
    bias: Tensor
    strides: tuple[int, ...]
    pads: tuple[int, ...]
    groups: int


def is_graph(path: Path) -> bool:
    """Whether a path names a graph: its .json, its .safetensors, or what both names begin with."""
    return all(file.is_file() for file in graph_files(path))


def graph_files(path: Path) -> tuple[Path, Path]:
    """The plan's file and the constants' of a graph that one of them, or their stem, names."""
    base = path.with_suffix("") if path.suffix in (".json", ".safetensors") else path
    return base.with_name(base.name + ".json"), base.with_name(base.name + ".safetensors")


def read_graph(path: Path) -> list[Convolution]:
    """A graph's convolutions in the order in which the results need them.

    Args:
        path: see `is_graph`.

    Raises:
        WeightsError: a file is missing, damaged, or not of a graph.
    """
    file, constants_file = graph_files(path)
    try:
        plan = msgspec.json.decode(file.read_bytes(), type=_Plan)
    except OSError as error:
        raise WeightsError(f"{file} cannot be read: {error.strerror}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise WeightsError(f"{file} is not the plan of a graph: {error}") from None
    constants = read_state(constants_file)
    operations = {operation.name: operation for operation in plan.plan}
    biases = {}
    for operation in plan.plan:
        if operation.op == "Add" and len(operation.ins) == 2:
            (taken, _), (constant, _) = operation.ins
            if constant.startswith("$") and constant[1:] in constants:
                biases[taken] = constants[constant[1:]]
    found = []
    for name in _needed(operations, plan.outputs, file):
        operation = operations[name]
        if operation.op in _CONVOLUTIONS:
            found.append(_convolution(operation, constants, biases, file))
    return found


def put_into(network: nn.Module, convolutions: list[Convolution], source: Path) -> None:
    """Give a network the weights of a graph; batch normalisations become what was folded away.

    A batch normalisation after a convolution keeps a mean of 0 and a variance of 1 and takes over
    the bias, so that in evaluation mode the network computes what the graph computes.

    Args:
        network: whose graph is the same; changed in place.
        convolutions: see `read_graph`.
        source: for messages.

    Raises:
        WeightsError: of another network; names the first convolution that differs.
    """
    own = list(_needed_convolutions(network))
    for (name, module, norm), given in zip(own, convolutions, strict=False):
        expected = (
            *(tuple(module.weight.shape), tuple(module.stride)),
            *(tuple(module.padding), module.groups),
        )
        got = (
            *(tuple(given.weight.shape), given.strides),
            *(given.pads, given.groups),
        )
        if expected != got:
            raise WeightsError(
                f"{source} is of another network: its convolution {given.name!r} has shape, "
                f"stride, padding and groups {got}, {name} has {expected}"
            )
        _fill(module, norm, given)
    if len(own) != len(convolutions):
        raise WeightsError(
            f"{source} is of another network: it has {len(convolutions)} convolutions, not "
            f"{len(own)}"
        )


def _needed(operations: dict[str, Operation], outputs: tuple[str, ...], file: Path) -> list[str]:
    """The operations that the outputs need, each after its operands."""
    order: dict[str, None] = {}
    begun: set[str] = set()
    waiting = [(name, False) for name in reversed(outputs)]
    while waiting:
        name, operands_done = waiting.pop()
        if name in order:
            continue
        if name not in operations:
            raise WeightsError(f"{file} is not the plan of a graph: there is no {name!r} in it")
        if operands_done:
            order[name] = None
            continue
        if name in begun:
            raise WeightsError(f"{file} is not the plan of a graph: {name!r} needs its own result")
        begun.add(name)
        waiting.append((name, True))
        waiting += [
            (operand, False)
            for operand, _ in reversed(operations[name].ins)
            if not operand.startswith("$") and operand not in order
        ]
    return list(order)


def _convolution(
    operation: Operation, constants: dict[str, Tensor], biases: dict[str, Tensor], file: Path
) -> Convolution:
    try:
        weight = constants[operation.ins[1][0].removeprefix("$")].float()
        if len(operation.ins) > 2:
            bias = constants[operation.ins[2][0].removeprefix("$")].float()
        else:
            bias = biases.get(operation.name, weight.new_zeros(1)).float()
    except (KeyError, IndexError):
        raise WeightsError(f"{file}: {operation.name!r} has no constant weights") from None
    groups = operation.group
    if weight.dim() == 5:  # (groups, out / groups, in / groups, rows, columns)
        groups, weight = weight.shape[0], weight.flatten(0, 1)
    bias = bias.flatten().expand(len(weight)) if bias.numel() == 1 else bias.flatten()
    pads = operation.pads[:2]
    return Convolution(operation.name, weight, bias, operation.strides, pads, groups)


def _needed_convolutions(
    network: nn.Module,
) -> Iterator[tuple[str, nn.Conv2d, nn.BatchNorm2d | None]]:
    """The convolutions that the network's results need, each with the norm that follows it."""
    traced = fx.symbolic_trace(network.eval())
    modules = dict(network.named_modules())
    (result,) = (node for node in traced.graph.nodes if node.op == "output")
    order: dict[fx.Node, None] = {}
    waiting = [(result, False)]
    while waiting:
        node, operands_done = waiting.pop()
        if node in order:
            continue
        if operands_done:
            order[node] = None
            continue
        waiting.append((node, True))
        waiting += [(operand, False) for operand in reversed(node.all_input_nodes)]
    for node in order:
        module = modules.get(str(node.target)) if node.op == "call_module" else None
        if isinstance(module, nn.Conv2d):
            after = [modules.get(str(user.target)) for user in node.users]
            norm = after[0] if len(after) == 1 else None
            yield str(node.target), module, norm if isinstance(norm, nn.BatchNorm2d) else None


@torch.no_grad()
def _fill(module: nn.Conv2d, norm: nn.BatchNorm2d | None, given: Convolution) -> None:
    module.weight.copy_(given.weight)
    if norm is not None:
        norm.reset_running_stats()
        nn.init.constant_(norm.weight, math.sqrt(1 + norm.eps))
        norm.bias.copy_(given.bias)
    elif module.bias is not None:
        module.bias.copy_(given.bias)
    elif given.bias.any():
        raise WeightsError(f"{given.name!r} has a bias, the network's convolution none")
