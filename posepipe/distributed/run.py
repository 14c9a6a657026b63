"""A run on a cluster in one call: what ``posepipe run --engine ray`` does."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from posepipe.distributed.cluster import Cluster, check_installed, joined
from posepipe.errors import OptionError
from posepipe.io.documents import made_by
from posepipe.io.find_images import find_images
from posepipe.io.images import ImageSet
from posepipe.networks.resources import choose_workers
from posepipe.options import DetectionOptions, PoseOptions
from posepipe.runtime.runs import RunOptions

if TYPE_CHECKING:
    from posepipe.runtime.merging import Merged


def run_distributed(
    images: ImageSet | str | Path | Sequence[str | Path],
    output: str | Path,
    *,
    detection: DetectionOptions | str | Path | None = None,
    pose: PoseOptions | str | Path | None = None,
    cluster: Cluster | None = None,
    device: str = "auto",
    precision: str = "auto",
    runtime: str = "auto",
    threads: int | None = None,
    workers: int | None = None,
    recursive: bool = False,
    resume: bool = False,
    strict: bool = False,
    progress: Callable[[int], None] = lambda people: None,
) -> Merged:
    """Find the people in many images and their poses on a Ray cluster, and write kps.json.

    The images' paths must lead to the same files on every machine. Results are kept in a folder
    beside the output until all are finished; then the output has the bytes that one process would
    have written, in fp32 on CPUs.

    Args:
        images: a folder, file, pattern or list file, or several of them; or images found before.
        output: the kps.json to write.
        detection: the detector's name or folder, or its options; None for the defaults.
        pose: the pose model's name or folder, or its options; None for the defaults.
        cluster: which, and how it is divided; None starts one on this machine, for the run.
        device: see `posepipe.Pipeline`; chosen by each worker, on its machine.
        precision: see `posepipe.Pipeline`.
        runtime: see `posepipe.Pipeline`.
        threads: that compute, in each worker; None: as many as it has cores.
        workers: threads in each worker that decode images ahead; None: by its cores, see
            `posepipe.networks.resources.choose_workers`.
        recursive: also search subfolders.
        resume: continue an interrupted run.
        strict: end at the first image that cannot be read, instead of listing it.
        progress: called after every image with how many people were found in it.

    Returns:
        How many images and people there were, and which images could not be read.

    Raises:
        MissingDependencyError: Ray is not installed.
        PosepipeError: no images, a model cannot be loaded, the output cannot be written; in strict
            mode, an image cannot be read; workers die again and again at the same images.
    """
    check_installed()
    cluster = cluster or Cluster()
    if not isinstance(images, ImageSet):
        inputs = [images] if isinstance(images, str | Path) else images
        images = find_images(inputs, recursive=recursive)
    for image in images:
        if image.pixels is not None or image.is_frame:
            raise OptionError(f"{image.path} is no file: a cluster takes images that are files")
    if workers is None:
        on_cpu = not cluster.gpus
        workers = choose_workers(int(cluster.cpus), sys.maxsize, networks_on_cpu=on_cpu)
    options = RunOptions(
        output=Path(output),
        made_by=made_by("run"),
        resume=resume,
        strict=strict,
        workers=workers,
        progress=progress,
    )
    with joined(cluster):
        from posepipe.distributed.ray_engine import run_on_ray
        from posepipe.distributed.workers import PipelineStages

        make = PipelineStages(
            DetectionOptions.of(detection),
            PoseOptions.of(pose),
            {"device": device, "precision": precision, "runtime": runtime},
            threads or max(1, int(cluster.cpus)),
        )
        return run_on_ray(make, images, options, cluster)
