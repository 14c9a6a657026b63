"""``posepipe models verify``: does a model still give what it gave when it was made?"""

from __future__ import annotations

import click

from posepipe.cli.completion import models_of
from posepipe.cli.terminal import echo
from posepipe.errors import OptionError, WeightsError


@click.command()
@click.argument("models", nargs=-1, metavar="[MODEL]...", shell_complete=models_of())
@click.option("--update", is_flag=True, help="Store the current results instead of comparing.")
@click.option("--device", default="cpu", show_default=True, help="auto, cpu, cuda, cuda:N, mps.")
def verify(models: tuple[str, ...], update: bool, device: str) -> None:
    """Compare models with the golden numbers stored beside their weights.

    MODEL is a name or a folder; the default is all models that have weights. Each is run in fp32
    on a small image. The exit status is 1 if one differs by more than the tolerance.
    """
    from posepipe.curation.golden import verify as verify_model
    from posepipe.curation.golden import write_golden
    from posepipe.zoo.recipe import list_recipes, load_recipe

    recipes = [load_recipe(model) for model in models] or [
        recipe for recipe in list_recipes() if recipe.has_weights
    ]
    for recipe in recipes:
        if recipe.exported:
            raise OptionError(
                f"{recipe.name} is an exported network, which was compared with its model when it "
                "was exported: name the model"
            )
    if update:
        for recipe in recipes:
            echo(f"{recipe.name}: stored {write_golden(recipe)}")
        return
    failed = None
    for recipe in recipes:
        found = verify_model(recipe, device=device)
        verdict = "ok" if found.passed else "FAILED"
        echo(
            f"{recipe.name}: {verdict}: largest difference {found.largest:.1e}, tolerance "
            f"{found.tolerance:.0e} ({found.what})"
        )
        if not found.passed and failed is None:
            failed = f"model {recipe.name!r} differs from its golden numbers" + (
                f", which were made with other weights: `posepipe models verify --update "
                f"{recipe.folder}` if these are known to be good"
                if found.other_weights
                else ": its weights or recipe were changed, or this machine computes differently"
            )
    if failed is not None:
        raise WeightsError(failed)
