"""``posepipe models``: which models there are, and what one consists of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from posepipe.cli.completion import models_of
from posepipe.cli.environment import PROGRAM, prefix_of
from posepipe.cli.lazy import LazyGroup
from posepipe.cli.terminal import echo

if TYPE_CHECKING:
    from posepipe.zoo.recipe import Recipe

# What a state of the cache means for whoever reads the list, in the list's order.
_GROUPS = {
    "ready": "ready",
    "cached": "fetched before",
    "can be fetched": "fetched on first use, or by `posepipe models fetch NAME`",
    "no weights": "without weights: train them, or bring some with --weights",
}


_HOMES = "posepipe.cli.models_"
COMMANDS = {
    "fetch": (
        f"{_HOMES}fetch:fetch",
        "Download the weights of the models NAME into the cache, and verify them.",
    ),
    "verify": (
        f"{_HOMES}verify:verify",
        "Compare models with the golden numbers stored beside their weights.",
    ),
    "import": (
        f"{_HOMES}import:import_",
        "Make a model folder from a checkpoint of pytorch-cpn, tf-cpn or detectron2, "
        "or from a graph.",
    ),
    "export": (
        f"{_HOMES}export:export",
        "Export the model NAME to a file for ONNX Runtime or OpenVINO.",
    ),
    "pack": (f"{_HOMES}pack:pack", "Make the model folder MODEL from the run folder RUN."),
    "new": (
        f"{_HOMES}new:new",
        "Make the model folder NAME for the keypoints of an annotation file.",
    ),
    "compare": (
        f"{_HOMES}compare:compare",
        "Print size and multiply-adds of the paper's networks, ours beside the paper's.",
    ),
}


@click.group(
    cls=LazyGroup,
    later=COMMANDS,
    variables=prefix_of(PROGRAM, "models"),
    invoke_without_command=True,
)
@click.option(
    "--json", "as_json", is_flag=True, help="Print everything known about the models as JSON."
)
@click.option(
    "--paper", is_flag=True, help="List the paper's networks instead, with the paper's OKS AP."
)
@click.pass_context
def models(ctx: click.Context, as_json: bool, paper: bool) -> None:
    """List the models; `posepipe models show NAME` shows one."""
    if ctx.invoked_subcommand is not None:
        return
    from posepipe.zoo.recipe import list_experiments, list_recipes

    recipes = list_experiments() if paper else list_recipes()
    if as_json:
        echo(_json_of(recipes))
    elif paper:
        _list_paper(recipes)
    else:
        _list_models(recipes)


def _list_models(recipes: Sequence[Recipe]) -> None:
    """A table of what can be used, by what it takes to use it."""
    from posepipe.zoo.cache import state_of

    groups: dict[str, list[Recipe]] = {state: [] for state in _GROUPS}
    for recipe in recipes:
        groups[state_of(recipe)].append(recipe)
    rows = {
        recipe.name: (recipe.model.stage, _megabytes(recipe), _ap(recipe), _word(recipe))
        for recipe in recipes
    }
    longest = max(map(len, rows), default=0)

    def say(name: str, stage: str, megabytes: str, ap: str, licence: str) -> None:
        echo(f"  {name:{longest}}  {stage:9}  {megabytes:>3}  {ap:14}  {licence}".rstrip())

    say("", "stage", "MB", "AP", "licence")
    for state, members in groups.items():
        if members:
            echo(_GROUPS[state])
        for recipe in members:
            say(recipe.name, *rows[recipe.name])
    echo("AP in per cent as reported: `posepipe models show NAME` says by whom and on what.")
    echo("The paper's networks, to be trained: `posepipe models --paper`.")


def _list_paper(recipes: Sequence[Recipe]) -> None:
    """A table of the experiments, with the accuracy that the paper states."""
    line = "  {:40} {:>5}  {}"
    echo(line.format("", "AP", "in the paper; none of it was measured here"))
    for recipe in recipes:
        ap = recipe.tables.get("paper", {}).get("ap")
        echo(line.format(recipe.name, "–" if ap is None else ap, recipe.model.summary))
    echo("They have no weights: docs/reproducing.md trains them. Sizes beside the paper's:")
    echo("`posepipe models compare`.")


def _megabytes(recipe: Recipe) -> str:
    from posepipe.zoo.cache import weights_at

    path = weights_at(recipe)
    megabytes = recipe.weights.megabytes if path is None else path.stat().st_size / 1e6
    return f"{megabytes:.0f}" if megabytes else "–"


def _ap(recipe: Recipe) -> str:
    reported = recipe.reported
    kinds = {
        "keypoints": reported.keypoint_ap,
        "person": reported.person_ap,
        "boxes": reported.box_ap,
    }
    return next((f"{ap:.1f} {kind}" for kind, ap in kinds.items() if ap is not None), "–")


def _word(recipe: Recipe) -> str:
    """The terms of the weights alone, out of all that the recipe says about its licence."""
    weights = recipe.model.licence.partition(";")[0].partition("(")[0]
    return weights.removeprefix("weights:").strip() or "unknown"


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
                "paper": recipe.tables.get("paper"),
            }
        )
    return msgspec.json.format(msgspec.json.encode(entries), indent=2).decode()


@models.command()
@click.argument("name", shell_complete=models_of())
@click.option("--cost", is_flag=True, help="Count parameters and multiply-adds; takes seconds.")
def show(name: str, cost: bool) -> None:
    """Show a model's recipe and where its weights are."""
    from posepipe.zoo.cache import weights_at
    from posepipe.zoo.recipe import WEIGHTS_FILE, load_recipe

    recipe = load_recipe(name)
    echo(recipe.text.rstrip() + "\n")
    weights = weights_at(recipe)
    if weights is not None:
        echo(f"weights       {weights} ({weights.stat().st_size / 1e6:.1f} MB)")
    elif recipe.weights.urls:
        size = f" ({recipe.weights.megabytes:.0f} MB)" if recipe.weights.megabytes else ""
        echo(f"weights       can be fetched{size}: posepipe models fetch {recipe.name}")
    elif recipe.experiments is not None:
        echo(f"weights       none: train it (posepipe train {recipe.name})")
    else:
        echo(f"weights       none: put {WEIGHTS_FILE} into {recipe.folder}")
    if cost:
        _show_cost(recipe)


def _show_cost(recipe: Recipe) -> None:
    from posepipe.curation.cost import model_cost

    found = model_cost(recipe)
    if found is None:
        echo(f"parameters    unknown: {recipe.name} is another library's network")
        return
    echo(f"parameters    {found.parameters_mb:.1f} MB as fp32")
    size = "x".join(map(str, found.input_wh))
    echo(f"multiply-adds {found.multiply_adds_g:.2f} G (2^30) for {size}")
