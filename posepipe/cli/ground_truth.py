"""The options that name the ground truth, of every command that scores."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from posepipe.cli.options import PATH, coco_folder_option, together

ground_truth_options: Callable[[Any], Any] = together(
    click.option("--split", help="A COCO split: minival (= val2017), val2017, train2017."),
    coco_folder_option,
    click.option("--annotations", type=PATH, help="Any COCO annotation file instead of --split."),
)


def annotation_file(split: str | None, data: Path | None, annotations: Path | None) -> Path:
    """The annotation file that the options name.

    Raises:
        click.UsageError: neither a set nor a file is named, or both.
        DocumentError: there is no such set.
    """
    if split is None and annotations is None:
        raise click.UsageError("name the ground truth: --split NAME or --annotations FILE")
    if split is not None and annotations is not None:
        raise click.UsageError("name either --split or --annotations, not both")
    if data is not None and split is None:
        raise click.UsageError("--data is the folder of a --split")
    if annotations is not None:
        return annotations
    from posepipe.io.splits import find_split

    return find_split(split or "", data, images_needed=False).annotations
