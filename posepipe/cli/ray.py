"""``posepipe run --engine ray``: the same run by the machines of a Ray cluster."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from posepipe.cli.options import COUNT, check_output, image_set, together
from posepipe.cli.progress import progress_bar
from posepipe.cli.stage_options import chosen_detection, chosen_pose, fetch_weights
from posepipe.errors import OptionError

if TYPE_CHECKING:
    from posepipe.runtime.merging import Merged

ray_options: Callable[[Any], Any] = together(
    click.option(
        "--engine",
        type=click.Choice(["local", "ray"]),
        default="local",
        show_default=True,
        help="Who does the work: this process, or a Ray cluster.",
    ),
    click.option(
        "--ray-address",
        help="Of a running cluster, like auto or ray://head:10001.  [default: one is started here]",
    ),
    click.option("--ray-workers", type=COUNT, help="Workers, at most.  [default: as many as fit]"),
    click.option(
        "--ray-cpus",
        type=click.FloatRange(min=0, min_open=True),
        default=1,
        show_default=True,
        help="Cores per worker.",
    ),
    click.option(
        "--ray-gpus",
        type=click.FloatRange(min=0),
        default=0,
        show_default=True,
        help="GPUs per worker; with 0.5 two workers share one.",
    ),
)


def run_on_cluster(options: dict[str, Any], output: Path) -> Merged:
    """`posepipe run` on a cluster.

    Raises:
        PosepipeError: as `posepipe.distributed.run.run_distributed`.
    """
    from posepipe.distributed.cluster import Cluster, check_installed

    if options["shard"] is not None:
        raise OptionError("--shard and --engine ray both divide the images: use one of them")
    if options["compile"] == "on":
        raise OptionError("the workers of --engine ray do not compile: leave out --compile")
    check_installed()
    images = image_set(options)
    check_output(output, [*options["inputs"], *(image.path for image in images)])
    from posepipe.distributed.run import run_distributed

    detection, pose = chosen_detection(options), chosen_pose(options)
    fetch_weights(options, detection=detection, pose=pose)
    with progress_bar(len(images), "run", output) as bar:
        return run_distributed(
            images,
            output,
            detection=detection,
            pose=pose,
            cluster=Cluster(
                address=options["ray_address"],
                workers=options["ray_workers"],
                cpus=options["ray_cpus"],
                gpus=options["ray_gpus"],
            ),
            device=options["device"],
            precision=options["precision"],
            runtime=options["runtime"],
            threads=options["threads"],
            workers=options["workers"],
            resume=options["resume"],
            strict=options["strict"],
            progress=bar,
        )
