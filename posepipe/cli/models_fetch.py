"""``posepipe models fetch``: bring models' weights here before they are needed."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from posepipe.cli.completion import models_of
from posepipe.cli.fetching import transfer_bar
from posepipe.cli.terminal import echo
from posepipe.errors import OptionError, PosepipeError

if TYPE_CHECKING:
    from posepipe.zoo.recipe import Recipe


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME]...", shell_complete=models_of())
@click.option(
    "--all", "everything", is_flag=True, help="Download all models that can be downloaded."
)
@click.option(
    "--pin",
    is_flag=True,
    help="Pin the SHA-256: from then on, only this file is accepted.",
)
@click.option("--offline", is_flag=True, help="Download nothing; check the cache.")
def fetch(names: tuple[str, ...], everything: bool, pin: bool, offline: bool) -> None:
    """Download the weights of the models NAME into the cache, and verify them.

    Prints one line per model: its SHA-256 and the file. Files in the cache are verified, not
    downloaded again. An interrupted download continues where it stopped.
    """
    if bool(names) == everything:
        raise click.UsageError("name the models to fetch, or give --all")
    from posepipe.zoo.recipe import list_recipes, load_recipe

    if everything:
        recipes = [recipe for recipe in list_recipes() if recipe.weights.urls]
    else:
        recipes = [load_recipe(name) for name in names]
    failed = 0
    for recipe in recipes:
        try:
            _fetch_one(recipe, pin=pin, offline=offline)
        except PosepipeError as error:  # the others may well be available
            echo(f"posepipe: {error}", err=True)
            failed += 1
    if failed:
        sys.exit(1)


def _fetch_one(recipe: Recipe, *, pin: bool, offline: bool) -> None:
    from posepipe.zoo.cache import CachedWeights, is_offline, weights_by_name

    if recipe.has_weights or not recipe.weights.urls:  # beside the recipe, or nowhere
        path, digest = recipe.verified_weights()
        echo(f"{digest}  {path}")
        if pin:
            raise OptionError(
                f"model {recipe.name!r} comes with its weights: there is nothing to pin"
            )
        return
    cached = CachedWeights(recipe)
    if (offline or is_offline()) and not cached.path.is_file():
        weights_by_name(recipe, offline=True)  # raises, and says what to do
    with transfer_bar(cached) as bar:
        digest = cached.fetched(watcher=bar)
    echo(f"{digest}  {cached.path}")
    if pin:
        echo(f"posepipe: pinned in {cached.pin(digest)}", err=True)
