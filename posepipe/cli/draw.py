"""``posepipe draw``: kps.json or boxes.json in, pictures with skeletons or boxes out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from posepipe.cli.options import PATH
from posepipe.cli.progress import progress_bar, report_left_out, say

if TYPE_CHECKING:
    from posepipe.core.boxes import Detections
    from posepipe.core.poses import Poses
    from posepipe.data.images import ImageFile


@click.command()
@click.argument("results", type=PATH, metavar="KPS.JSON")
@click.option("-o", "--output", type=PATH, required=True, help="The folder for the drawn pictures.")
@click.option("--images", type=PATH, help="The pictures' folder, where they have moved.")
@click.option(
    "--min-confidence",
    type=float,
    default=0.2,
    show_default=True,
    help="Leave out keypoints with a lower confidence.",
)
@click.option(
    "--min-score",
    type=float,
    default=0.2,
    show_default=True,
    help="Leave out people with a lower score.",
)
@click.option("--boxes/--no-boxes", default=True, help="Draw boxes.")
@click.option("--scores/--no-scores", default=True, help="Write scores.")
@click.option(
    "--workers", type=click.IntRange(0, 64), default=2, show_default=True, help="Threads."
)
@click.pass_obj
def draw(verbose: bool, /, results: Path, output: Path, workers: int, **options: Any) -> None:
    """Draw the skeletons of KPS.JSON, or the boxes of a BOXES.JSON, into copies of the pictures.

    Orange is the person's own left side, blue the right. The paths of the drawn pictures go to
    stdout.
    """
    from posepipe.core.poses import Poses
    from posepipe.data.documents import Skipped, read_boxes, read_keypoints
    from posepipe.drawing.draw import draw_detections, draw_poses
    from posepipe.drawing.save import save_image
    from posepipe.drawing.style import DrawStyle
    from posepipe.engines.streams import prefetch
    from posepipe.errors import ImageError
    from posepipe.scoring.results import holds_boxes

    style = DrawStyle(
        min_confidence=options["min_confidence"],
        min_score=options["min_score"],
        boxes=options["boxes"],
        scores=options["scores"],
    )
    items: list[tuple[ImageFile, Detections | Poses]]
    if holds_boxes(results):
        boxes = read_boxes(results, images=options["images"])
        items = list(zip(boxes.images, boxes.detections, strict=True))
    else:
        keypoints = read_keypoints(results, images=options["images"])
        items = list(zip(keypoints.images, keypoints.poses, strict=True))

    def draw_one(item: tuple[ImageFile, Detections | Poses]) -> Path | Skipped:
        image, found = item
        path = output / image.file_name
        if path.suffix.lower() not in (".jpg", ".jpeg", ".png"):
            path = path.with_suffix(".png")
        try:
            pixels = image.read()
        except ImageError as error:
            return Skipped(image.file_name, str(error))
        if isinstance(found, Poses):
            save_image(path, draw_poses(pixels, found, style=style))
        else:
            save_image(path, draw_detections(pixels, found, style=style))
        return path

    skipped = []
    with progress_bar(len(items), "draw", output) as bar:
        drawn = prefetch(draw_one, items, workers=workers, ahead=2 * workers)
        for (_, found), path in zip(items, drawn, strict=True):
            bar(len(found))
            if isinstance(path, Skipped):
                skipped.append(path)
            else:
                click.echo(path)
    report_left_out(skipped)
    say(f"{len(items) - len(skipped)} pictures drawn in {output}", verbose=verbose)
