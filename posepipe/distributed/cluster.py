"""The Ray cluster that a run uses: a running one, or one on this machine for the run."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec

from posepipe.errors import MissingDependencyError, OptionError

# Ray takes code from whoever reaches its ports. With the second variable, which is for systems
# where clusters are not supported, everything that it starts listens on the loopback address.
_OURS = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
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
    """
    check_installed()
    with _environment({} if cluster.address else _OURS):
        import ray  # which reads its environment now

        if ray.is_initialized():
            yield
            return
        quiet = {"log_to_driver": False, "logging_level": "ERROR"}
        if cluster.address:
            try:
                ray.init(address=cluster.address, **quiet)
            except (ConnectionError, RuntimeError, ValueError) as error:
                reason = (str(error).splitlines() or [type(error).__name__])[0]
                raise OptionError(
                    f"no Ray cluster answers at {cluster.address!r} ({reason}): check the address, "
                    "or start one with `ray start --head`"
                ) from None
        else:
            from posepipe.networks.resources import usable_cores

            ray.init(num_cpus=usable_cores() + _CORES_FOR_READERS, include_dashboard=False, **quiet)
    try:
        yield
    finally:
        ray.shutdown()


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
