"""Sizes and multiply-adds of the paper's networks, ours against the paper's."""

from __future__ import annotations

import pytest

from posepipe.curation.cost import Cost
from posepipe.curation.paper import Comparison, PaperTable, compare_with_paper
from posepipe.errors import RecipeError
from posepipe.zoo.recipe import Recipe, list_experiments, load_recipe

pytestmark = pytest.mark.slow

# docs/networks.md says why: the paper's row lacks what its CPN rows have.
FAR_OFF = {"globalnet-resnet50-256x192"}


@pytest.fixture(scope="module")
def as_written() -> dict[str, Comparison]:
    return {row.name: row for row in compare_with_paper(list_experiments())}


@pytest.fixture(scope="module")
def as_the_paper_counts() -> dict[str, Comparison]:
    resnets = [recipe for recipe in list_experiments() if "resnet50" in recipe.name]
    return {row.name: row for row in compare_with_paper(resnets, stride_in_1x1=True)}


def test_no_recipes_are_no_rows():
    assert compare_with_paper([]) == []


def test_a_recipe_without_the_papers_numbers_is_no_row(as_written):
    assert compare_with_paper([load_recipe("cpn-litehrnet-256x192")]) == []
    assert "cpn-star-resnet101-256x192" not in as_written  # nor does it inherit any


def test_every_table_of_networks_has_all_its_rows(as_written):
    rows = {
        table: {row.paper.ap for row in as_written.values() if table in row.paper.tables}
        for table in (3, 4, 5, 6, 7, 8)
    }
    assert rows == {
        3: {54.5, 66.5, 66.9, 41.3, 44.1, None, 66.6, 68.6, 69.4},
        4: {66.6, 68.5, 69.2, 69.4},
        5: {68.3, 68.4, 69.1, 69.4},
        6: {68.8, 69.4, 69.0, 68.6},
        7: {68.2, 68.6, 68.5, 69.4, 69.1},
        8: {66.9, 67.1, 68.6, 69.4, 70.6, 71.6},
    }
    assert sum(3 in row.paper.tables for row in as_written.values()) == 10
    assert sum(6 in row.paper.tables for row in as_written.values()) == 6


def test_sizes_are_near_the_papers(as_written):
    off = {row.name: row.parameters_off for row in as_written.values() if row.parameters_off}
    assert len(off) == 10
    assert {name: share for name, share in off.items() if abs(share) > 0.03} == {}


def test_multiply_adds_are_near_the_papers_but_where_the_docs_say_why(as_written):
    off = {row.name: row.multiply_adds_off for row in as_written.values() if row.multiply_adds_off}
    assert {name for name, share in off.items() if abs(share) > 0.1} == FAR_OFF


def test_resnets_and_cpns_cost_what_the_paper_says_if_counted_as_there(as_the_paper_counts):
    off = {
        row.name: row.multiply_adds_off
        for row in as_the_paper_counts.values()
        if row.paper.multiply_adds_g and row.name not in FAR_OFF
    }
    assert len(off) == 13
    assert {name: share for name, share in off.items() if abs(share) > 0.005} == {}


def test_training_settings_alone_cost_nothing(as_written):
    assert as_written["cpn-m6-resnet50-256x192"].cost is as_written["cpn-resnet50-256x192"].cost


def test_a_difference_is_relative_to_the_paper():
    row = Comparison(
        "x", PaperTable(tables=(3,), multiply_adds_g=2.0, ap=50.0), Cost(10.0, 2.5, (192, 256))
    )
    assert row.multiply_adds_off == pytest.approx(0.25)
    assert row.parameters_off is None


def test_a_wrong_number_is_an_error_of_the_recipe(tmp_path):
    tables = {"model": {"stage": "pose", "summary": ""}, "paper": {"tables": 3}}
    with pytest.raises(RecipeError, match=r"\[paper\].*tables"):
        compare_with_paper([Recipe("odd", tmp_path, tables)])
