"""Exported networks kept from run to run: in the cache of models, by what they were made of.

``POSEPIPE_CACHE/exported/NAME/KEY/`` holds one network, ``network.onnx`` with the SHA-256 of its
bytes in ``network.onnx.sha256``, and whatever the runtime compiles of it. A cache that cannot be
written is no error: then the network is exported anew each time.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import nn

from posepipe.errors import PosepipeError, WeightsError
from posepipe.io.jsonfiles import write_whole
from posepipe.networks.normalising import Normalisation
from posepipe.networks.runtimes.base import Placement, RuntimeNetwork
from posepipe.networks.runtimes.export import Exportable, check_equal, to_onnx
from posepipe.networks.runtimes.names import TORCH
from posepipe.networks.runtimes.registry import open_network
from posepipe.zoo.cache import cache_folder

_FILE = "network.onnx"
_KEPT = 4  # networks of one name


def in_runtime(
    name: str,
    made_of: Mapping[str, Any],
    placement: Placement,
    make: Callable[[], Exportable],
    *,
    normalisation: Normalisation | None = None,
) -> tuple[nn.Module, Placement]:
    """A network where it is to run, and where that is.

    Another runtime than torch gets it exported, now or before. A network that cannot be exported or
    run there, or gives other numbers in fp32, stays in torch if its placement is automatic.

    Args:
        name: of its model.
        made_of: what decides what the network computes, for msgspec to encode: its weights'
            SHA-256, the tables of its recipe. torch's version and the code of the networks are
            added here.
        placement: where and how it runs.
        make: gives the network, with its weights, where it has to be exported or runs in torch.
        normalisation: see `Runtime.open`; a network in torch takes normalised images all the same.

    Raises:
        MissingDependencyError: it has to be exported, and the package onnx is not installed.
        OptionError: it cannot be exported, or gives other numbers then.
        PosepipeError: what `make` raises.
    """
    if placement.runtime == TORCH:
        return make().network, placement
    try:
        return _exported(name, made_of, placement, make, normalisation), placement
    except PosepipeError:  # what is wrong with the model itself is wrong in torch, too
        if not placement.automatic:
            raise
    return make().network, placement.in_torch


def _exported(
    name: str,
    made_of: Mapping[str, Any],
    placement: Placement,
    make: Callable[[], Exportable],
    normalisation: Normalisation | None,
) -> RuntimeNetwork:
    parts = {**made_of, "torch": str(torch.__version__), "code": _code()}
    text = msgspec.json.encode(parts, order="deterministic")
    folder = cache_folder() / "exported" / name / hashlib.sha256(text).hexdigest()[:32]
    content = _kept(folder)
    if content is not None:
        with suppress(WeightsError):  # an older library, which does not know what is in it
            place = str(folder / _FILE)
            return open_network(
                content, placement, place=place, normalisation=normalisation, cache=folder
            )
    exportable = make()
    content = to_onnx(exportable)
    exact = replace(placement, dtype=torch.float32)
    check_equal(exportable, open_network(content, exact, place=name), exact, name)
    stored = folder if _keep(folder, content) else None
    return open_network(content, placement, place=name, normalisation=normalisation, cache=stored)


def _kept(folder: Path) -> bytes | None:
    """The network in a folder of the cache; None where there is none, or a damaged one."""
    with suppress(OSError, ValueError):
        content = (folder / _FILE).read_bytes()
        if hashlib.sha256(content).hexdigest() == _sum_of(folder).read_text("ascii").strip():
            with suppress(OSError):  # a cache that only others may write
                os.utime(folder)  # `_keep` puts out those unused for longest
            return content
    return None


def _keep(folder: Path, content: bytes) -> bool:
    """Put a network into the cache and drop those unused for longest; whether it is there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / _FILE, [content])
        write_whole(_sum_of(folder), [hashlib.sha256(content).hexdigest().encode()])
        others = [other for other in folder.parent.iterdir() if other != folder]
        others.sort(key=lambda other: other.stat().st_mtime, reverse=True)
        for other in others[_KEPT - 1 :]:
            shutil.rmtree(other, ignore_errors=True)
    except (OSError, PosepipeError):
        return False
    return True


def _sum_of(folder: Path) -> Path:
    return folder / f"{_FILE}.sha256"


@cache
def _code() -> str:
    """The SHA-256 of the code that networks are made of."""
    root = Path(__file__).parents[2]
    digest = hashlib.sha256()
    for part in ("networks", "pose/networks", "detection"):
        for file in sorted((root / part).rglob("*.py")):
            digest.update(file.read_bytes())
    return digest.hexdigest()
