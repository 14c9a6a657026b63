"""Published networks known here, exported as graphs (`posepipe.curation.importing.graphs`).

A graph holds weights; which preprocessing and decoding go with them, it does not say. So a known
one becomes a folder of a model of the zoo with that model's recipe, its weights in half precision.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w
import torch
from safetensors.torch import save
from torch import nn

from posepipe.curation.golden import GOLDEN_FILE, make_golden
from posepipe.curation.importing.graphs import graph_files, put_into, read_graph
from posepipe.detection.backends import backend_of
from posepipe.detection.candidates import Origin
from posepipe.errors import WeightsError
from posepipe.io.checksums import sha256_of
from posepipe.pose.model import build_pose_network, pose_model
from posepipe.zoo.recipe import WEIGHTS_FILE, Recipe, load_recipe
from posepipe.zoo.sources import RECIPE_FILE


@dataclass(frozen=True)
class Known:
    """A published network.

    Attributes:
        title: what it is called.
        marks: beginning of an operation's name that no other network has.
        model: of the zoo, which describes it.
        bgr_input: the module that takes the image, where it takes BGR; "" for none. Ours take
            RGB: the channels of its weights change places.
    """

    title: str
    marks: str
    model: str
    bgr_input: str = ""


KNOWN = (
    Known(
        title="RTMDet-nano for persons",
        marks="rtmdet_head.",
        model="person-detector-rtmdet-nano",
        bgr_input="backbone.stages.0.0.conv",
    ),
    Known(title="PP-TinyPose, 256x192", marks="conv2d_441.", model="pp-tinypose-256x192"),
)


def graph_model_files(path: Path, name: str) -> tuple[dict[str, bytes], Known]:
    """The files of a model folder made of a known graph, and what it was found to be.

    Args:
        path: any of the graph's two files.
        name: the model's.

    Raises:
        WeightsError: a file is missing, damaged, or of a network that is not known here.
    """
    convolutions = read_graph(path)
    marks = [convolution.name for convolution in convolutions]
    known = next((k for k in KNOWN if any(mark.startswith(k.marks) for mark in marks)), None)
    if known is None:
        titles = " and ".join(known.title for known in KNOWN)
        raise WeightsError(
            f"{path} is the graph of a network that is not known here; known are {titles}"
        )
    recipe = load_recipe(known.model)
    network = _network(recipe)
    put_into(network, convolutions, path)
    if known.bgr_input:
        taker = network.get_submodule(known.bgr_input)
        assert isinstance(taker, nn.Conv2d)  # noqa: S101
        with torch.no_grad():
            taker.weight.copy_(taker.weight.flip(1))
    state = {
        key: (value.half() if value.is_floating_point() else value).contiguous()
        for key, value in network.state_dict().items()
    }
    weights = save(state)
    digest = hashlib.sha256(weights).hexdigest()
    network.load_state_dict(state)
    tables = {**recipe.tables, "model": {**recipe.tables["model"], "weights_sha256": digest}}
    files = {
        WEIGHTS_FILE: weights,
        RECIPE_FILE: tomli_w.dumps(tables).encode(),
        "README.md": _card(name, known, recipe, path).encode(),
        GOLDEN_FILE: _golden(Recipe(name, Path(name), tables), network, digest),
    }
    return files, known


def _network(recipe: Recipe) -> nn.Module:
    if recipe.model.stage == "pose":
        return build_pose_network(recipe)
    network = backend_of(recipe).build(recipe)
    assert network is not None  # noqa: S101  # no graph is of a network of another library
    return network


def _golden(recipe: Recipe, network: Any, digest: str) -> bytes:
    network.eval()
    if recipe.model.stage == "pose":
        return make_golden(
            pose_model(recipe, network, device="cpu", precision="fp32", weights_sha256=digest)
        )
    sure = {**recipe.tables, "candidates": {"min_score": 0.0}}
    detector = backend_of(recipe).detector(
        network,
        Recipe(recipe.name, recipe.folder, sure),
        origin=Origin(recipe.name, "", digest),
        device=torch.device("cpu"),
        dtype=torch.float32,
    )
    return make_golden(detector)


def _card(name: str, known: Known, recipe: Recipe, path: Path) -> str:
    files = [f"| from | {file.name}, SHA-256 {sha256_of(file)} |" for file in graph_files(path)]
    return "\n".join(
        [
            f"# {name}",
            "",
            f"{known.title}, imported from an exported graph; described by `{known.model}`. How "
            "good it is was not measured here.",
            "",
            "| | |",
            "|---|---|",
            *files,
            f"| licence | {recipe.model.licence} |",
            "",
        ]
    )
