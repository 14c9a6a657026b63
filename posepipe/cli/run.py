"""``posepipe run``: pictures in, kps.json out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from posepipe.cli.fetching import fetch_missing
from posepipe.cli.options import (
    PATH,
    check_output,
    chosen_detection,
    chosen_pose,
    detection_options_of_run,
    image_set,
    picture_options,
    pose_options,
    run_options,
    running_options,
)
from posepipe.cli.progress import check_some_done, progress_bar, report_left_out, report_people


@click.command()
@picture_options
@click.option("-o", "--output", type=PATH, required=True, help="The kps.json to write.")
@detection_options_of_run
@pose_options
@running_options
@click.pass_obj
def run(verbose: bool, /, output: Path, **options: Any) -> None:
    """Find the people in pictures and estimate their poses, in one go.

    INPUT is a folder, a picture, a pattern like 'photos/*.jpg', or a text file of paths.
    """
    images = image_set(options)
    check_output(output, [*options["inputs"], *(image.path for image in images)])
    from posepipe.api import made_by_both
    from posepipe.runtime.runs import run_both

    detection, pose = chosen_detection(options), chosen_pose(options)
    offline = options["offline"]
    fetch_missing(detection.models, detection.weights, stage="detection", offline=offline)
    fetch_missing(pose.models, pose.weights, stage="pose", offline=offline)
    detection_stage, pose_stage = detection.stage(), pose.stage()
    made = made_by_both(detection, detection_stage, pose, pose_stage)
    with progress_bar(len(images), "run", output) as bar:
        written, skipped = run_both(
            detection_stage,
            pose_stage,
            images,
            run_options(options, output=output, made_by=made, progress=bar),
            finish=pose.finish,
        )
    report_left_out(skipped)
    check_some_done(len(written.images), skipped, f"{output} has nobody in it")
    report_people(written.poses, output, verbose=verbose)
