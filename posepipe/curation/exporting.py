"""Models as single files for other runtimes: ONNX, or OpenVINO's own format, recipe included."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import torch

from posepipe.curation.quantising import check_can_quantise, quantised
from posepipe.detection.backends import registered_backend
from posepipe.detection.loading import load_detector
from posepipe.detection.rtmdet import exportable as exportable_rtmdet
from posepipe.errors import DocumentError, MissingDependencyError, OptionError
from posepipe.io.checksums import sha256_of
from posepipe.io.jsonfiles import check_output
from posepipe.io.locks import output_held
from posepipe.io.records import installed_version
from posepipe.io.result_list import TOOL
from posepipe.networks.runtimes.base import Placement
from posepipe.networks.runtimes.export import (
    Difference,
    Exportable,
    check_equal,
    difference,
    to_onnx,
)
from posepipe.networks.runtimes.names import TORCH
from posepipe.networks.runtimes.registry import RUNTIMES, open_network
from posepipe.pose.model import exportable as exportable_pose
from posepipe.pose.model import load_pose_model
from posepipe.pose.networks.build import backend_of
from posepipe.zoo.embedded import (
    NUMBERS_KEY,
    ONNX,
    OPENVINO,
    OPENVINO_KEY,
    numbers_of,
    recipe_text,
    with_recipe,
)
from posepipe.zoo.recipe import Recipe, load_recipe
from posepipe.zoo.weights import find_weights

Format = Literal["onnx", "openvino"]
_SUFFIXES: Mapping[str, str] = {"onnx": ONNX, "openvino": OPENVINO}
# What is about the weights' making, or where they can be had, and not about their use.
_LEFT_OUT = ("training", "weights", "paper", "reported")


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        path: the file.
        bytes: its size, numbers in a file beside it included.
        runtime: what ran it to compare it, with its version.
        difference: how far its numbers are from torch's, in fp32: for random images, or for the
            first one of the calibration.
    """

    path: Path
    bytes: int
    runtime: str
    difference: Difference


def check_int8(output: Path, format: Format | None = None) -> None:
    """Check that a model can be exported to this file in 8-bit integers.

    Raises:
        OptionError: the file is not for OpenVINO, or its name and the format do not go together.
        MissingDependencyError: a library that it takes is not installed.
    """
    if _format_of(output, format) != "openvino":
        raise OptionError(f"int8 is for OpenVINO: name a file that ends in {OPENVINO}")
    check_can_quantise()


def export_model(
    model: str | Path,
    output: Path,
    *,
    format: Format | None = None,  # the option's name
    weights: str | Path | None = None,
    changes: Sequence[str] = (),
    calibration: Sequence[npt.NDArray[np.float32]] | None = None,
) -> Exported:
    """Write a model as one file that another runtime runs, and that is a model by itself.

    It takes batches of any size, a detector's images of any size in whole strides. Before it
    takes its place it is run and compared with torch.

    Args:
        model: name or folder.
        output: ends in ``.onnx``, or in ``.xml``; then the numbers go into a ``.bin`` beside it.
        format: "onnx" or "openvino"; what the file's name says if None.
        weights: a weights file in place of the model's own.
        changes: fields of the recipe to override, see `Recipe.with_changes`; the file has them.
        calibration: for 8-bit integers: normalised images (1, 3, H, W) as the network will see,
            see `posepipe.calibration`.

    Raises:
        OptionError: the format and the file's name do not go together, the network cannot be
            exported, or gives other numbers then.
        MissingDependencyError: what exports or runs it is not installed.
        DocumentError: it cannot be written.
        PosepipeError: the model cannot be loaded.
    """
    kind = _format_of(output, format)
    check_output(output)
    if calibration is not None:
        check_int8(output, format)
    runtime = _runtime_for(kind)
    recipe = load_recipe(model)
    exportable = exportable_model(recipe, weights, changes)
    _, digest = find_weights(recipe, weights)
    tables = embedded_tables(recipe.with_changes(changes), digest, int8=calibration is not None)
    content = with_recipe(to_onnx(exportable), tables)
    placement = Placement(runtime, torch.device("cpu"), torch.float32)
    try:
        with (
            output_held(output),
            TemporaryDirectory(dir=output.parent, prefix=f".{output.name}.", suffix=".tmp") as name,
        ):
            file = Path(name) / output.name
            if kind == "onnx":
                file.write_bytes(content)
            else:
                _save_openvino(content, tables, file, calibration)
            network = open_network(file, placement, place=str(output))
            if calibration is None:
                found = check_equal(exportable, network, placement, recipe.name)
            else:
                found = difference(exportable, network, torch.from_numpy(calibration[0]))
            version = network.version
            del network  # on Windows a file in use does not move
            size = _move(file, output)
    except OSError as error:
        raise DocumentError(f"{output} cannot be written: {error.strerror}") from None
    return Exported(output, size, version, found)


def exportable_model(
    recipe: Recipe, weights: str | Path | None = None, changes: Sequence[str] = ()
) -> Exportable:
    """The network of a model, with its weights and a changed recipe, as exporters want it.

    Raises:
        OptionError: it is one that cannot be exported.
        PosepipeError: it cannot be loaded.
    """
    if recipe.exported:
        raise OptionError(f"{recipe.exported} is exported already: name the model it was made of")
    if recipe.model.stage == "pose":
        if backend := backend_of(recipe):
            raise OptionError(f"model {recipe.name!r} is run by {backend}: it cannot be exported")
        loaded: Any = load_pose_model(
            recipe.folder,
            weights=weights,
            changes=changes,
            device="cpu",
            precision="fp32",
            runtime=TORCH,
        )
        return exportable_pose(recipe.with_changes(changes), loaded.network)
    if not registered_backend(recipe).exports:
        raise OptionError(
            f"model {recipe.name!r} cannot be exported: only single-stage detectors and pose "
            "networks can, whose outputs are of one size"
        )
    found: Any = load_detector(
        recipe,
        weights=weights,
        changes=changes,
        device="cpu",
        precision="fp32",
        runtime=TORCH,
    )
    return exportable_rtmdet(found.network)


def embedded_tables(recipe: Recipe, weights_sha256: str, *, int8: bool) -> dict[str, Any]:
    """The recipe that goes into the file: what its use needs, and what it was made of."""
    tables = {name: table for name, table in recipe.tables.items() if name not in _LEFT_OUT}
    about = {key: value for key, value in tables["model"].items() if key != "weights_sha256"}
    made_of = {
        "model": recipe.name,
        "weights_sha256": weights_sha256,
        "posepipe": installed_version(TOOL),
        "torch": str(torch.__version__),
        "int8": int8,
    }
    return {**tables, "model": about, "exported": made_of}


def _format_of(output: Path, given: str | None) -> str:
    by_name = {suffix: name for name, suffix in _SUFFIXES.items()}.get(output.suffix)
    if given is not None and given not in get_args(Format):
        raise OptionError(f"no format {given!r}: use one of {', '.join(get_args(Format))}")
    if by_name is None or given not in (None, by_name):
        wanted = _SUFFIXES[given] if given else " or ".join(_SUFFIXES.values())
        raise OptionError(f"{output}: name a file that ends in {wanted}")
    return by_name


def _runtime_for(kind: str) -> str:
    """What a file of this format is compared in."""
    able = ["openvino"] if kind == "openvino" else ["onnxruntime", "openvino"]
    for name in able:
        if RUNTIMES[name].is_installed:
            return name
    raise MissingDependencyError(
        f"exporting to {kind} needs {able[0]}: pip install 'posepipe[{able[0]}]'"
    )


def _save_openvino(
    content: bytes,
    tables: Mapping[str, Any],
    file: Path,
    calibration: Sequence[npt.NDArray[np.float32]] | None,
) -> None:
    import openvino

    if calibration is None:
        network = openvino.Core().read_model(content)
    else:
        network = quantised(content, calibration)
    network.set_rt_info(recipe_text(tables), list(OPENVINO_KEY))
    # Once for the numbers, and again with the SHA-256 that they have.
    for _ in range(2):
        openvino.save_model(network, file, compress_to_fp16=False)
        network.set_rt_info(sha256_of(numbers_of(file)), list(NUMBERS_KEY))


def _move(file: Path, output: Path) -> int:
    """Put a file, and what is beside it, into its place; how many bytes that is."""
    size = 0
    for part in sorted(file.parent.iterdir(), key=lambda part: part == file):  # itself last
        size += part.stat().st_size
        shutil.move(part, output.with_name(part.name))
    return size
