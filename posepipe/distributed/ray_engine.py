"""Both stages over a set of images, by the workers of a Ray cluster.

Ray Data moves the images: tasks on CPUs read the files' bytes, workers (actors that load their
models once) decode them and run both stages, with back-pressure between the two. Results come back
as they are ready, and the driver writes them to Parquet parts (`posepipe.distributed.parts`), then
the document. A worker that dies is replaced, and its images are done again.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import ray
import ray.data
from ray.exceptions import RayActorError, RayTaskError

from posepipe.core.poses import Poses
from posepipe.distributed.cluster import Cluster
from posepipe.distributed.parts import SCHEMA, Parts
from posepipe.errors import ImageError, PosepipeError
from posepipe.io.buckets import read_url
from posepipe.io.checked_lines import encode_line
from posepipe.io.images import ImageFile, ImageSet
from posepipe.io.records import MadeBy
from posepipe.io.shards import ShardEntry
from posepipe.runtime.both import run_through_both
from posepipe.runtime.merging import Merged, merge_shards
from posepipe.runtime.runs import DetectionStage, PoseStage, RunOptions

T = TypeVar("T")

_IMAGES_OF_A_PART = 2048
_CPUS_OF_A_READER = 0.25
# Each block of the list costs the driver 60 kB, so blocks are large; but every worker gets several.
_MOST_OF_A_BLOCK = 1024
_BLOCKS_OF_A_WORKER = 8
# What readers hand on and workers get at a time: about 40 photographs of COCO.
_BYTES_AT_A_TIME = 8 * 2**20
# On GPUs, for which Ray wants a number, several times that.
_IMAGES_AT_A_TIME = 128
_READ_TOGETHER = 8
_DEATHS_AT_A_BLOCK = 3


@dataclass(frozen=True)
class Stages:
    """What a worker runs.

    Attributes:
        detection, pose: the two stages.
        finish: scoring.
        made_by: what determines the results.
    """

    detection: DetectionStage
    pose: PoseStage
    finish: Callable[[Poses], Poses]
    made_by: MadeBy


def run_on_ray(
    make: Callable[[], Stages], images: ImageSet, options: RunOptions, cluster: Cluster
) -> Merged:
    """Detect and estimate poses in all images and write kps.json.

    The images' paths must lead to the same files on every machine. This process is the driver of a
    cluster (`posepipe.distributed.cluster.joined`).

    Args:
        make: loads the stages, in each worker; it is pickled.
        images: the images.
        options: see `RunOptions`; `made_by` is replaced by what the workers say, and `shard` has no
            meaning here.
        cluster: how it is divided.

    Returns:
        What was written, and which images could not be read.

    Raises:
        PosepipeError: a model cannot be loaded; the output cannot be written; in strict mode, the
            first image that cannot be read; workers die again and again at the same images.
    """
    asked = ray.remote(num_cpus=cluster.cpus, num_gpus=cluster.gpus)(_made_by)
    options = replace(options, made_by=_unwrapped(lambda: ray.get(asked.remote(make))))
    header = options.header(images, "poses")
    with Parts(options.output, header, resume=options.resume) as parts:
        _unwrapped(lambda: _fill(parts, make, images, options, cluster))
        merged = merge_shards(parts, options.output)
        parts.remove()
    return merged


def _unwrapped(call: Callable[[], T]) -> T:
    """What a call gives; an error from a worker is raised as it was there.

    Raises:
        PosepipeError: as the worker raised it, or workers keep dying.
    """
    try:
        return call()
    except RayTaskError as error:
        if isinstance(error.cause, PosepipeError):
            raise error.cause from None
        raise
    except RayActorError as error:
        reason = str(error).strip().splitlines()[-1]
        raise PosepipeError(
            f"workers of the cluster keep dying ({reason}): what is finished is kept, go on with "
            "--resume"
        ) from None


def _made_by(make: Callable[[], Stages]) -> MadeBy:
    return make().made_by


def _fill(
    parts: Parts,
    make: Callable[[], Stages],
    images: ImageSet,
    options: RunOptions,
    cluster: Cluster,
) -> None:
    """Do what is not done yet; what is finished is kept, whatever happens."""
    for _ in parts.done:
        options.progress(0)
    todo = np.setdiff1d(np.arange(len(images)), parts.done)
    if not len(todo):
        return
    waiting: list[dict[str, Any]] = []
    try:
        for row in _results(make, images, todo.tolist(), options, cluster):
            waiting.append(row)
            options.progress(row["people"])
            if options.strict and row["skipped"]:
                raise ImageError(
                    f"{row['skipped']} (--strict stops here: mend it, then go on with --resume)"
                )
            if len(waiting) >= _IMAGES_OF_A_PART:
                parts.append(waiting)
                waiting = []
    finally:
        done = [row for row in waiting if not (options.strict and row["skipped"])]
        if done:
            parts.append(done)


def _results(
    make: Callable[[], Stages],
    images: ImageSet,
    todo: list[int],
    options: RunOptions,
    cluster: Cluster,
) -> Iterator[dict[str, Any]]:
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # errors are raised, too
    workers = cluster.workers or _room(cluster)
    rows = min(_MOST_OF_A_BLOCK, ceil(len(todo) / (_BLOCKS_OF_A_WORKER * workers)))
    blocks = [_table(images, todo[start : start + rows]) for start in range(0, len(todo), rows)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # max_task_retries has no successor yet
        context = ray.data.DataContext.get_current().copy()
        context.enable_progress_bars = False
        context.print_on_execution_start = False
        context.target_max_block_size = _BYTES_AT_A_TIME
        with ray.data.DataContext.current(context):
            results = _dataset(blocks, make, options, cluster, workers)
    for batch in results.iter_batches(batch_size=None, batch_format="pyarrow"):
        yield from batch.to_pylist()


def _dataset(
    blocks: list[pa.Table],
    make: Callable[[], Stages],
    options: RunOptions,
    cluster: Cluster,
    workers: int,
) -> Any:
    """The run as Ray Data knows it; nothing is done yet."""
    return (
        ray.data.from_arrow(blocks)
        .map_batches(
            _read, batch_size=_READ_TOGETHER, batch_format="pyarrow", num_cpus=_CPUS_OF_A_READER
        )
        .map_batches(
            _Worker,
            fn_constructor_args=(make, options.workers),
            batch_size=min(_IMAGES_AT_A_TIME, blocks[0].num_rows) if cluster.gpus else None,
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=workers),
            num_cpus=cluster.cpus,
            num_gpus=cluster.gpus,
            max_task_retries=_DEATHS_AT_A_BLOCK,
        )
    )


def _room(cluster: Cluster) -> int:
    """For how many workers there is room beside a reader."""
    there = ray.cluster_resources()
    cores = (there.get("CPU", 1) - _CPUS_OF_A_READER) // cluster.cpus
    most = min(cores, there.get("GPU", 0) // cluster.gpus) if cluster.gpus else cores
    return max(1, int(most))


def _table(images: ImageSet, positions: list[int]) -> pa.Table:
    """A block of the list of images."""
    chosen = [images.images[position] for position in positions]
    return pa.table(
        {
            "position": positions,
            "image_id": [image.id for image in chosen],
            "path": [str(image.path) for image in chosen],
            "url": [image.url for image in chosen],
            "file_name": [image.file_name for image in chosen],
            "problem": [image.problem for image in chosen],
            "max_pixels": [image.max_pixels for image in chosen],
        }
    )


def _read(table: pa.Table) -> pa.Table:
    """Add the files' bytes; null for what cannot be read, of which the worker says why."""

    def data(row: dict[str, Any]) -> bytes | None:
        path = Path(row["path"])
        try:
            if row["url"]:
                return None if row["problem"] else read_url(row["url"])
            return None if row["problem"] or not path.is_file() else path.read_bytes()
        except (OSError, PosepipeError):
            return None

    with ThreadPoolExecutor(_READ_TOGETHER) as threads:  # stores take their time to answer
        return table.append_column(
            "data", pa.array(threads.map(data, table.to_pylist()), pa.binary())
        )


class _Worker:
    """An actor: the stages, loaded once; then batches of images in, finished rows out."""

    def __init__(self, make: Callable[[], Stages], workers: int | None) -> None:
        self._stages, self._workers = make(), workers

    def __call__(self, table: pa.Table) -> pa.Table:
        rows = table.to_pylist()
        images = [
            ImageFile(
                row["image_id"],
                Path(row["path"]),
                row["file_name"],
                problem=row["problem"],
                max_pixels=row["max_pixels"],
                data=row["data"],
                url=row["url"],
            )
            for row in rows
        ]
        stages = self._stages
        outcomes = run_through_both(stages.detection, stages.pose, images, workers=self._workers)
        finished = []
        for row, outcome in zip(rows, outcomes, strict=True):
            poses = None if outcome.result is None else stages.finish(outcome.result)
            skipped = "" if outcome.error is None else str(outcome.error)
            entry = ShardEntry(
                position=row["position"],
                image_id=row["image_id"],
                file_name=row["file_name"],
                result=poses,
                skipped=skipped,
            )
            finished.append(
                {
                    "position": row["position"],
                    "people": 0 if poses is None else len(poses),
                    "skipped": skipped,
                    "line": encode_line(entry)[:-1],
                }
            )
        return pa.Table.from_pylist(finished, schema=SCHEMA)
