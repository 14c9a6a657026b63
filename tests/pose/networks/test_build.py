"""From a recipe to a network; every recipe of the zoo, run forward and backward."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from posepipe.errors import OptionError, RecipeError
from posepipe.pose.model import build_pose_network
from posepipe.pose.networks.base import PoseNetwork
from posepipe.pose.networks.build import backend_of, build_network, network_table, with_head
from posepipe.pose.networks.cpn import CPN, CPNTable, GlobalNetOnly, GlobalNetTable
from posepipe.pose.networks.hourglass import HourglassTable
from posepipe.pose.networks.resnet import ResNetTable
from posepipe.zoo.recipe import Recipe, list_experiments, list_recipes, load_recipe

SIDE = 64


def by_structure() -> dict[str, list[Recipe]]:
    """The zoo's pose recipes; those that differ in input or training alone share a network."""
    found: dict[object, list[Recipe]] = {}
    for recipe in (*list_recipes("pose"), *list_experiments()):
        if not backend_of(recipe):  # other libraries' networks are those libraries' own
            found.setdefault(network_table(recipe), []).append(recipe)
    return {recipes[0].name: recipes for recipes in found.values()}


STRUCTURES = by_structure()
ONE_OF_EACH_KIND = (
    *("cpn-litehrnet-256x192", "cpn-one-bottleneck-resnet50-256x192", "hourglass-2-256x192"),
    *("globalnet-resnet50-256x192", "resnet50-dilated-res45-256x192"),
)


def learnt(recipe: Recipe) -> PoseNetwork:
    """A recipe's network with gradients of all that it predicts of two crops."""
    network = build_pose_network(recipe).train()
    heatmaps = network.forward_all(torch.randn(2, 3, SIDE, SIDE))
    final = heatmaps.levels[0] if heatmaps.refined is None else heatmaps.refined
    predictions: list[Tensor] = [*heatmaps.levels, final]
    stride = recipe.tables.get("decoding", {}).get("stride", 4)
    assert {tuple(maps.shape) for maps in predictions} == {(2, 17, SIDE // stride, SIDE // stride)}
    torch.stack([(maps - 1).square().mean() for maps in predictions]).sum().backward()
    return network


@pytest.mark.parametrize("name", STRUCTURES)
def test_every_recipes_network_runs_forward_and_backward(name):
    if "inception" in name:
        pytest.importorskip("timm")
    with torch.device("meta"):  # shapes alone
        network = learnt(STRUCTURES[name][0])
    assert [key for key, weight in network.named_parameters() if weight.grad is None] == []


@pytest.mark.parametrize("name", ONE_OF_EACH_KIND)
def test_gradients_reach_every_layer(name):
    network = learnt(load_recipe(name))
    silent = [
        key
        for key, weight in network.named_parameters()
        if weight.grad is None or not math.isfinite(weight.grad.sum())
    ]
    assert silent == []
    moving = [weight.grad.abs().sum() > 0 for weight in network.parameters()]
    assert sum(moving) > 0.9 * len(moving)


def test_a_recipe_without_an_architecture_is_a_cpn(tmp_path):
    recipe = Recipe("plain", tmp_path, {"network": {"backbone": "resnet18"}})
    assert network_table(recipe) == CPNTable(backbone="resnet18")


@pytest.mark.parametrize("architecture", ["hrnet", "", 5, ["cpn"]])
def test_an_unknown_architecture_is_answered_with_those_there_are(architecture, tmp_path):
    recipe = Recipe("odd", tmp_path, {"network": {"architecture": architecture}})
    with pytest.raises(
        RecipeError, match=r"\[network\]: no architecture .*: cpn, globalnet, hourglass, plain, "
    ):
        network_table(recipe)


def test_a_network_that_is_no_table_is_an_error_of_the_recipe(tmp_path):
    with pytest.raises(RecipeError, match=r"\[network\]: it takes a table, got a whole number"):
        network_table(Recipe("odd", tmp_path, {"network": 5}))


def test_a_field_of_another_architecture_is_named(tmp_path):
    tables = {"network": {"architecture": "hourglass", "backbone": "resnet50"}}
    with pytest.raises(RecipeError, match="there is no field 'backbone'"):
        network_table(Recipe("odd", tmp_path, tables))


def test_a_stride_that_is_not_the_networks_is_an_error_of_the_recipe(tmp_path):
    tables = {
        "model": {"stage": "pose", "summary": ""},
        "network": {"architecture": "hourglass", "channels": 16, "stages": 1},
        "decoding": {"stride": 8},
    }
    with pytest.raises(RecipeError, match=r"decoding\.stride is 8, .* heatmaps have stride 4"):
        build_pose_network(Recipe("odd", tmp_path, tables))


def test_the_head_global_makes_a_cpn_a_globalnet_of_the_same_structure():
    table = CPNTable(backbone="mobilenet_v2", channels=16, merge="bias", batch_norm_eps=1e-3)
    alone = with_head(table, "global")
    assert alone == GlobalNetTable(
        backbone="mobilenet_v2", channels=16, merge="bias", batch_norm_eps=1e-3
    )
    assert with_head(table, "final") is table
    assert with_head(alone, "global") is alone
    assert isinstance(build_network(table), CPN)
    assert isinstance(build_network(alone), GlobalNetOnly)


@pytest.mark.parametrize("table", [HourglassTable(), ResNetTable()])
def test_a_network_without_globalnet_has_no_such_head(table):
    with pytest.raises(OptionError, match=r"head 'global' is a CPN's; this network is a '\w+'"):
        with_head(table, "global")


def test_a_head_that_does_not_exist_is_refused():
    with pytest.raises(OptionError, match="no head 'refine'; there are: final, global"):
        with_head(ResNetTable(), "refine")
