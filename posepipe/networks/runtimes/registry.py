"""The runtimes by their names, and which one runs a network.

A runtime is a module of this package with the functions of `Runtime`; it is imported when it is
chosen, since each needs a library of its own.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import get_args

import torch
from torch import nn

from posepipe.errors import MissingDependencyError, OptionError
from posepipe.networks.devices import resolve_device, resolve_precision
from posepipe.networks.normalising import Normalisation
from posepipe.networks.runtimes.base import Placement, Runtime, RuntimeNetwork, first_line
from posepipe.networks.runtimes.export import can_export
from posepipe.networks.runtimes.names import AUTO, TORCH, VARIABLE, RuntimeName
from posepipe.zoo.embedded import OPENVINO, check_numbers


@dataclass(frozen=True)
class Registered:
    """A runtime that is available.

    Attributes:
        imported: imports it.
        library: the package that it needs, and the extra of posepipe that installs it.
    """

    imported: Callable[[], Runtime]
    library: str

    def load(self) -> Runtime:
        """The runtime.

        Raises:
            MissingDependencyError: its package cannot be imported.
        """
        try:
            return self.imported()
        except (ImportError, OSError) as error:  # a library that it needs is missing
            raise MissingDependencyError(
                f"{self.library} is installed, but cannot be imported: {first_line(error)}: "
                f"install it again"
            ) from None

    def runs(self, placement: Placement) -> bool:
        """Whether it is installed, works, and runs networks there and so."""
        with suppress(MissingDependencyError):
            return self.is_installed and not self.load().why_not(placement)
        return False

    @property
    def is_installed(self) -> bool:
        """Whether the package that it needs is installed."""
        return find_spec(self.library) is not None


def _openvino() -> Runtime:
    from posepipe.networks.runtimes import openvino

    return openvino


def _onnxruntime() -> Runtime:
    from posepipe.networks.runtimes import onnxruntime

    return onnxruntime


RUNTIMES: Mapping[str, Registered] = {  # the fastest first, see docs/speed.md
    "openvino": Registered(_openvino, "openvino"),
    "onnxruntime": Registered(_onnxruntime, "onnxruntime"),
}


def place_network(
    runtime: str = AUTO,
    *,
    device: str = "auto",
    precision: str = "auto",
    model: str,
    exports: bool = True,
) -> Placement:
    """Where and how a network runs that torch can run.

    "auto" is what the environment variable ``POSEPIPE_RUNTIME`` says; without it torch on a GPU,
    and on a CPU the first of `RUNTIMES` that is installed and computes in the same number format
    as torch would.

    Args:
        runtime: "auto", "torch" or one of `RUNTIMES`.
        device: see `resolve_device`.
        precision: see `resolve_precision`; "auto" is fp32 for a runtime that has nothing else.
        model: its name, for error messages.
        exports: whether the network can be exported to another runtime than torch.

    Raises:
        OptionError: no such runtime, device or precision here, or not together.
        MissingDependencyError: the runtime is not installed.
    """
    check_runtime(runtime)
    where = resolve_device(device)
    dtype = resolve_precision(precision, where)
    given = _default() if runtime == AUTO else runtime
    if given == AUTO:
        if where.type == "cpu" and exports and can_export():
            for name in RUNTIMES:
                chosen = Placement(name, where, dtype, automatic=True)
                if RUNTIMES[name].runs(chosen):
                    return chosen
        return Placement(TORCH, where, dtype)
    if given == TORCH or (runtime == AUTO and not exports):
        return Placement(TORCH, where, dtype)
    if not exports:
        raise OptionError(
            f"model {model!r} runs in torch alone: its network cannot be exported to {given}: "
            "leave out --runtime"
        )
    needed_by = "" if given == runtime else f"{VARIABLE}={given}"
    return _placed(given, where, dtype, precision, needed_by=needed_by)


def place_file(
    path: Path,
    runtime: str = AUTO,
    *,
    device: str = "auto",
    precision: str = "auto",
) -> Placement:
    """Where and how an exported network runs, which torch cannot run; see `place_network`."""
    check_runtime(runtime)
    where = resolve_device(device)
    dtype = resolve_precision(precision, where)
    if runtime == TORCH:
        raise OptionError(
            f"{path.name} is an exported network, which torch does not run: leave out "
            "--runtime, or name the model that was exported"
        )
    possible = ["openvino"] if path.suffix == OPENVINO else list(RUNTIMES)
    if runtime == AUTO:
        default = _default()
        if default in possible:
            runtime = default
        else:
            exact = {name: Placement(name, where, torch.float32) for name in possible}
            able = [name for name in possible if RUNTIMES[name].runs(exact[name])]
            runtime = next(iter(able or possible[-1:]))
    if runtime not in possible:
        raise OptionError(
            f"{path.name} is OpenVINO's own file, which {runtime} does not run: leave out "
            "--runtime, or export the model to a file that ends in .onnx"
        )
    return _placed(runtime, where, dtype, precision, needed_by=path.name)


def open_network(
    source: Path | bytes,
    placement: Placement,
    *,
    place: str,
    wanted: Sequence[str] = (),
    normalisation: Normalisation | None = None,
    cache: Path | None = None,
) -> RuntimeNetwork:
    """An exported network ready to run: see `Runtime.open`."""
    if isinstance(source, Path) and source.suffix == OPENVINO:
        check_numbers(source)
    runtime = RUNTIMES[placement.runtime].load()
    return runtime.open(
        source,
        place=place,
        placement=placement,
        wanted=wanted,
        normalisation=normalisation,
        cache=cache,
    )


def runtime_version(network: nn.Module) -> str:
    """What computes a network, with its version."""
    return network.version if isinstance(network, RuntimeNetwork) else f"torch {torch.__version__}"


def check_runtime(runtime: str, *, otherwise: str = "no runtime") -> None:
    """Check the name of a runtime.

    Args:
        runtime: the name.
        otherwise: how the error begins.

    Raises:
        OptionError: there is no such runtime.
    """
    if runtime not in get_args(RuntimeName):
        known = ", ".join(get_args(RuntimeName))
        raise OptionError(f"{otherwise} {runtime!r}: use one of {known}")


def _placed(
    runtime: str, where: torch.device, dtype: torch.dtype, precision: str, *, needed_by: str = ""
) -> Placement:
    registered = RUNTIMES[runtime]
    if not registered.is_installed:
        raise MissingDependencyError(
            f"{needed_by or f'the runtime {runtime}'} needs {registered.library}: "
            f"pip install 'posepipe[{registered.library}]'"
        )
    library, chosen = registered.load(), Placement(runtime, where, dtype)
    why_not = library.why_not(chosen)
    if why_not and precision == "auto":
        chosen = Placement(runtime, where, torch.float32)
        why_not = library.why_not(chosen)
    if why_not:
        whose = f" ({needed_by})" if needed_by else ""
        raise OptionError(f"{why_not}{whose}: choose another --runtime, --device or --precision")
    return chosen


def _default() -> str:
    given = os.environ.get(VARIABLE, "") or AUTO
    check_runtime(given, otherwise=f"{VARIABLE} is")
    return given
