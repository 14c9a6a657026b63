"""From a checkpoint file to a model folder: weights, recipe, model card, golden numbers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from safetensors.torch import save

from posepipe.curation.golden import GOLDEN_FILE, make_golden
from posepipe.curation.importing import pytorch_cpn, tf_cpn
from posepipe.curation.importing.checkpoints import ForeignCheckpoint, open_checkpoint
from posepipe.curation.importing.detectron2 import detector_files, is_detectron2
from posepipe.curation.importing.graph_models import graph_model_files
from posepipe.curation.importing.graphs import is_graph
from posepipe.curation.importing.source import Recognised, weights_of
from posepipe.errors import OptionError, WeightsError
from posepipe.io.checksums import sha256_of
from posepipe.io.folders import check_new_folder, write_folder_whole
from posepipe.pose.model import pose_model
from posepipe.pose.networks.cpn import CPN
from posepipe.zoo.recipe import WEIGHTS_FILE, ModelTable, Recipe, Table
from posepipe.zoo.sources import RECIPE_FILE
from posepipe.zoo.weights import StateDict, fit_state

CARD_FILE = "README.md"


@dataclass(frozen=True)
class Imported:
    """What a checkpoint became.

    Attributes:
        folder: the model.
        title: what the file was found to be, in a few words.
        because: how that is known, one line each.
        weights_bytes: size of its weights file.
    """

    folder: Path
    title: str
    because: tuple[str, ...]
    weights_bytes: int


def import_checkpoint(
    path: Path,
    folder: Path,
    *,
    input_size_wh: tuple[int, int] | None = None,
    batch_norm_eps: float | None = None,
) -> Imported:
    """Make a model folder of a checkpoint of pytorch-cpn, tf-cpn or detectron2, or of a graph.

    Poses and boxes that it gives are that code base's own: crops, colours, network and decoding are
    set as there. What differs is listed in docs/importing.md.

    Args:
        path: see `open_checkpoint` and `is_graph`.
        folder: absent or empty; it appears whole or not at all.
        input_size_wh: of the crops that a CPN was trained on; weights do not tell. None: 192x256.
        batch_norm_eps: of a CPN; None for what the code base ran with.

    Raises:
        OptionError: no CPN, and one of the options of CPNs.
        WeightsError: no such file, a damaged one, another kind, or one of another network; names
            the first key that does not fit.
        DocumentError: the folder cannot be written.
        MissingDependencyError: the file needs TensorFlow.
    """
    check_new_folder(folder)
    if is_graph(path):
        _refuse_options_of_cpns(path, input_size_wh, batch_norm_eps)
        files, known = graph_model_files(path, folder.name)
        write_folder_whole(folder, files)
        told = (f"an exported graph's operations; the rest is as in {known.model}",)
        return Imported(folder, known.title, told, len(files[WEIGHTS_FILE]))
    checkpoint = open_checkpoint(path)
    if is_detectron2(checkpoint.shapes):
        _refuse_options_of_cpns(path, input_size_wh, batch_norm_eps)
        files, title, because = detector_files(checkpoint, folder.name)
        write_folder_whole(folder, files)
        return Imported(folder, f"detectron2, {title}", because, len(files[WEIGHTS_FILE]))
    size = input_size_wh or (192, 256)
    recognised = recognise(checkpoint, input_size_wh=size, batch_norm_eps=batch_norm_eps)
    network = CPN(recognised.network)
    state = weights_of(checkpoint, recognised, network)
    files = model_files(checkpoint, recognised, network, state, folder.name)
    write_folder_whole(folder, files)
    backbone = recognised.network.backbone.replace("resnet", "ResNet-")
    because = recognised.because
    if input_size_wh is None:
        because += (
            "input size: weights do not tell; 256x192 is assumed (--input-size 384x288 if they "
            "were trained so)",
        )
    title = f"{recognised.code_base}, {backbone}"
    return Imported(folder, title, because, len(files[WEIGHTS_FILE]))


def _refuse_options_of_cpns(
    path: Path, input_size_wh: tuple[int, int] | None, batch_norm_eps: float | None
) -> None:
    if input_size_wh or batch_norm_eps is not None:
        raise OptionError(
            f"{path} is no CPN's checkpoint: input size and batch normalisation's epsilon are "
            "options of CPNs"
        )


def recognise(
    checkpoint: ForeignCheckpoint,
    *,
    input_size_wh: tuple[int, int],
    batch_norm_eps: float | None = None,
) -> Recognised:
    """What a checkpoint is, told by its tensors' names.

    Raises:
        WeightsError: of neither code base.
    """
    find = pytorch_cpn.recognise if checkpoint.kind == "torch" else tf_cpn.recognise
    recognised = find(checkpoint.shapes, input_size_wh=input_size_wh, batch_norm_eps=batch_norm_eps)
    if recognised is None:
        first = next(iter(checkpoint.shapes), None)
        holds = f"its first key is {first!r}" if first else "it holds no weights"
        raise WeightsError(
            f"{checkpoint.path} is not of pytorch-cpn ('global_net.…', 'refine_net.…'), of tf-cpn "
            "('resnet_v1_…/', 'pyramid/…') or of detectron2 ('proposal_generator.…', "
            f"'head.cls_subnet.…'): {holds}"
        )
    return recognised


def model_files(
    checkpoint: ForeignCheckpoint, recognised: Recognised, network: CPN, state: StateDict, name: str
) -> dict[str, bytes]:
    """The files of a model folder.

    Args:
        checkpoint: where the weights come from.
        recognised: what they are.
        network: takes the weights, to compute the golden numbers.
        state: the weights.
        name: the model's.
    """
    weights = save(state)
    digest = hashlib.sha256(weights).hexdigest()
    width, height = recognised.preprocessing.input_size_wh
    backbone = recognised.network.backbone.replace("resnet", "ResNet-")
    model = ModelTable(
        stage="pose",
        summary=f"CPN on {backbone}, {height}x{width}, imported from {recognised.code_base}",
        licence="weights: that of the checkpoint, which does not state it",
        weights_sha256=digest,
    )
    tables = {
        "model": model,
        "network": recognised.network,
        "preprocessing": recognised.preprocessing,
        "decoding": recognised.decoding,
    }
    fit_state(network, state, checkpoint.path)
    recipe = Recipe(name, Path(name), {key: _fields(table) for key, table in tables.items()})
    ready = pose_model(recipe, network, device="cpu", precision="fp32", weights_sha256=digest)
    texts = {
        RECIPE_FILE: recipe_text(tables, recognised),
        CARD_FILE: card_text(name, checkpoint, recognised, model),
    }
    return {
        WEIGHTS_FILE: weights,
        **{file: text.encode() for file, text in texts.items()},
        GOLDEN_FILE: make_golden(ready),
    }


def recipe_text(tables: Mapping[str, Table], recognised: Recognised) -> str:
    """The recipe.toml, with every setting spelt out."""
    lines = [f"# Imported from {recognised.code_base}:"]
    lines += [f"# - {reason}." for reason in recognised.because]
    for name, table in tables.items():
        lines += ["", f"[{name}]"]
        # For these types JSON's notation is TOML's.
        lines += [
            f"{field} = {json.dumps(value, ensure_ascii=False)}"
            for field, value in _fields(table).items()
        ]
    return "\n".join(lines) + "\n"


def card_text(
    name: str, checkpoint: ForeignCheckpoint, recognised: Recognised, model: ModelTable
) -> str:
    """The model card: what is known about an imported model, and what is not."""
    given, network = recognised.preprocessing, recognised.network
    width, height = given.input_size_wh
    files = [f"| from | {file.name}, SHA-256 {sha256_of(file)} |" for file in checkpoint.files]
    return "\n".join(
        [
            f"# {name}",
            "",
            f"{model.summary}. Its accuracy was not measured here.",
            "",
            "| | |",
            "|---|---|",
            *files,
            f"| recognised | {'; '.join(recognised.because)} |",
            f"| network | CPN on {network.backbone}; bottlenecks on C2 to C5: "
            f"{', '.join(map(str, network.refine_bottlenecks))}; upsampling {network.upsampling}; "
            f"batch normalisation with epsilon {network.batch_norm_eps:g} |",
            f"| input | crops of {height}×{width}, {given.colour_order.upper()}, less "
            f"{list(given.mean)}, over {given.std[0]:g}; outside the image RGB "
            f"{list(given.fill)}; boxes extended by {given.margins_xy[0]:.0%} and "
            f"{given.margins_xy[1]:.0%} of their width and height on each side, windows of whole "
            "pixels |",
            "| output | COCO's 17 keypoints, counted from the first pixel's corner; heatmaps with "
            f"peaks of {recognised.decoding.amplitude:g} |",
            f"| licence | {model.licence} |",
            "",
            "Which input size the weights were trained for cannot be told from them; "
            f"{height}×{width} was named or assumed when they were imported.",
            "",
        ]
    )


def _fields(table: Table) -> dict[str, Any]:
    """A table's fields as a recipe has them; what is None is left out."""
    fields: dict[str, Any] = msgspec.to_builtins(table)
    return {field: value for field, value in fields.items() if value is not None}
