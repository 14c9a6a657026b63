"""``posepipe detect``: images in, boxes.json out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from posepipe.cli.options import (
    PATH,
    check_output,
    image_options,
    image_set,
    run_options,
    running_options,
    shard_output,
)
from posepipe.cli.progress import check_some_done, progress_bar, report_left_out, report_people
from posepipe.cli.stage_options import (
    chosen_detection,
    compile_if_wanted,
    compile_option,
    detection_options,
    pipeline_of,
)
from posepipe.cli.videos import are_videos, detect_video_command, report_frames, video_options


@click.command()
@image_options
@click.option("-o", "--output", type=PATH, required=True, help="The boxes.json to write.")
@video_options
@detection_options
@compile_option
@running_options
@click.pass_obj
def detect(verbose: bool, /, output: Path, **options: Any) -> None:
    """Find the people in images or in a video, and write their boxes.

    INPUT is a folder, an image, a pattern like 'photos/*.jpg', or a text file with one path per
    line; or a single video, animated GIF or WebP, or URL of a video.
    """
    if are_videos(options):
        found = detect_video_command(options, output)
        people = sum(map(len, found.detections))
        report_frames(len(found.images), people, output, verbose=verbose)
        return
    output = shard_output(output, options)
    images = image_set(options)
    check_output(output, [*options["inputs"], *(image.path for image in images)])
    from posepipe.runtime.runs import run_detection

    pipeline = pipeline_of(options, detection=chosen_detection(options))
    compile_if_wanted(pipeline, options, "detect", images=len(images))
    made = pipeline.made_by("detect")
    with progress_bar(len(images), "detect", output) as bar:
        document = run_detection(
            pipeline.detection_stage,
            images,
            run_options(options, output=output, made_by=made, progress=bar),
            category=pipeline.detection_stage.settings.category,
        )
    report_left_out(document.skipped)
    check_some_done(len(document.images), document.skipped, f"{output} has nobody in it")
    report_people(document.detections, output, verbose=verbose)
