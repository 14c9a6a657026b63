"""Checkpoints as the two public CPN code bases write them, filled with known numbers.

The fill and the images are those of the golden numbers' README, so what a network says with them
is known as well. Names and shapes come from there, too: tests that need them skip without them.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from posepipe.curation.importing.checkpoints import ForeignCheckpoint

GOLDEN = Path(__file__).parents[1] / "../shared/golden"
Arrays = dict[str, np.ndarray]


def u01(seed: int, i: int, n: int) -> np.ndarray:
    """N numbers in [0, 1), the same on every machine."""
    raw = np.random.PCG64(np.random.SeedSequence([seed, i])).random_raw(n)
    return (raw >> np.uint64(11)) * 2.0**-53


def pytorch_value(name: str, shape: list[int], u: np.ndarray) -> np.ndarray:
    if len(shape) == 4:
        return (2 * u - 1) * math.sqrt(6 / math.prod(shape[1:]))
    if name.endswith(("running_mean", ".bias")):
        return (2 * u - 1) * 0.1
    if name.endswith("running_var"):
        return 0.5 + u
    if name.endswith("bn3.weight"):
        return (0.5 + u) * 0.25
    if re.search(r"\.upsamples\.\d\.2\.weight$", name):
        return (0.5 + u) * 0.4
    return 0.5 + u


def tensorflow_value(name: str, shape: list[int], u: np.ndarray) -> np.ndarray:
    if name.endswith("/weights"):
        value = (2 * u - 1) * math.sqrt(6 / math.prod(shape[:3]))
        return value * 0.4 if name.startswith("merge/") else value
    if name.endswith("/conv3/BatchNorm/gamma"):
        return (0.5 + u) * 0.25
    if name.endswith(("/gamma", "/moving_variance")):
        return 0.5 + u
    return (2 * u - 1) * 0.1


def filled(names: Path, seed: int, value: Callable[[str, list[int], np.ndarray], np.ndarray]):
    """The arrays of a file of names, and the SHA-256 of all their bytes."""
    arrays: Arrays = {}
    digest = hashlib.sha256()
    for i, (name, shape, dtype) in enumerate(json.loads(names.read_text(encoding="utf-8"))):
        if dtype == "int64":
            array = np.zeros(shape, np.int64)
        else:
            drawn = value(name, shape, u01(seed, i, math.prod(shape)))
            array = drawn.astype(np.float32).reshape(shape)
        arrays[name] = array
        digest.update(array.tobytes())
    return arrays, digest.hexdigest()


def images(seed: int, height: int = 256, width: int = 192) -> np.ndarray:
    """(2, 3, height, width) uint8, in the colour order of the network."""

    def noise(j: int, grain: int) -> np.ndarray:
        h, w = height // grain, width // grain
        cells = np.floor(u01(seed, 10**6 + j, 6 * h * w) * 256).astype(np.int64)
        return cells.reshape(2, 3, h, w).repeat(grain, axis=2).repeat(grain, axis=3)

    return ((2 * noise(0, 32) + noise(1, 8) + noise(2, 1)) // 4).astype(np.uint8)


def need_golden() -> None:
    if not GOLDEN.is_dir():
        pytest.skip("no ../shared/golden beside the checkout")


def pytorch_arrays(case: str, keys: str, seed: int) -> Arrays:
    need_golden()
    folder = GOLDEN / "pytorch_cpn_net"
    arrays, digest = filled(folder / keys, seed, pytorch_value)
    facts = json.loads((folder / f"{case}.json").read_text(encoding="utf-8"))
    assert digest == facts["weights_sha256"]
    return arrays


def tensorflow_arrays(case: str, names: str, seed: int) -> Arrays:
    need_golden()
    folder = GOLDEN / "tf_cpn_net"
    arrays, digest = filled(folder / names, seed, tensorflow_value)
    facts = json.loads((folder / f"{case}.json").read_text(encoding="utf-8"))
    assert digest == facts["weights_sha256"]
    return arrays


class FakeReader:
    """TensorFlow's reader, without TensorFlow."""

    def __init__(self, arrays: Arrays) -> None:
        self.arrays = arrays
        self.asked: list[str] = []

    def get_variable_to_shape_map(self) -> dict[str, list[int]]:
        return {name: list(array.shape) for name, array in self.arrays.items()}

    def get_tensor(self, name: str) -> np.ndarray:
        self.asked.append(name)
        return self.arrays[name]


def with_slots(arrays: Arrays) -> Arrays:
    """What a training's snapshot holds: the weights, and Adam's numbers beside some of them."""
    slots = {
        f"{name}/{slot}": np.full_like(array, 1e-3)
        for name, array in arrays.items()
        if re.match(r"(refine_out|merge/res2|tmp/res5)/(?!.*moving_)", name)
        for slot in ("Adam", "Adam_1")
    }
    scalars = {name: np.float32(0.5) for name in ("beta1_power", "beta2_power", "Variable")}
    return {**slots, **{k: np.asarray(v) for k, v in scalars.items()}, **arrays}


def save_pytorch(path: Path, arrays: Arrays, *, legacy: bool = True, **more: object) -> Path:
    """A .pth.tar: weights under "state_dict", the epoch and the optimizer's state beside them."""
    state = {name: torch.from_numpy(array) for name, array in arrays.items()}
    content = {"state_dict": state, "epoch": 7, "optimizer": {"state": {}, "param_groups": []}}
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({**content, **more}, path, _use_new_zipfile_serialization=not legacy)
    return path


def in_memory(arrays: Arrays, path: str = "checkpoint.pth.tar") -> ForeignCheckpoint:
    """A PyTorch checkpoint that lies in no file."""
    shapes = {name: array.shape for name, array in arrays.items()}
    return ForeignCheckpoint(
        Path(path), "torch", shapes, lambda name: torch.from_numpy(arrays[name]), (Path(path),)
    )
