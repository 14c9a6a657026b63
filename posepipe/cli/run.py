"""``posepipe run``: images in, kps.json out."""

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
from posepipe.cli.progress import (
    check_some_done,
    progress_bar,
    report_counts,
    report_left_out,
    report_people,
)
from posepipe.cli.ray import ray_options, run_on_cluster
from posepipe.cli.stage_options import (
    chosen_detection,
    chosen_pose,
    compile_if_wanted,
    compile_option,
    detection_options_of_run,
    pipeline_of,
    pose_options,
)
from posepipe.cli.videos import (
    are_videos,
    following_options,
    report_frames,
    run_video_command,
    video_options,
)


@click.command()
@image_options
@click.option(
    "-o",
    "--output",
    type=PATH,
    required=True,
    help="The kps.json to write; for a video also .jsonl, or - for stdout: one line per frame.",
)
@video_options
@following_options
@detection_options_of_run
@pose_options
@compile_option
@running_options
@ray_options
@click.pass_obj
def run(verbose: bool, /, output: Path, **options: Any) -> None:
    """Find the people in images or in a video, and estimate their poses.

    INPUT is a folder, an image, a pattern like 'photos/*.jpg', or a text file with one path per
    line; or a single video, animated GIF or WebP, camera number like 0, or URL like
    rtsp://camera/1.
    """
    if are_videos(options):
        done = run_video_command(options, output)
        report_frames(done.frames, done.people, output, verbose=verbose)
        return
    if options["engine"] == "ray":
        merged = run_on_cluster(options, output)
        report_left_out(merged.skipped)
        check_some_done(merged.images, merged.skipped, f"{output} has nobody in it")
        report_counts(merged.images, merged.people, output, verbose=verbose)
        return
    output = shard_output(output, options)
    images = image_set(options)
    check_output(output, [*options["inputs"], *(image.path for image in images)])
    from posepipe.runtime.runs import run_both

    pipeline = pipeline_of(options, detection=chosen_detection(options), pose=chosen_pose(options))
    compile_if_wanted(pipeline, options, "run", images=len(images))
    made = pipeline.made_by("run")
    with progress_bar(len(images), "run", output) as bar:
        written, skipped = run_both(
            *pipeline.both_stages,
            images,
            run_options(options, output=output, made_by=made, progress=bar),
            finish=pipeline.finish,
        )
    report_left_out(skipped)
    check_some_done(len(written.images), skipped, f"{output} has nobody in it")
    report_people(written.poses, output, verbose=verbose)
