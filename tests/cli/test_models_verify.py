"""``posepipe models verify``."""

from __future__ import annotations

import shutil
from pathlib import Path

from commands import error_of, posepipe

from posepipe.zoo.recipe import list_recipes, load_recipe

POSE = "cpn-litehrnet-256x192"


def test_every_model_with_weights_is_verified_unless_some_are_named() -> None:
    result = posepipe("models", "verify")
    assert result.exit_code == 0, result.output
    verified = [line.partition(":")[0] for line in result.stdout.splitlines()]
    assert verified == [recipe.name for recipe in list_recipes() if recipe.has_weights]
    assert all(": ok: largest difference" in line for line in result.stdout.splitlines())
    named = posepipe("models", "verify", POSE)
    assert [line.partition(":")[0] for line in named.stdout.splitlines()] == [POSE]


def test_a_model_that_says_something_else_fails(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    shutil.copytree(load_recipe(POSE).folder, folder)
    recipe = folder / "recipe.toml"
    text = recipe.read_text(encoding="utf-8")
    recipe.write_text(text.replace("mean = [123", "mean = [23"), encoding="utf-8")
    result = posepipe("models", "verify", folder, POSE)
    assert result.exit_code == 1
    first, second = result.stdout.splitlines()
    assert first.startswith("mine: FAILED: largest difference")
    assert second.startswith(f"{POSE}: ok")
    assert result.stderr.startswith("posepipe: model 'mine' differs from its golden numbers")
    assert result.stderr.count("\n") == 1
    assert posepipe("models", "verify", "--update", folder).exit_code == 0
    assert posepipe("models", "verify", folder).exit_code == 0


def test_a_model_without_golden_numbers_or_weights_is_one_line(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    shutil.copytree(load_recipe(POSE).folder, folder)
    (folder / "golden.safetensors").unlink()
    assert "model 'mine' has no golden numbers" in error_of(posepipe("models", "verify", folder))
    (folder / "weights.safetensors").unlink()
    message = error_of(posepipe("models", "verify", "--update", folder))
    assert "comes without weights" in message
