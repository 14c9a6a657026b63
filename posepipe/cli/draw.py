"""``posepipe draw``: kps.json or boxes.json in, images with skeletons or boxes out."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import click

from posepipe.cli.options import FRACTION, PATH, WORKERS, log_options
from posepipe.cli.progress import (
    check_some_done,
    count_of,
    progress_bar,
    report_findings,
    report_left_out,
    say,
)
from posepipe.cli.terminal import echo
from posepipe.drawing.style import DrawStyle
from posepipe.errors import DocumentError, ImageError, OptionError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from posepipe.core.boxes import Detections
    from posepipe.core.poses import Poses
    from posepipe.core.skeleton import Skeleton
    from posepipe.io.findings import Finding
    from posepipe.io.images import ImageFile


_LONGEST_NAME = 255  # bytes, on all usual file systems


@click.command()
@click.argument("results", type=PATH, metavar="KPS.JSON")
@click.option(
    "-o", "--output", type=PATH, help="The folder for the drawn images; or a video, as --video."
)
@click.option(
    "--video", type=PATH, help="For poses of a video: the .mp4, .mov, .mkv or .webm to write."
)
@click.option("--ids", is_flag=True, help="Draw each person's number, in a colour of its own.")
@click.option("--trails", is_flag=True, help="With --video: draw the path of each person.")
@click.option("--images", type=PATH, help="The folder of the images, if they have moved.")
@click.option(
    "--min-confidence",
    type=FRACTION,
    default=DrawStyle.min_confidence,
    show_default=True,
    help="Leave out keypoints with a lower confidence.",
)
@click.option(
    "--min-score",
    type=FRACTION,
    default=DrawStyle.min_score,
    show_default=True,
    help="Leave out people with a lower score; 0: draw everybody.",
)
@click.option("--boxes/--no-boxes", default=True, help="Draw boxes.")
@click.option("--scores/--no-scores", default=True, help="Draw scores.")
@click.option(
    "--workers", type=WORKERS, help="Number of threads.  [default: 2 to 12, by cores and memory]"
)
@click.option("--strict", is_flag=True, help="Stop at the first bad image or box.")
@click.option(
    "--model",
    help="A model with the [skeleton] of these poses, if another program wrote them and "
    "they are not COCO's.",
)
@log_options
@click.pass_obj
def draw(
    verbose: bool, /, results: Path, output: Path | None, workers: int | None, **options: Any
) -> None:
    """Draw the skeletons of KPS.JSON, or the boxes of a BOXES.JSON, into copies of the images.

    Orange is the person's left side, blue the right. Prints the paths of the drawn images. With
    --video, draws the poses of a video into a copy of it, with its sound.
    """
    if (output is None) == (options["video"] is None):
        raise click.UsageError("name a folder for drawn images with -o, or a video with --video")
    from posepipe.core.poses import Poses
    from posepipe.drawing.draw import draw_detections, draw_poses
    from posepipe.drawing.save import save_image
    from posepipe.drawing.video_writer import CODECS
    from posepipe.io.documents import Skipped
    from posepipe.networks.resources import choose_workers, free_memory, usable_cores
    from posepipe.runtime.streams import prefetch

    style = DrawStyle(
        min_confidence=options["min_confidence"],
        min_score=options["min_score"],
        boxes=options["boxes"],
        scores=options["scores"],
        ids=options["ids"] or options["trails"],
    )
    if output is not None and output.suffix.lower() in CODECS and not output.is_dir():
        output, options["video"] = None, output  # a video is meant
    if output is None:
        _draw_video(results, options, style, verbose=verbose)
        return
    if options["trails"]:
        raise OptionError("--trails are drawn in videos: name one with --video")
    items, problems, others, findings = _items(results, options["images"], options["model"])
    report_findings(findings)
    if options["strict"] and problems:
        raise DocumentError(f"{results}: {problems[0]}")
    drawn_by: dict[Path, ImageFile] = {}
    items = [(_drawable(output, image, drawn_by), found) for image, found in items]
    _check_folder(output, [image for image, _ in items if not image.problem])

    def draw_one(item: tuple[ImageFile, Detections | Poses]) -> Path | ImageError:
        image, found = item
        try:
            pixels = image.read()
        except ImageError as error:
            return error
        path = _drawn_path(output, image)
        if isinstance(found, Poses):
            save_image(path, draw_poses(pixels, found, style=style))
        else:
            save_image(path, draw_detections(pixels, found, style=style))
        return path

    if workers is None:
        workers = choose_workers(usable_cores(), free_memory(), networks_on_cpu=False)
    skipped = []
    with progress_bar(len(items), "draw", output) as bar:
        drawn = prefetch(draw_one, items, workers=workers, ahead=2 * workers)
        for (image, found), path in zip(items, drawn, strict=True):
            if not isinstance(path, ImageError):
                echo(path)
            elif options["strict"]:
                raise path
            else:
                skipped.append(Skipped(image.file_name, str(path)))
            bar(len(found))
    report_left_out(skipped, problems, others=others)
    count = len(items) - len(skipped)
    check_some_done(count, skipped, "nothing was drawn")
    if not items:
        echo(f"posepipe: {results} names no image: nothing was drawn", err=True)
    say(f"{count_of(count, 'image')} drawn in {output}", verbose=verbose)


def _draw_video(results: Path, options: dict[str, Any], style: DrawStyle, *, verbose: bool) -> None:
    from posepipe.cli.videos import video_progress
    from posepipe.io.documents import read_keypoints
    from posepipe.io.videos import Video
    from posepipe.videos.drawing import draw_video, video_path

    target: Path = options["video"]
    document = read_keypoints(
        results, images=options["images"], skeleton=_skeleton(options["model"])
    )
    report_findings(document.findings)
    source = video_path(document)
    if target.exists() and source.exists() and target.samefile(source):
        raise OptionError(f"{target} is the video itself, which it would destroy: name another")
    with Video(str(source)) as video, video_progress(video, "draw", target) as bar:
        count = draw_video(
            document, video, target, style=style, trails=options["trails"], progress=bar
        )
    echo(target)
    say(f"{count_of(count, 'frame')} drawn in {target}", verbose=verbose)


def _skeleton(model: str | None) -> Skeleton:
    from posepipe.core.skeleton import COCO_PERSON
    from posepipe.zoo.recipe import load_recipe
    from posepipe.zoo.skeleton import recipe_skeleton

    return COCO_PERSON if model is None else recipe_skeleton(load_recipe(model))


def _items(
    results: Path, images: Path | None, model: str | None
) -> tuple[list[tuple[ImageFile, Detections | Poses]], tuple[str, ...], int, tuple[Finding, ...]]:
    """The images with what was found in them; unsound boxes; how many of others; findings."""
    from posepipe.io.documents import read_boxes, read_keypoints
    from posepipe.io.result_list import read_results

    given = read_results(results)
    if given.holds_boxes:
        boxes = read_boxes(given, images=images)
        return (
            list(zip(boxes.images, boxes.detections, strict=True)),
            boxes.problems,
            boxes.other_categories,
            boxes.findings,
        )
    keypoints = read_keypoints(given, images=images, skeleton=_skeleton(model))
    people = zip(keypoints.images, keypoints.poses, strict=True)
    return list(people), (), keypoints.other_categories, keypoints.findings


def _check_folder(output: Path, images: Sequence[ImageFile]) -> None:
    """Check that images can be drawn into this folder without destroying the originals."""
    if output.exists() and not output.is_dir():
        raise OptionError(f"{output} is not a folder: name one for the drawn images")
    for image in images:
        path = _drawn_path(output, image)
        if path.exists() and image.path.exists() and path.samefile(image.path):
            raise OptionError(
                f"{output} is the folder of the images, drawing there would destroy {path.name}: "
                "name another one"
            )


def _drawable(output: Path, image: ImageFile, drawn_by: dict[Path, ImageFile]) -> ImageFile:
    """The image, with a problem where its drawn copy cannot have its name.

    Args:
        output: the folder.
        image: the image.
        drawn_by: the images so far by their drawn copies; this one is added.
    """
    path = _drawn_path(output, image)
    other = drawn_by.setdefault(path, image)
    if other is not image:
        problem = f"its drawn copy would replace that of image {other.id}, {other.file_name}"
    elif len(os.fsencode(path.name)) > _LONGEST_NAME:
        problem = f"its drawn copy, {path.name[:20]}….png, would have too long a name: rename it"
    else:
        return image
    return replace(image, problem=image.problem or problem)


def _drawn_path(output: Path, image: ImageFile) -> Path:
    """Where an image is drawn: under its own name, inside the folder whatever that name is."""
    parts = PurePosixPath(image.file_name.replace("\\", "/")).parts
    inside = [part for part in parts if part not in ("/", "//", "..")] or ["unnamed"]
    path = output.joinpath(*inside)
    if path.suffix.lower() in (".jpg", ".jpeg", ".png"):
        return path
    return path.with_name(path.name + ".png")  # a.tif beside a.png: two names
