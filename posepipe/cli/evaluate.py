"""``posepipe eval``: results and ground truth in, COCO's numbers out."""

from __future__ import annotations

from pathlib import Path

import click

from posepipe.cli.options import PATH, check_output, verbose_option
from posepipe.cli.terminal import echo


@click.command("eval")
@click.argument("results", type=PATH, metavar="KPS.JSON")
@click.option("--split", help="A COCO set: minival (= val2017), val2017, train2017.")
@click.option("--data", type=PATH, help="COCO's folder.  [default: $POSEPIPE_DATA, datasets/coco]")
@click.option("--annotations", type=PATH, help="Any COCO annotation file instead of a set.")
@click.option("--json", "json_file", type=PATH, help="Also write the numbers to this file.")
@click.option(
    "--per-keypoint/--no-per-keypoint",
    default=True,
    show_default=True,
    help="The AP of every keypoint alone, which takes longest.",
)
@click.option(
    "--model",
    help="Whose [skeleton] the results have: for boxes, and for poses of another program, that are "
    "not of COCO's person.",
)
@verbose_option
def evaluate(
    results: Path,
    split: str | None,
    data: Path | None,
    annotations: Path | None,
    json_file: Path | None,
    per_keypoint: bool,
    model: str | None,
) -> None:
    """Score poses (or a boxes.json) by COCO's metrics, as pycocotools computes them."""
    if split is None and annotations is None:
        raise click.UsageError("name the ground truth: --split NAME or --annotations FILE")
    if split is not None and annotations is not None:
        raise click.UsageError("name either --split or --annotations, not both")
    if data is not None and split is None:
        raise click.UsageError("--data is the folder of a --split")
    import msgspec

    from posepipe.core.skeleton import COCO_PERSON
    from posepipe.io.jsonfiles import write_whole
    from posepipe.io.result_list import read_results
    from posepipe.io.splits import find_split
    from posepipe.scoring import evaluation
    from posepipe.scoring.scorecard import BoxScoreCard, ScoreCard
    from posepipe.zoo.recipe import load_recipe
    from posepipe.zoo.skeleton import recipe_skeleton

    if split is not None:
        annotations = find_split(split, data, images_needed=False).annotations
    assert annotations is not None  # noqa: S101  # one of the two was given
    if json_file is not None:
        check_output(json_file, [results, annotations])
    name = split or annotations.name
    card: ScoreCard | BoxScoreCard
    given = read_results(results)
    skeleton = None if model is None else recipe_skeleton(load_recipe(model))
    if given.holds_boxes:
        card = evaluation.evaluate_boxes(
            given, annotations, split=name, skeleton=skeleton or COCO_PERSON
        )
    else:
        card = evaluation.evaluate(
            given,
            annotations,
            split=name,
            per_keypoint=per_keypoint,
            skeleton=skeleton,
        )
    for warning in card.warnings:
        echo(f"posepipe: warning: {warning}", err=True)
    echo(card.as_table())
    if json_file is not None:
        encoded = msgspec.json.format(msgspec.json.encode(card.as_json()), indent=2)
        write_whole(json_file, [encoded, b"\n"])
