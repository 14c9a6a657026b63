"""Weights files: found, read safely, and put into networks.

A pickle can run any code when it is read, so a weights file from a stranger is never unpickled
freely: ``.safetensors`` holds numbers alone, ``.pth`` is read by torch's weights-only reader, and
``.pkl`` (detectron2's model zoo) by a reader that knows arrays and plain containers and nothing
else (`posepipe.zoo.pickles`).
"""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from posepipe.errors import PosepipeError, WeightsError
from posepipe.io.checksums import sha256_of
from posepipe.zoo.cache import weights_by_name
from posepipe.zoo.embedded import is_exported
from posepipe.zoo.pickles import TORCH_NAMES, PickledArray, read_pickle
from posepipe.zoo.recipe import WEIGHTS_FILES, Recipe

StateDict = dict[str, torch.Tensor]
# Of a batch normalisation's training; weights saved from a frozen one lack it.
_COUNTER = "num_batches_tracked"


def find_weights(recipe: Recipe, weights: str | Path | None = None) -> tuple[Path, str]:
    """The weights file of a model and its SHA-256.

    The named one, else the one beside the recipe, else the one in the cache, which is fetched
    there on first use if the recipe says from where (`posepipe.zoo.cache`).

    Args:
        recipe: the model's.
        weights: a file, or a folder that has one under a name that goes with the recipe.

    Raises:
        WeightsError: there is none, or its SHA-256 is not the recipe's.
        DownloadError: it cannot be fetched, or may not be.
    """
    if weights is None:
        return weights_by_name(recipe)
    path = Path(weights)
    if path.is_dir():
        names = [*WEIGHTS_FILES, *filter(None, [recipe.weights.file_name])]
        found = next((path / name for name in names if (path / name).is_file()), None)
        if found is None:
            raise WeightsError(f"{path} has no weights file: {', '.join(names)}")
        path = found
    if not path.is_file():
        raise WeightsError(f"no weights file {path}")
    return path, sha256_of(path)


def exported_file(recipe: Recipe, weights: str | Path | None = None) -> Path | None:
    """The exported network that stands for a model's weights, if one does."""
    named = weights if weights is not None else recipe.exported
    return Path(named) if named is not None and is_exported(Path(named)) else None


def read_state(path: Path) -> StateDict:
    """The named tensors of a .safetensors, .pth or .pkl file, on the CPU.

    A ``.pth`` or ``.pkl`` may have them under a key "model", as training checkpoints and
    detectron2's zoo do.

    Raises:
        WeightsError: another kind of file, a damaged one, or one with more than arrays in it.
    """
    readers: dict[str, Callable[[Path], Any]] = {
        ".safetensors": load_file,
        ".pth": read_torch,
        ".pt": read_torch,
        ".pkl": read_pickle,
    }
    reader = readers.get(path.suffix)
    if reader is None:
        known = ", ".join(readers)
        raise WeightsError(f"{path} is not a weights file that can be read: use one of {known}")
    return without_wrappers(named_tensors(read_content(path, reader), path, within="model"))


def without_wrappers(state: StateDict) -> StateDict:
    """The state without what torch.compile, several GPUs and trainers put before every key.

    >>> list(without_wrappers({"module.module.conv.weight": torch.zeros(1)}))
    ['conv.weight']
    """
    for wrapper in ("model.", "module.", "module.", "_orig_mod."):
        if state and all(key.startswith(wrapper) for key in state):
            state = {key.removeprefix(wrapper): tensor for key, tensor in state.items()}
    return state


def read_content(path: Path, reader: Callable[[Path], Any]) -> Any:
    """What a reader makes of a file.

    Raises:
        WeightsError: the file is damaged or holds more than weights; in one line.
    """
    try:
        return reader(path)
    except PosepipeError:
        raise
    except (pickle.UnpicklingError, SafetensorError) as error:
        reason = damage(error)
        raise WeightsError(f"{path} is damaged or holds more than weights: {reason}") from None
    except Exception as error:
        # Damaged pickles and archives raise nearly anything: EOFError, IndexError, RuntimeError, …
        raise WeightsError(f"{path} cannot be read as weights: {damage(error)}") from None


def damage(error: Exception) -> str:
    """What a reader says about a damaged file, in a few words.

    torch goes on about its innards, and about how to read the file without any safety: never
    repeated.
    """
    text = str(error)
    if unsafe := re.search(r"GLOBAL (\S+)", text):
        return f"it asks for {unsafe[1][:100]}"
    reason = (text or type(error).__name__).splitlines()[0]
    if isinstance(error, KeyError):  # an opcode that there is not
        return "what it holds makes no sense"
    if "zip archive" in reason:
        return "its archive is damaged, or the end of it is missing"
    if "weights_only" in text:
        return "what it holds makes no sense"
    return reason[:200]


def named_tensors(content: Any, path: Path, *, within: str) -> StateDict:
    """The named tensors of a file's content, which may have them under a key.

    Raises:
        WeightsError: it holds something other than arrays by name.
    """
    if isinstance(content, Mapping) and isinstance(content.get(within), Mapping):
        content = content[within]
    if not isinstance(content, Mapping):
        raise WeightsError(f"{path} holds a {type(content).__name__}, not named weights")
    return {str(key): _as_tensor(path, str(key), value) for key, value in content.items()}


def fit_state(
    network: nn.Module,
    state: StateDict,
    source: Path,
    *,
    ignored: Iterable[str] = (),
    kept: Collection[str] = (),
) -> None:
    """Put weights into a network, in place; half precision ones are converted to the network's.

    Args:
        network: receives the weights.
        state: as `read_state` gives them.
        source: for the error message.
        ignored: key prefixes that the file may have and the network does not use.
        kept: keys that stay as they are in the network where the file's have another shape.

    Raises:
        WeightsError: a key is missing, unknown or of another shape, or has a number that is not
            finite; names the first.
    """
    wanted = {
        key: tensor
        for key, tensor in network.state_dict().items()
        if key in state or not key.endswith(_COUNTER)
    }
    at_random = {key for key in kept if key in state and state[key].shape != wanted[key].shape}
    wanted = {key: tensor for key, tensor in wanted.items() if key not in at_random}
    for key, tensor in wanted.items():
        if key not in state:
            raise WeightsError(f"{source} is of another network: it has no {key!r}")
        if state[key].shape != tensor.shape:
            raise WeightsError(
                f"{source} is of another network: {key!r} has shape {tuple(state[key].shape)}, "
                f"{tuple(tensor.shape)} is needed"
            )
    for key in state:
        known = key in wanted or key in at_random or key.endswith(_COUNTER)
        if not (known or key.startswith(tuple(ignored))):
            raise WeightsError(f"{source} is of another network: {key!r} is unknown to it")
    fitting = {key: state[key].to(tensor.dtype) for key, tensor in wanted.items()}
    for key, tensor in fitting.items():
        if not tensor.isfinite().all():
            raise WeightsError(
                f"{source}: {key!r} has numbers that are not finite: the file is damaged, or its "
                "training failed"
            )
    network.load_state_dict(fitting, strict=False)


def _as_tensor(path: Path, key: str, value: object) -> torch.Tensor:
    if isinstance(value, torch.Tensor):
        return value
    if isinstance(value, PickledArray):
        value = value.array
    if isinstance(value, np.ndarray) and np.issubdtype(value.dtype, np.number):
        return torch.from_numpy(value)
    raise WeightsError(f"{path}: {key!r} is a {type(value).__name__}, not an array of numbers")


def read_torch(path: Path) -> Any:
    """What `torch.save` put into a file, on the CPU: tensors, plain containers, numbers, arrays.

    Raises:
        WeightsError: its archive is compressed, which `torch.save` never does: 3 MB may be 3 GB.
        Exception: it is damaged, or holds something else: nearly any kind.
    """
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if any(one.compress_type != zipfile.ZIP_STORED for one in archive.infolist()):
                raise WeightsError(f"{path} is a compressed archive: save it with torch.save")
    if (
        torch.torch_version.TorchVersion(torch.__version__) < "2.6"
    ):  # which takes no names for objects: numpy's are refused
        return torch.load(path, map_location="cpu", weights_only=True)
    with torch.serialization.safe_globals(list[Any](TORCH_NAMES)):
        return torch.load(path, map_location="cpu", weights_only=True)
