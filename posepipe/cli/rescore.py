"""``posepipe rescore``: the scores of saved poses, computed again without any network."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import click

from posepipe.cli.options import FRACTION, PATH, check_output, log_options
from posepipe.cli.progress import report_findings, say
from posepipe.errors import OptionError


@click.command()
@click.argument("results", type=PATH, metavar="KPS.JSON")
@click.option("-o", "--output", type=PATH, required=True, help="The new kps.json.")
@click.option(
    "--rule",
    type=click.Choice(["product", "box", "confident"]),
    default="product",
    show_default=True,
    help="The pose score: box score x mean keypoint confidence (product, the paper's); "
    "the box score; or box score x mean of the confidences above 0.2 (confident, "
    "HRNet's).",
)
@click.option(
    "--oks-nms",
    type=FRACTION,
    help="Remove poses whose OKS with a better one exceeds this.  [default: keep all]",
)
@log_options
@click.pass_obj
def rescore(
    verbose: bool, /, results: Path, output: Path, rule: str, oks_nms: float | None
) -> None:
    """Compute new scores for the poses of KPS.JSON, from box scores and keypoint confidences.

    Poses that another program wrote without box scores cannot be rescored.
    """
    from dataclasses import replace

    from posepipe.io.documents import read_keypoints, write_keypoints
    from posepipe.io.result_list import read_results
    from posepipe.scoring.oks import without_duplicates
    from posepipe.scoring.rescore import Rule, rescored

    chosen: Rule = next(known for known in get_args(Rule) if known == rule)
    check_output(output, [results])
    given = read_results(results)
    if any(entry.keypoints is not None and entry.box_score is None for entry in given.entries):
        raise OptionError(
            f"{results} has poses without a box_score, which scores are made from: estimate the "
            "poses with posepipe pose"
        )
    document = read_keypoints(results)
    report_findings(document.findings)
    poses = [rescored(of_image, chosen) for of_image in document.poses]
    if oks_nms is not None:
        poses = [without_duplicates(of_image, threshold=oks_nms) for of_image in poses]
    write_keypoints(output, replace(document, poses=tuple(poses)))
    before, after = (sum(map(len, some)) for some in (document.poses, poses))
    say(f"{after} of {before} poses in {output}", verbose=verbose)
