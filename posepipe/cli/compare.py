"""``posepipe compare``: do two results differ, or is it chance?"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

import click

from posepipe.cli.ground_truth import annotation_file, ground_truth_options
from posepipe.cli.options import PATH, check_output, log_options
from posepipe.cli.progress import progress_bar
from posepipe.cli.terminal import echo


@click.command()
@click.argument("first", type=PATH, metavar="A.JSON")
@click.argument("others", type=PATH, metavar="B.JSON", nargs=-1, required=True)
@ground_truth_options
@click.option(
    "--resamples",
    type=click.IntRange(0, 100_000),
    default=1000,
    show_default=True,
    help="Bootstrap resamples for the intervals; 0: no intervals.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the resampling.")
@click.option(
    "--images",
    "--pictures",  # the former name
    "images",
    type=click.IntRange(0),
    default=10,
    show_default=True,
    help="How many of the images that changed most to list.",
)
@click.option("--json", "json_file", type=PATH, help="Also write everything to this JSON file.")
@log_options
def compare(
    first: Path,
    others: tuple[Path, ...],
    split: str | None,
    data: Path | None,
    annotations: Path | None,
    resamples: int,
    seed: int,
    images: int,
    json_file: Path | None,
) -> None:
    """Compare the poses of B.JSON (and more) with those of A.JSON on the same labels.

    Prints COCO's ten metrics and the mean OKS of labelled people, their differences, and what the
    choice of images could change by chance (paired bootstrap): a difference is real if its
    interval excludes 0. The AP of each keypoint and the images that changed most follow.
    """
    truth = annotation_file(split, data, annotations)
    import msgspec

    from posepipe.analysis.report import change_overview, change_table, image_table
    from posepipe.analysis.resampling import changes_of_images, differences
    from posepipe.io.coco import read_coco
    from posepipe.io.jsonfiles import write_whole
    from posepipe.scoring import evaluation

    if json_file is not None:
        check_output(json_file, [first, *others, truth])
    one = evaluation.compare(first, truth)
    labels = read_coco(truth).people(skeleton=one.comparison.skeleton)
    said = {f"{first}: {line}": None for line in one.warnings}
    documents = []
    compared = {}
    with progress_bar(resamples * len(others), "compare", first, unit="resamples") as bar:
        for path in others:
            other = evaluation.compare(path, labels)
            said |= {f"{path}: {line}": None for line in other.warnings}
            changes = differences(
                one.comparison,
                other.comparison,
                images=len(one.file_names),
                resamples=resamples,
                seed=seed,
                progress=bar,
            )
            compared[path] = changes, changes_of_images(one.comparison, other.comparison)
    names = _names([first, *others])
    if len(others) > 1:
        echo(change_overview([changes for changes, _ in compared.values()], names) + "\n")
    for path, name in zip(others, names[1:], strict=True):
        changes, most = compared[path]
        both = names[0], name
        echo(f"{path} against {first}\n\n{change_table(changes, both)}\n")
        seen = [change for change in most if change.is_seen]
        if images and seen:
            echo(image_table(seen[:images], one.file_names, both) + "\n")
            command = ["posepipe", "view", path, "--before", first, "--annotations", truth]
            echo(f"Look at them: {shlex.join(map(str, command))}\n")
        elif images:
            echo("Mean OKS changed in no image: the runs differ in scores, if at all.\n")
        documents.append(
            {
                "first": str(first),
                "second": str(path),
                "numbers": changes,
                "images": [
                    {"file_name": one.file_names[p.image], "first": p.first, "second": p.second}
                    for p in most
                ],
            }
        )
    for line in said:
        echo(f"posepipe: warning: {line}", err=True)
    if json_file is not None:
        encoded = msgspec.json.format(msgspec.json.encode(documents), indent=2)
        write_whole(json_file, [encoded, b"\n"])


def _names(paths: Sequence[Path]) -> list[str]:
    """File names, or whole paths where two files have the same name."""
    names = [path.name for path in paths]
    return names if len(set(names)) == len(names) else [str(path) for path in paths]
