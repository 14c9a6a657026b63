"""``posepipe models new``: a recipe for one's own keypoints."""

from __future__ import annotations

from pathlib import Path

import click

from posepipe.cli.options import PATH
from posepipe.cli.terminal import echo


@click.command()
@click.argument("folder", type=PATH, metavar="NAME")
@click.option(
    "--annotations",
    type=PATH,
    required=True,
    help="A COCO file whose categories name their keypoints.",
)
@click.option(
    "--base",
    help="The model to take network and training settings from.  [default: the default pose model]",
)
@click.option("--category", help="Which category, if several have keypoints.")
def new(folder: Path, annotations: Path, base: str | None, category: str | None) -> None:
    """Make the model folder NAME for the keypoints of an annotation file.

    The folder contains a recipe for `posepipe train`, with the keypoints and limbs of the file,
    and mirror pairs by "left" and "right" in the names. What the file does not say is printed
    here and noted in the recipe.
    """
    from posepipe.curation.own_skeleton import new_model
    from posepipe.options import DEFAULT_POSE_MODEL

    base = base or DEFAULT_POSE_MODEL
    made = new_model(folder, annotations, base=base, category=category)
    skeleton = made.skeleton
    echo(f"{made.folder}: {len(skeleton)} keypoints of {skeleton.category!r}, as {base}")
    for note in made.notes:
        echo(f"- {note}")
    echo(f"next: posepipe train {made.folder} -o RUN --data {annotations} IMAGES --start {base}")
