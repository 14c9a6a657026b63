"""``posepipe models``: what models there are, and what one consists of."""

from __future__ import annotations

import click

from posepipe.cli.models_pack import pack


@click.group(invoke_without_command=True)
@click.pass_context
def models(ctx: click.Context) -> None:
    """List the models, or show one: `posepipe models show NAME`."""
    if ctx.invoked_subcommand is not None:
        return
    from posepipe.recipe import list_recipes

    recipes = list_recipes()
    width = max((len(recipe.name) for recipe in recipes), default=0)
    for recipe in recipes:
        state = "ready" if recipe.has_weights else "no weights"
        stage, summary = recipe.model.stage, recipe.model.summary
        click.echo(f"{recipe.name:{width}}  {stage:9}  {state:10}  {summary}")


@models.command()
@click.argument("name")
def show(name: str) -> None:
    """Show a model's recipe, size and multiply-adds."""
    from posepipe.engines.cost import model_cost
    from posepipe.recipe import RECIPE_FILE, WEIGHTS_FILE, load_recipe

    recipe = load_recipe(name)
    click.echo((recipe.folder / RECIPE_FILE).read_text(encoding="utf-8").rstrip() + "\n")
    if recipe.has_weights:
        weights = recipe.weights_path
        click.echo(f"weights       {weights} ({weights.stat().st_size / 2**20:.1f} MB)")
    else:
        click.echo(f"weights       none: put {WEIGHTS_FILE} into {recipe.folder}")
    cost = model_cost(recipe)
    if cost is not None:
        click.echo(f"parameters    {cost.parameters_mb:.1f} MB as fp32")
        size = "x".join(map(str, cost.input_wh))
        click.echo(f"multiply-adds {cost.multiply_adds_g:.2f} G (2^30) for {size}")


models.add_command(pack)
