"""The Ray cluster that a run uses: a running one, or one on this machine for the run."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec

from posepipe.errors import MissingDependencyError, OptionError, PosepipeError

# Ray takes code from whoever reaches its ports. With the second variable, which is for systems
# where clusters are not supported, everything that it starts listens on the loopback address.
_OURS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
}
_QUIET = {"log_to_driver": False, "logging_level": "ERROR"}
_SECONDS_TO_ANSWER = 10.0
_STARTS = 3  # each waits for 30 seconds, which may be too short on a busy machine
_CORES_FOR_READERS = 1


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """Where a run takes place, and how that is divided.

    Attributes:
        address: of a running cluster, like "auto" or "ray://head:10001"; None starts one on this
            machine, for the run, which only this machine can reach.
        workers: how many at most; None: as many as the cluster has GPUs or cores for.
        cpus: cores of a worker.
        gpus: GPUs of a worker; 0.5 lets two share one.

    Raises:
        OptionError: a value out of range.
    """

    address: str | None = None
    workers: int | None = None
    cpus: float = 1.0
    gpus: float = 0.0

    def __post_init__(self) -> None:
        if not (self.cpus > 0 and self.gpus >= 0) or (self.workers or 1) < 1:
            raise OptionError(f"a worker needs some of a core, and there must be workers: {self}")


def check_installed() -> None:
    """Check that Ray is installed.

    Raises:
        MissingDependencyError: it is not.
    """
    if find_spec("ray") is None or find_spec("pyarrow") is None:
        raise MissingDependencyError("a run on a cluster needs Ray: pip install 'posepipe[ray]'")


@contextmanager
def joined(cluster: Cluster) -> Iterator[None]:
    """This process as the driver of a cluster; one that is connected already is left as it is.

    Raises:
        MissingDependencyError: Ray is not installed.
        OptionError: there is no cluster at the address.
        PosepipeError: none can be started on this machine.
    """
    check_installed()
    with _environment({} if cluster.address else _OURS):
        import ray  # which reads its environment now

        if ray.is_initialized():
            yield
            return
        if cluster.address:
            _connect(cluster.address)
        else:
            _start()
    try:
        yield
    finally:
        ray.shutdown()


def _connect(address: str) -> None:
    import ray

    try:
        host, _, port = address.rpartition("://")[2].rpartition(":")
        if host and port.isdecimal():  # Ray would try for minutes
            socket.create_connection((host, int(port)), _SECONDS_TO_ANSWER).close()
        ray.init(address=address, **_QUIET)
    except (OSError, OverflowError, RuntimeError, ValueError) as error:
        raise OptionError(
            f"no Ray cluster answers at {address!r} ({_first_line(error)}): check the address, or "
            "start one with `ray start --head`"
        ) from None


def _start() -> None:
    import ray

    from posepipe.networks.resources import usable_cores

    cores = usable_cores() + _CORES_FOR_READERS
    for left in reversed(range(_STARTS)):
        try:
            ray.init(num_cpus=cores, include_dashboard=False, **_QUIET)
            return
        except Exception as error:  # Ray has no class of its own for it
            ray.shutdown()
            if not left:
                raise PosepipeError(
                    f"Ray cannot be started on this machine ({_first_line(error)}): try again, or "
                    "run without a cluster"
                ) from None


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


@contextmanager
def _environment(changes: Mapping[str, str]) -> Iterator[None]:
    """With these variables, where they are not set already."""
    ours = {name: value for name, value in changes.items() if name not in os.environ}
    os.environ.update(ours)
    try:
        yield
    finally:
        for name in ours:
            os.environ.pop(name, None)
