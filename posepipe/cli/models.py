"""``posepipe models``: what models there are, and what one consists of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from posepipe.cli.models_compare import compare
from posepipe.cli.models_fetch import fetch
from posepipe.cli.models_import import import_
from posepipe.cli.models_pack import pack
from posepipe.cli.models_verify import verify
from posepipe.cli.terminal import echo

if TYPE_CHECKING:
    from posepipe.zoo.recipe import Recipe


@click.group(invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="Print the list as JSON, with all there is.")
@click.pass_context
def models(ctx: click.Context, as_json: bool) -> None:
    """List the models, or show one: `posepipe models show NAME`."""
    if ctx.invoked_subcommand is not None:
        return
    from posepipe.zoo.cache import state_of
    from posepipe.zoo.recipe import list_recipes

    recipes = list_recipes()
    if as_json:
        echo(_json_of(recipes))
        return
    width = max((len(recipe.name) for recipe in recipes), default=0)
    for recipe in recipes:
        model = recipe.model
        licence = f" [{model.licence}]" if model.licence else ""
        echo(
            f"{recipe.name:{width}}  {model.stage:9}  {state_of(recipe):14}  "
            f"{model.summary}{licence}"
        )


def _json_of(recipes: Sequence[Recipe]) -> str:
    import msgspec

    from posepipe.zoo.cache import state_of, weights_at

    entries = []
    for recipe in recipes:
        place = weights_at(recipe)
        entries.append(
            {
                "name": recipe.name,
                "stage": recipe.model.stage,
                "state": state_of(recipe),
                "summary": recipe.model.summary,
                "licence": recipe.model.licence,
                "weights": place and str(place),
                "urls": recipe.weights.urls,
                "megabytes": recipe.weights.megabytes or None,
                "reported": recipe.reported,
            }
        )
    return msgspec.json.format(msgspec.json.encode(entries), indent=2).decode()


@models.command()
@click.argument("name")
def show(name: str) -> None:
    """Show a model's recipe, size and multiply-adds."""
    from posepipe.curation.cost import model_cost
    from posepipe.zoo.cache import weights_at
    from posepipe.zoo.recipe import WEIGHTS_FILE, load_recipe

    recipe = load_recipe(name)
    echo(recipe.text.rstrip() + "\n")
    weights = weights_at(recipe)
    if weights is not None:
        echo(f"weights       {weights} ({weights.stat().st_size / 2**20:.1f} MB)")
    elif recipe.weights.urls:
        size = f" ({recipe.weights.megabytes:.0f} MB)" if recipe.weights.megabytes else ""
        echo(f"weights       can be fetched{size}: posepipe models fetch {recipe.name}")
    else:
        echo(f"weights       none: put {WEIGHTS_FILE} into {recipe.folder}")
    cost = model_cost(recipe)
    if cost is not None:
        echo(f"parameters    {cost.parameters_mb:.1f} MB as fp32")
        size = "x".join(map(str, cost.input_wh))
        echo(f"multiply-adds {cost.multiply_adds_g:.2f} G (2^30) for {size}")


models.add_command(compare)
models.add_command(import_)
models.add_command(verify)
models.add_command(fetch)
models.add_command(pack)
