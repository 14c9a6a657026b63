"""``posepipe eval``: results and ground truth in, COCO's numbers out, and why they are so."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from posepipe.cli.ground_truth import annotation_file, ground_truth_options
from posepipe.cli.options import PATH, check_output, log_options
from posepipe.cli.terminal import echo
from posepipe.errors import EvaluationError, OptionError

if TYPE_CHECKING:
    from posepipe.scoring.evaluation import Compared


@click.command("eval")
@click.argument("results", type=PATH, metavar="KPS.JSON")
@ground_truth_options
@click.option("--json", "json_file", type=PATH, help="Also write the metrics to this JSON file.")
@click.option(
    "--per-keypoint/--no-per-keypoint",
    default=True,
    show_default=True,
    help="Also compute the AP of each keypoint, which takes longest.",
)
@click.option(
    "--by-score",
    is_flag=True,
    help="Also print how many results are right in each band of scores, and precision "
    "and recall above it.",
)
@click.option(
    "--model",
    help="A model with the [skeleton] of these results, for boxes or for poses of "
    "another program that are not COCO's.",
)
@click.option("--explain", is_flag=True, help="Also print what each kind of error costs.")
@click.option(
    "--true-boxes",
    type=PATH,
    help="With --explain: poses estimated in the labelled boxes, to tell what the detector costs.",
)
@click.option(
    "--html", "page", type=PATH, help="Write the explanation, with plots, to this HTML file."
)
@click.option("--view", help="With --html: the URL of `posepipe view` to link to.")
@log_options
def evaluate(
    results: Path,
    split: str | None,
    data: Path | None,
    annotations: Path | None,
    json_file: Path | None,
    per_keypoint: bool,
    by_score: bool,
    model: str | None,
    explain: bool,
    true_boxes: Path | None,
    page: Path | None,
    view: str | None,
) -> None:
    """Evaluate poses (or a boxes.json) with COCO's metrics, equal to pycocotools'."""
    truth = annotation_file(split, data, annotations)
    if view is not None and page is None:
        raise click.UsageError("--view goes with --html")
    if true_boxes is not None and not explain:
        raise click.UsageError("--true-boxes goes with --explain")
    import msgspec

    from posepipe.core.skeleton import COCO_PERSON
    from posepipe.io.jsonfiles import write_whole
    from posepipe.io.result_list import read_results
    from posepipe.scoring import evaluation
    from posepipe.zoo.recipe import load_recipe
    from posepipe.zoo.skeleton import recipe_skeleton

    for output in (json_file, page):
        if output is not None:
            check_output(output, [results, truth])
    name = split or truth.name
    given = read_results(results)
    skeleton = None if model is None else recipe_skeleton(load_recipe(model))
    explained: dict[str, Any] = {}
    if given.holds_boxes:
        if explain or page:
            raise OptionError(f"{results} holds boxes: only poses can be explained")
        of_boxes = evaluation.evaluate_boxes(
            given, truth, split=name, by_score=by_score, skeleton=skeleton or COCO_PERSON
        )
        people, warnings = of_boxes.people, of_boxes.warnings
        table, numbers = of_boxes.as_table(), of_boxes.as_json()
    else:
        compared = evaluation.compare(given, truth, skeleton=skeleton)
        card = evaluation.score(compared, split=name, per_keypoint=per_keypoint, by_score=by_score)
        people, warnings = card.people, card.warnings
        table, numbers = card.as_table(), card.as_json()
        if explain or page:
            explained = _explain(compared, page, title=f"{results.name} on {name}", view=view)
    for warning in warnings:
        echo(f"posepipe: warning: {warning}", err=True)
    if not people:
        raise EvaluationError(f"{truth} labels nobody who counts: there is nothing to evaluate on")
    echo(table)
    if explain:
        echo(f"\n{explained['table']}")
        numbers["explanation"] = explained["json"]
    if true_boxes is not None:
        best = evaluation.evaluate(true_boxes, truth, per_keypoint=False, skeleton=skeleton).ap
        numbers["explanation"]["ap_true_boxes"] = best
        echo(f"\nIn the labelled boxes AP is {'–' if best is None else f'{100 * best:.1f}'}.")
    if json_file is not None:
        encoded = msgspec.json.format(msgspec.json.encode(numbers), indent=2)
        write_whole(json_file, [encoded, b"\n"])


def _explain(
    compared: Compared, page: Path | None, *, title: str, view: str | None
) -> dict[str, Any]:
    """The explanation as a table and as JSON, and as a page where one is asked for."""
    from posepipe.analysis import report
    from posepipe.analysis.explain import explain
    from posepipe.analysis.page import as_page
    from posepipe.io.jsonfiles import write_whole
    from posepipe.scoring.coco import pose_matches
    from posepipe.scoring.precision import precision_recall

    comparison = compared.comparison
    explanation = explain(comparison)
    if page is not None:
        curves = precision_recall(pose_matches(comparison), comparison.found)
        text = as_page(explanation, curves, title=title, view=view or "")
        write_whole(page, [text.encode()])
    return {"table": report.as_table(explanation), "json": report.as_json(explanation)}
