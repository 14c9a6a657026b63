"""Images, weights, checkpoints and recipes: wrong ones by the hundred; see `test_documents`."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fuzzing.harness import INPUTS, check_reader
from PIL import Image, features
from safetensors.torch import save

from posepipe.detection.candidates import CandidatesTable, DetectorTable
from posepipe.detection.loading import PeopleTable, SuppressionTable
from posepipe.detection.networks import NetworkTable
from posepipe.io.images import ImageFile
from posepipe.pose.crops import PreprocessingTable
from posepipe.pose.heatmaps import DecodingTable
from posepipe.pose.networks.build import build_network, network_table
from posepipe.training.checkpoint import (
    Checkpoint,
    TrainingProgress,
    load_checkpoint,
    save_checkpoint,
)
from posepipe.training.tables import PoseTrainingTable
from posepipe.zoo.recipe import list_recipes, load_recipe
from posepipe.zoo.sources import experiment_sources
from posepipe.zoo.weights import read_state

FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "TIFF", "BMP", "GIF", "PPM", "JPEG2000", "AVIF")


def image_bytes(kind: str, mode: str = "RGB", **options: Any) -> bytes:
    noise = np.random.default_rng(0).integers(0, 256, (24, 40, 3), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    if kind in ("JPEG", "MPO", "PNG", "WEBP", "TIFF"):
        options["exif"] = exif
    buffer = io.BytesIO()
    Image.fromarray(noise).convert(mode).save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", FORMATS)
def test_images(kind: str, tmp_path: Path) -> None:
    if kind == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow reads no AVIF")
    samples = [image_bytes(kind)]
    match kind:
        case "JPEG":
            samples += [image_bytes(kind, progressive=True), image_bytes(kind, "CMYK")]
        case "PNG":
            samples += [image_bytes(kind, mode) for mode in ("RGBA", "P", "LA", "1")]
        case "TIFF":
            samples += [image_bytes(kind, compression=name) for name in ("tiff_lzw", "jpeg")]
        case "GIF":
            samples += [image_bytes(kind, "P", transparency=0)]

    def read(path: Path) -> None:
        image = ImageFile(1, path, path.name)
        width, height = image.size_wh
        assert image.read().shape == (height, width, 3)

    check_reader(read, samples, tmp_path / "picture", inputs=max(10, INPUTS // 2))


STATE = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.ones(2)}


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".pkl"])
def test_weights(suffix: str, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    match suffix:
        case ".safetensors":
            buffer.write(save(STATE))
        case ".pth":
            torch.save({"model": STATE}, buffer)
        case _:
            arrays = {key: tensor.numpy() for key, tensor in STATE.items()}
            pickle.dump({"model": arrays}, buffer)
    check_reader(read_state, [buffer.getvalue()], tmp_path / f"w{suffix}")


def test_checkpoints(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, Checkpoint(TrainingProgress(8), STATE, None, {"state": {}}))
    (path,) = tmp_path.iterdir()

    def read(path: Path) -> None:
        found = load_checkpoint(path)
        assert all(torch.equal(found.network[key], STATE[key]) for key in STATE)

    check_reader(read, [path.read_bytes()], path)


def recipe_texts() -> list[bytes]:
    folders = [recipe.folder / "recipe.toml" for recipe in list_recipes("pose")]
    folders += [recipe.folder / "recipe.toml" for recipe in list_recipes("detection")[:3]]
    texts = [file.read_bytes() for file in folders]
    rows = [load_recipe(source.name).text.encode() for source in experiment_sources()[:6]]
    return texts + rows


def test_recipes(tmp_path: Path) -> None:
    tables = (
        *(("preprocessing", PreprocessingTable), ("decoding", DecodingTable)),
        *(("detector", DetectorTable), ("network", NetworkTable)),
        *(("candidates", CandidatesTable), ("suppression", SuppressionTable)),
        *(("people", PeopleTable), ("training", PoseTrainingTable)),
    )

    def read(path: Path) -> None:
        recipe = load_recipe(path)
        for name, kind in tables:
            if recipe.model.stage == "detection" or name in ("preprocessing", "decoding"):
                recipe.table(name, kind)
        recipe.weights, recipe.reported  # noqa: B018

    check_reader(read, recipe_texts(), tmp_path / "recipe.toml")


def test_networks_of_recipes(tmp_path: Path) -> None:
    def build(path: Path) -> None:
        recipe = load_recipe(path)
        if recipe.model.stage == "pose":
            recipe.table("preprocessing", PreprocessingTable)
            with torch.device("meta"):
                build_network(network_table(recipe))

    check_reader(build, recipe_texts(), tmp_path / "recipe.toml", inputs=max(8, INPUTS // 10))
