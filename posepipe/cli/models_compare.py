"""``posepipe models compare``: what our networks cost beside what the paper says they do."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import click

from posepipe.cli.terminal import echo

if TYPE_CHECKING:
    from posepipe.curation.paper import Comparison

_HEAD = (
    f"{'':44}{'parameters, MB':^25}{'multiply-adds, 2^30':^25}{'OKS AP':>8}\n"
    f"{'':44}{'ours':>8}{'paper':>8}{'':>9}{'ours':>8}{'paper':>8}{'':>9}{'paper':>8}"
)


@click.command()
@click.option(
    "--stride-in-1x1",
    is_flag=True,
    help="Count ResNets as the paper does: with the stride in the first 1x1 convolution "
    "instead of the 3x3 one.",
)
def compare(stride_in_1x1: bool) -> None:
    """Print size and multiply-adds of the paper's networks, ours beside the paper's.

    Accuracies are the paper's. docs/networks.md explains the differences.
    """
    from posepipe.curation.paper import compare_with_paper
    from posepipe.zoo.recipe import list_experiments

    rows = compare_with_paper(list_experiments(), stride_in_1x1=stride_in_1x1)
    echo(_HEAD)
    for table in sorted({table for row in rows for table in row.paper.tables}):
        echo(f"table {table}")
        for row in sorted(
            (row for row in rows if table in row.paper.tables),
            key=lambda row: (math.inf if row.paper.ap is None else row.paper.ap, row.name),
        ):
            echo(_line(row).rstrip())


def _line(row: Comparison) -> str:
    paper, cost = row.paper, row.cost
    return "".join(
        [
            f"  {row.name:42}",
            f"{cost.parameters_mb:8.1f}",
            _papers(paper.parameters_mb, row.parameters_off, digits=0),
            f"{cost.multiply_adds_g:8.2f}",
            _papers(paper.multiply_adds_g, row.multiply_adds_off, digits=2),
            "" if paper.ap is None else f"{paper.ap:8.1f}",
        ]
    )


def _papers(number: float | None, off: float | None, *, digits: int) -> str:
    if number is None or off is None:
        return f"{'–':>8}{'':9}"
    return f"{number:8.{digits}f}{100 * off:+7.1f} %"
