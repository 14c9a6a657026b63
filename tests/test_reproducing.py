"""docs/reproducing.md names recipes, fields, options and pages that there are."""

from __future__ import annotations

import re
import shlex
from functools import cache
from pathlib import Path
from typing import NamedTuple

import click
import pytest
import torch

from posepipe.cli.main import main
from posepipe.pose.networks.base import PoseNetworkTable
from posepipe.pose.networks.build import build_network, network_table
from posepipe.training.pose.losses import check_loss
from posepipe.training.tables import PoseTrainingTable
from posepipe.zoo.recipe import list_experiments, list_recipes, load_recipe

PAGE = Path(__file__).parents[1] / "docs" / "reproducing.md"
TEXT = PAGE.read_text(encoding="utf-8")
VARIABLES = {"$IMAGENET": "training.imagenet_weights"}


class Training(NamedTuple):
    recipe: str
    run: str
    changes: list[str]


def words(line: str) -> list[str]:
    for variable, value in VARIABLES.items():
        line = line.replace(variable, value)
    return shlex.split(line, comments=True)


def changes_in(line: str) -> list[str]:
    found = words(line)
    return [value for option, value in zip(found, found[1:], strict=False) if option == "--set"]


def trainings() -> list[Training]:
    """What `train …` lines in tables and blocks of code say."""
    lines = re.findall(r"^train .*$|(?<=`)train [a-z]\S* [^`]*(?=`)", TEXT, re.MULTILINE)
    return [Training(*words(line)[1:3], changes_in(line)) for line in lines]


PAPER = changes_in(TEXT.split("PAPER=(", 1)[1].split("\n)", 1)[0])


def commands() -> list[list[str]]:
    lines = re.findall(r"^\s*(posepipe (?:detect|pose|eval) .*?)(?: && .*)?$", TEXT, re.MULTILINE)
    return [words(line) for line in lines]


def asides() -> list[str]:
    """The settings that the text mentions beside the commands, as `--set …`."""
    return re.findall(r"`(--set [^`]+=[^`]+)`", TEXT)


def options_of(command: str) -> set[str]:
    found = main.get_command(click.Context(main), command)
    assert found is not None, command
    return {option for parameter in found.params for option in parameter.opts}


@cache
def predictions(table: PoseNetworkTable) -> tuple[int, bool]:
    """How many intermediate predictions a network makes, and whether a final one."""
    with torch.device("meta"):  # shapes alone
        levels, refined = build_network(table).forward_all(torch.zeros(2, 3, 128, 96))
    return len(levels), refined is not None


def test_every_row_of_the_tables_has_a_command_and_a_run_folder_of_its_own():
    runs = [training.run for training in trainings()]
    # Tables 3 to 8: 10, 2, 3, 5, 3 and 3 rows that no earlier table has; three final models.
    assert len(runs) == 10 + 2 + 3 + 5 + 3 + 3 + 3
    assert len(set(runs)) == len(runs)


@pytest.mark.parametrize("training", trainings(), ids=lambda training: training.run)
def test_a_row_is_a_recipe_whose_fields_exist_and_whose_losses_fit_its_network(training):
    recipe = load_recipe(training.recipe).with_changes([*PAPER, *training.changes])
    table = recipe.table("training", PoseTrainingTable)
    assert table.samples == 19_200_000
    assert (table.augment.shift, table.augment.half_body, table.augment.colour) == (0, 0, 0)
    levels, refined = predictions(network_table(recipe))
    check_loss(table.loss, levels=levels, refined=refined)


def test_the_pages_figures_are_those_of_the_experiments():
    rows = re.findall(r"^\|.*\| ([\d.]+) \| `(train .*)` \|$", TEXT, re.MULTILINE)
    assert len(rows) == 25
    for ap, line in rows:
        recipe = load_recipe(words(line)[1]).with_changes(changes_in(line))
        if not changes_in(line)[1:]:  # M = 17 is a change of another row
            assert recipe.tables["paper"]["ap"] == float(ap), line


@pytest.mark.parametrize("aside", asides())
def test_settings_that_the_text_mentions_are_fields_of_a_recipe(aside):
    recipe = load_recipe("cpn-resnet50-256x192").with_changes([*PAPER, *changes_in(aside)])
    recipe.table("training", PoseTrainingTable)


@pytest.mark.parametrize("command", commands(), ids=" ".join)
def test_commands_have_options_that_exist_and_models_that_exist_or_were_trained(command):
    assert {word for word in command if word.startswith("-")} <= options_of(command[1])
    names = {recipe.name for recipe in (*list_recipes(), *list_experiments())}
    runs = {f"runs/{training.run}" for training in trainings()} | {"runs/$1"}
    for option, value in zip(command, command[1:], strict=False):
        if option == "--model":
            assert value in names | runs


def test_training_is_called_with_options_that_exist():
    paper = TEXT.split("PAPER=(", 1)[1].split("\n)", 1)[0]
    (call,) = re.findall(r"posepipe (train \"\$1\" -o .*)", TEXT)
    given = {word for word in words(paper + " " + call) if re.match(r"--?[a-z]", word)}
    assert given == {"--data", "--validate", "--set", "-o"}
    assert given <= options_of("train")


def test_links_lead_to_pages_that_are_there():
    links = re.findall(r"\]\(([^)#]+)\)", TEXT)
    assert links
    assert [link for link in links if not (PAGE.parent / link).exists()] == []
