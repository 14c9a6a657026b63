"""Golden numbers: every shipped model still says what it said; a changed one is found out."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from posepipe.curation.golden import (
    GOLDEN_FILE,
    Verification,
    _candidate_difference,
    verify,
    write_golden,
)
from posepipe.detection.candidates import Candidates
from posepipe.errors import WeightsError
from posepipe.io.checksums import sha256_of
from posepipe.zoo.recipe import Recipe, list_recipes, load_recipe

POSE, DETECTOR = "cpn-litehrnet-256x192", "person-detector-cspnext-fpn"
SHIPPED = [recipe.name for recipe in list_recipes() if recipe.has_weights]
MOST_BYTES = 100_000


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_model_says_what_it_said(name: str) -> None:
    recipe = load_recipe(name)
    assert (recipe.folder / GOLDEN_FILE).stat().st_size <= MOST_BYTES
    found = verify(recipe)
    assert found.passed, found
    assert not found.other_weights


def copied(name: str, folder: Path) -> Recipe:
    """A shipped model in a folder of its own."""
    shutil.copytree(load_recipe(name).folder, folder / name)
    return load_recipe(folder / name)


def with_changed_weights(recipe: Recipe, factor: float, key: str) -> Recipe:
    """The model with one tensor of its weights multiplied, its recipe knowing of it."""
    state = load_file(recipe.weights_path)
    state[key] = state[key] * factor
    before = sha256_of(recipe.weights_path)
    save_file(state, recipe.weights_path)
    text = (recipe.folder / "recipe.toml").read_text(encoding="utf-8")
    changed = text.replace(before, sha256_of(recipe.weights_path))
    (recipe.folder / "recipe.toml").write_text(changed, encoding="utf-8")
    return load_recipe(recipe.folder)


@pytest.mark.parametrize(
    ("name", "key"),
    [
        (POSE, "refinenet.head.0.weight"),
        (POSE, "backbone.stages.0.conv.0.weight"),
        (DETECTOR, "backbone.neck.top_down.1.main.conv.weight"),
    ],
)
def test_changed_weights_are_found_out_until_the_numbers_are_made_anew(
    name: str, key: str, tmp_path: Path
) -> None:
    recipe = with_changed_weights(copied(name, tmp_path), 1.2, key)
    found = verify(recipe)
    assert not found.passed
    assert found.other_weights
    assert found.largest > 3 * found.tolerance
    assert write_golden(recipe) == recipe.folder / GOLDEN_FILE
    assert verify(recipe).passed


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("mean = [123.675,", "mean = [115.0,"),
        ("fill = [0, 0, 0]", "fill = [123, 116, 103]"),
        ("margins_xy = [0.075, 0.075]", "margins_xy = [0.1, 0.1]"),
        ("input_size_wh = [192, 256]", "input_size_wh = [96, 128]"),
    ],
)
def test_a_changed_recipe_is_found_out(before: str, after: str, tmp_path: Path) -> None:
    recipe = copied(POSE, tmp_path)
    text = (recipe.folder / "recipe.toml").read_text(encoding="utf-8")
    assert before in text
    (recipe.folder / "recipe.toml").write_text(text.replace(before, after), encoding="utf-8")
    found = verify(load_recipe(recipe.folder))
    assert not found.passed
    assert not found.other_weights


def test_numbers_that_are_none_are_no_match() -> None:
    assert not Verification("x", math.nan, 1e-4, False).passed
    assert not Verification("x", math.inf, 1e-4, False).passed
    assert Verification("x", 1e-4, 1e-4, False).passed


def test_a_model_without_golden_numbers_says_so(tmp_path: Path) -> None:
    recipe = copied(POSE, tmp_path)
    (recipe.folder / GOLDEN_FILE).unlink()
    with pytest.raises(WeightsError, match=r"has no golden numbers .*models verify --update"):
        verify(recipe)


def test_damaged_golden_numbers_say_so(tmp_path: Path) -> None:
    recipe = copied(POSE, tmp_path)
    path = recipe.folder / GOLDEN_FILE
    whole = path.read_bytes()
    for content in (b"", whole[:1000], b"\x00" * 100):
        path.write_bytes(content)
        with pytest.raises(WeightsError, match="cannot be read as golden numbers"):
            verify(recipe)


def test_golden_numbers_of_another_kind_of_model_say_so(tmp_path: Path) -> None:
    recipe = copied(POSE, tmp_path)
    shutil.copy(load_recipe(DETECTOR).folder / GOLDEN_FILE, recipe.folder)
    with pytest.raises(WeightsError, match="is of another kind of model"):
        verify(recipe)
    detector = copied(DETECTOR, tmp_path)
    shutil.copy(load_recipe(POSE).folder / GOLDEN_FILE, detector.folder)
    with pytest.raises(WeightsError, match="is of another kind of model"):
        verify(detector)


def test_golden_numbers_are_the_same_each_time_they_are_made(tmp_path: Path) -> None:
    torch.manual_seed(5)
    recipe = copied(POSE, tmp_path)
    first = write_golden(recipe).read_bytes()
    torch.manual_seed(6)
    assert write_golden(recipe).read_bytes() == first


def candidates(boxes, scores, classes=None) -> Candidates:
    return Candidates(
        np.reshape(boxes, (-1, 4)), np.array(scores), classes or np.ones(len(scores), np.int64)
    )


def test_candidates_are_compared_with_the_nearest_of_their_class() -> None:
    near, far = [0, 0, 10, 10], [80, 80, 99, 99]
    expected = candidates([near, far], [0.9, 0.8])
    swapped = candidates([far, [0, 0, 10, 12]], [0.8, 0.9])
    assert _candidate_difference(swapped, expected, 100) == pytest.approx(0.02)
    rescored = candidates([near, far], [0.9, 0.5])
    assert _candidate_difference(rescored, expected, 100) == pytest.approx(0.3)
    other = candidates([near, far], [0.9, 0.8], [1, 2])
    assert _candidate_difference(other, expected, 100) == pytest.approx(0.89)
    assert _candidate_difference(Candidates.none(), expected, 100) == math.inf
    assert _candidate_difference(expected, Candidates.none(), 100) == 0
