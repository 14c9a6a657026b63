"""What the paper's tables say about the networks of our recipes, and what ours cost."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Annotated

from msgspec import Meta

from posepipe.curation.cost import Cost, model_cost
from posepipe.errors import RecipeError
from posepipe.pose.crops import PreprocessingTable
from posepipe.pose.networks.base import PoseNetworkTable
from posepipe.pose.networks.build import network_table
from posepipe.zoo.bounds import Number, Whole
from posepipe.zoo.recipe import Recipe, Table


class PaperTable(Table, frozen=True):
    """The recipe's table ``[paper]``: the paper's own numbers, none of them measured here.

    Attributes:
        tables: the numbers of the paper's tables with a row for this network.
        ap: OKS AP on COCO minival.
        multiply_adds_g: in units of 2^30, for one crop.
        parameters_mb: fp32 parameters.
    """

    tables: Annotated[tuple[Whole, ...], Meta(max_length=20)]
    ap: Number | None = None
    multiply_adds_g: Number | None = None
    parameters_mb: Number | None = None


@dataclass(frozen=True)
class Comparison:
    """A row of the paper, and what our network for it costs.

    Attributes:
        name: the recipe's.
        paper: the paper's numbers.
        cost: ours.
    """

    name: str
    paper: PaperTable
    cost: Cost

    @property
    def multiply_adds_off(self) -> float | None:
        """Ours relative to the paper's, less 1; None where the paper has no number."""
        return _off(self.cost.multiply_adds_g, self.paper.multiply_adds_g)

    @property
    def parameters_off(self) -> float | None:
        """Ours relative to the paper's, less 1; None where the paper has no number."""
        return _off(self.cost.parameters_mb, self.paper.parameters_mb)


def compare_with_paper(
    recipes: Iterable[Recipe], *, stride_in_1x1: bool = False
) -> list[Comparison]:
    """What every recipe with a table ``[paper]`` costs, in the recipes' order.

    Args:
        recipes: any; those without the table are left out.
        stride_in_1x1: count ResNets as the paper does, see `build_backbone`; ours differ in that.

    Raises:
        RecipeError: a recipe has a wrong field.
        MissingDependencyError: a backbone is timm's, and timm is not installed.
    """
    # Rows that differ in training alone cost the same.
    known: dict[tuple[PoseNetworkTable, tuple[int, int]], Cost] = {}
    rows = []
    for recipe in recipes:
        if "paper" not in recipe.tables:
            continue
        paper = recipe.table("paper", PaperTable)
        if stride_in_1x1:
            recipe = _with_stride_in_1x1(recipe)
        key = network_table(recipe), _input_size(recipe)
        if key not in known:
            cost = model_cost(recipe)
            if cost is None:
                raise RecipeError(f"{recipe.name}: the paper has no such network")
            known[key] = cost
        rows.append(Comparison(recipe.name, paper, known[key]))
    return rows


def _with_stride_in_1x1(recipe: Recipe) -> Recipe:
    """The recipe with its stride moved, if it is built on a ResNet."""
    network = recipe.tables.get("network", {})
    if not str(network.get("backbone", "")).startswith("resnet"):
        return recipe
    tables = {**recipe.tables, "network": {**network, "stride_in_1x1": True}}
    return replace(recipe, tables=tables)


def _input_size(recipe: Recipe) -> tuple[int, int]:
    return recipe.table("preprocessing", PreprocessingTable).input_size_wh


def _off(ours: float, papers: float | None) -> float | None:
    return None if papers is None else ours / papers - 1
