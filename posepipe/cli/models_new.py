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
    "--base", help="The model whose network and training are used.  [default: the shipped one]"
)
@click.option("--category", help="Which category, where several have keypoints.")
def new(folder: Path, annotations: Path, base: str | None, category: str | None) -> None:
    """Make the model folder NAME for the keypoints that an annotation file names.

    It has a recipe for `posepipe train`: keypoints and limbs as in the file, mirror pairs by "left"
    and "right" in the names. What the file does not say is stated here and in the recipe.
    """
    from posepipe.curation.own_skeleton import new_model
    from posepipe.options import DEFAULT_POSE_MODEL

    base = base or DEFAULT_POSE_MODEL
    made = new_model(folder, annotations, base=base, category=category)
    skeleton = made.skeleton
    echo(f"{made.folder}: {len(skeleton)} keypoints of {skeleton.category!r}, as {base}")
    for note in made.notes:
        echo(f"- {note}")
    echo(f"next: posepipe train {made.folder} -o RUN --data {annotations} PICTURES --start {base}")
