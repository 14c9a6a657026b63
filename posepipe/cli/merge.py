"""``posepipe merge``: the shards of a run become one document."""

from __future__ import annotations

from pathlib import Path

import click

from posepipe.cli.options import PATH, check_output, log_options
from posepipe.cli.progress import check_some_done, progress_bar, report_counts, report_left_out


@click.command()
@click.argument("shards", type=PATH, nargs=-1, required=True, metavar="SHARD...")
@click.option(
    "-o", "--output", type=PATH, required=True, help="The kps.json or boxes.json to write."
)
@log_options
@click.pass_obj
def merge(verbose: bool, /, shards: tuple[Path, ...], output: Path) -> None:
    """Combine the files of --shard 1/N … N/N into one kps.json or boxes.json.

    SHARD is each of the files, in any order, such as kps.json.*-of-8. The result has the same
    bytes as that of a single run over all images. Shards that are missing, or of another run, are
    named.
    """
    check_output(output, shards)
    from posepipe.io.shards import read_shards
    from posepipe.runtime.merging import merge_shards

    found = read_shards(shards)
    with progress_bar(found.header.images, "merge", output) as bar:
        merged = merge_shards(found, output, progress=bar)
    report_left_out(merged.skipped)
    check_some_done(merged.images, merged.skipped, f"{output} has nobody in it")
    report_counts(merged.images, merged.people, output, verbose=verbose)
