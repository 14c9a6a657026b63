"""``posepipe pose``: boxes.json in, kps.json out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from posepipe.cli.options import (
    PATH,
    check_output,
    limited,
    run_options,
    running_options,
    shard_output,
)
from posepipe.cli.progress import (
    check_some_done,
    progress_bar,
    report_findings,
    report_left_out,
    report_people,
)
from posepipe.cli.stage_options import (
    chosen_pose,
    compile_if_wanted,
    compile_option,
    pipeline_of,
    pose_options,
)
from posepipe.errors import DocumentError

if TYPE_CHECKING:
    from posepipe.core.skeleton import Skeleton
    from posepipe.io.documents import BoxesDocument


@click.command()
@click.argument("boxes", type=PATH, required=False, metavar="[BOXES.JSON]")
@click.option("-o", "--output", type=PATH, required=True, help="The kps.json to write.")
@click.option(
    "--images", type=PATH, help="The folder of the images, for lists, and if the images have moved."
)
@click.option(
    "--annotations", type=PATH, help="For a detection list: a COCO file with the file names."
)
@click.option(
    "--ground-truth",
    type=PATH,
    help="Use the labelled boxes of this COCO annotation file.",
)
@pose_options
@compile_option
@running_options
@click.pass_obj
def pose(verbose: bool, /, boxes: Path | None, output: Path, **options: Any) -> None:
    """Estimate the poses of the people in BOXES.JSON.

    BOXES.JSON is what `posepipe detect` writes, or a plain COCO detection list.
    """
    from posepipe.io.checksums import sha256_of
    from posepipe.zoo.recipe import load_recipe
    from posepipe.zoo.skeleton import recipe_skeleton

    output = shard_output(output, options)
    chosen = chosen_pose(options)
    document, source = _boxes(boxes, options, recipe_skeleton(load_recipe(chosen.models[0])))
    report_findings(document.findings)
    document = replace(document, images=limited(document.images, options))
    if options["strict"] and document.problems:
        raise DocumentError(f"{source}: {document.problems[0]}")
    given = (boxes, options["annotations"], options["ground_truth"])
    check_output(output, [*given, *(image.path for image in document.images)])
    from posepipe.runtime.runs import run_poses

    pipeline = pipeline_of(options, pose=chosen)
    compile_if_wanted(pipeline, options, "pose", images=len(document.images))
    made = pipeline.made_by("pose")
    with progress_bar(len(document.images), "pose", output) as bar:
        written, skipped = run_poses(
            pipeline.pose_stage,
            document,
            run_options(options, output=output, made_by=made, progress=bar),
            finish=pipeline.finish,
            boxes_digest=sha256_of(source),
        )
    skipped = (*document.skipped, *skipped)
    report_left_out(skipped, document.problems, others=document.other_categories)
    check_some_done(len(written.images), skipped, f"{output} has nobody in it")
    report_people(written.poses, output, verbose=verbose)


def _boxes(
    boxes: Path | None, options: dict[str, Any], skeleton: Skeleton
) -> tuple[BoxesDocument, Path]:
    """The boxes of what the model is for, and the file they come from."""
    from posepipe.io.coco import read_coco
    from posepipe.io.documents import labelled_document, read_boxes

    ground_truth, images = options["ground_truth"], options["images"]
    if ground_truth is not None:
        if boxes is not None:
            raise click.UsageError("give either BOXES.JSON or --ground-truth")
        if options["annotations"] is not None:
            raise click.UsageError("give either --annotations or --ground-truth")
        if images is None:
            raise click.UsageError("--ground-truth needs the images' folder: --images DIR")
        labels = read_coco(ground_truth).people(skeleton=skeleton)
        return labelled_document(labels, images, skeleton=skeleton), ground_truth
    if boxes is None:
        raise click.UsageError("name a BOXES.JSON (`posepipe detect` writes one) or --ground-truth")
    annotations = options["annotations"]
    document = read_boxes(boxes, images=images, annotations=annotations, skeleton=skeleton)
    return document, boxes
