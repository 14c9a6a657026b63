"""How much of the bare networks' speed the stages and the training loop keep, as ratios.

    python scripts/benchmark.py [--images DIR] [--rounds 3]
    python scripts/benchmark.py --only runtimes [--threads 1 --cpu-time]
    python scripts/benchmark.py --only gpu --images DIR --count 512 --crops 2048
    python scripts/benchmark.py --peers
    python scripts/benchmark.py --only train --data people.json images

Absolute numbers depend on the machine and on what else it is doing; the ratios much less, since
stage and bare network take turns within one run. On a machine that others use, `--threads 1
--cpu-time` counts the seconds that this process computes and not those in which it waits.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import cycle, islice
from pathlib import Path

import click
import torch
from call_speed import call_lines
from evaluation_speed import evaluation_line
from gpu_speed import MOST_READ, gpu_lines
from machine import machine_line
from reading_speed import reading_lines
from runtime_speed import bare_network, peer_lines, posed, runtime_lines, weights_of

from posepipe.core.boxes import Detections
from posepipe.detection.loading import load_detector
from posepipe.detection.stage import DetectionStage
from posepipe.io.find_images import find_images
from posepipe.io.images import ImageFile
from posepipe.networks.devices import precision_name, resolve_device, resolve_precision
from posepipe.networks.threads import use_threads
from posepipe.options import DEFAULT_DETECTOR, DEFAULT_POSE_MODEL
from posepipe.pipeline import Pipeline
from posepipe.pose.loading import load_pose_stage
from posepipe.pose.stage import PoseStage
from posepipe.runtime.local import run
from posepipe.training.data import DataTable
from posepipe.zoo.recipe import load_recipe

EXAMPLES = Path(__file__).parents[1] / "examples"
People = Sequence[tuple[ImageFile, Detections]]


def table(rows: Sequence[tuple[str, str, float, float, float]]) -> Iterator[str]:
    """The lines of the printed table."""
    yield f"{'what':64} {'unit':>9} {'bare':>8} {'stage':>8} {'ratio':>6}"
    for what, unit, bare, stage, ratio in rows:
        yield f"{what:64} {unit:>9} {bare:8.2f} {stage:8.2f} {ratio:6.2f}"


def compare(
    bare: Callable[[], float], stage: Callable[[], float], rounds: int
) -> tuple[float, float, float]:
    """Median speed of both, and the median of the rounds' ratios, after one round to warm up."""
    speeds = []
    for number in range(rounds + 1):
        pair = []
        # Each goes first in turn, so that a machine that slows down favours neither.
        for work in (bare, stage) if number % 2 else (stage, bare):
            pair.append(work())
        if number % 2 == 0:
            pair.reverse()
        if number:
            speeds.append((pair[0], pair[1]))
    return (
        statistics.median(b for b, _ in speeds),
        statistics.median(s for _, s in speeds),
        statistics.median(s / b for b, s in speeds),
    )


clock = time.perf_counter
"""What speeds are measured by; `--cpu-time` changes it."""


def speed_of(work: Callable[[], int]) -> float:
    """The speed of work that says how much of it there was."""
    begun = clock()
    done = work()
    return done / (clock() - begun)


def timed(work: Callable[[], int]) -> Callable[[], float]:
    """Measures the speed of work."""
    return lambda: speed_of(work)


def pose_row(
    name: str, people: People, *, flip: bool, rounds: int, precision: str, device: str
) -> tuple[str, str, float, float, float]:
    """The pose stage, from image files to poses, over its network on crops that are ready."""
    changes = [f"decoding.flip={str(flip).lower()}"]
    with weights_of(load_recipe(name)) as weights:
        stage = load_pose_stage(
            [name], weights=weights, changes=changes, device=device, precision=precision
        )
    assert isinstance(stage, PoseStage)  # noqa: S101  # both are crop networks
    [model] = stage.models
    how = f"{model.runtime}, {precision_name(model.dtype)}"
    what = f"pose {name}{', flip' if flip else ''} ({how})"
    bare, whole = bare_network(stage, people), partial(posed, stage, people)
    return (what, "crops/s", *compare(timed(bare), timed(whole), rounds))


def detection_row(
    images: Sequence[ImageFile], *, rounds: int, precision: str, device: str
) -> tuple[str, str, float, float, float]:
    """The detection stage, from image files to people, over its network on resized images."""
    detector = load_detector(DEFAULT_DETECTOR, device=device, precision=precision)
    stage = DetectionStage([detector])
    ready = [detector.prepare(image.read()) for image in images]

    def bare() -> int:
        for start in range(0, len(ready), stage.batch_size):
            detector(ready[start : start + stage.batch_size])
        return len(ready)

    def whole() -> int:
        return sum(1 for _ in run(stage, images))

    what = f"detect {DEFAULT_DETECTOR}"
    return (what, "images/s", *compare(timed(bare), timed(whole), rounds))


def training_row(
    name: str, data: DataTable, *, batch: int, steps: int, rounds: int, device: str
) -> tuple[str, str, float, float, float]:
    """The training loop, from image files to the optimiser's steps, over bare passes.

    The bare ones are forward and backward on one batch that is ready on the device.
    """
    from posepipe.training.runs import TrainOptions, build_task, prepared, train

    changes = (f"training.batch={batch}", f"training.samples={batch * (steps + 1)}")
    options = TrainOptions(changes=changes, data=(data,), device=device)
    recipe, settings = prepared(name, options)
    where = resolve_device(device)
    task = build_task(recipe, settings, device=where, start=None)
    task.train_mode()
    stream = task.batches(0, 0, 1)
    fixed = next(stream)
    stream.close()
    dtype = resolve_precision(settings.precision, where)

    def bare() -> int:
        for _ in range(steps):
            task.network.zero_grad(set_to_none=True)
            with torch.autocast(where.type, dtype=dtype, enabled=dtype != torch.float32):
                losses, _ = task.module(fixed)
            torch.stack([part.total / part.count for part in losses.values()]).sum().backward()
        if fixed.pixels.is_cuda:
            torch.cuda.synchronize()
        return steps * batch

    def loop() -> float:
        seen = []
        with tempfile.TemporaryDirectory() as folder:
            train(
                name,
                Path(folder) / "run",
                options=options,
                report=lambda report: seen.append((report.samples, time.perf_counter())),
            )
        (first, begun), (last, ended) = seen[0], next(s for s in seen if s[0] == seen[-1][0])
        return (last - first) / (ended - begun)

    what = f"train {name}, batch {batch} ({str(dtype)[6:]})"
    return (what, "samples/s", *compare(timed(bare), loop, rounds))


@click.command()
@click.option(
    "--images",
    type=click.Path(path_type=Path, exists=True),
    default=EXAMPLES,
    help="Folder of images with people.",
)
@click.option("--count", default=12, show_default=True, help="Images to work on per round.")
@click.option(
    "--crops", default=48, show_default=True, help="How many people to work on per round."
)
@click.option(
    "--most",
    type=click.IntRange(min=1),
    default=4,
    show_default=True,
    help="At most so many people of one image; with fewer, reading the image weighs more.",
)
@click.option("--rounds", default=3, show_default=True)
@click.option("--device", default="auto", show_default=True)
@click.option("--precision", default="auto", show_default=True)
@click.option(
    "--only",
    type=click.Choice(["pose", "detect", "call", "eval", "train", "runtimes", "reading", "gpu"]),
)
@click.option(
    "--exported",
    nargs=2,
    metavar="DETECTOR POSE",
    help="Exported models to measure beside the runtimes: int8, for example.",
)
@click.option(
    "--compiled/--not-compiled",
    default=True,
    help="Of --only gpu: measure compiled networks as well, which takes minutes.",
)
@click.option("--peers", is_flag=True, help="Measure how others run the same networks instead.")
@click.option("--threads", type=click.IntRange(min=1), help="Threads that compute.")
@click.option("--cpu-time", is_flag=True, help="Count the seconds that this process computes.")
@click.option(
    "--data",
    type=(click.Path(path_type=Path, exists=True), click.Path(path_type=Path, exists=True)),
    metavar="ANNOTATIONS IMAGES",
    help="A COCO keypoint set to train on; without it training is not measured.",
)
@click.option("--batch", default=16, show_default=True, help="Samples per step of training.")
@click.option(
    "--train-model",
    "models",
    multiple=True,
    default=(DEFAULT_POSE_MODEL, "cpn-resnet50-256x192"),
    show_default=True,
    help="What to train; may be repeated.",
)
@click.option(
    "--pose-model",
    "pose_models",
    multiple=True,
    default=("cpn-resnet50-256x192", DEFAULT_POSE_MODEL),
    show_default=True,
    help="What to estimate poses with; may be repeated.",
)
@click.option("--steps", default=6, show_default=True, help="Steps of training per round.")
def main(
    images: Path,
    count: int,
    crops: int,
    most: int,
    rounds: int,
    device: str,
    precision: str,
    only: str | None,
    exported: tuple[str, str] | None,
    compiled: bool,
    peers: bool,
    threads: int | None,
    cpu_time: bool,
    data: tuple[Path, Path] | None,
    batch: int,
    models: tuple[str, ...],
    pose_models: tuple[str, ...],
    steps: int,
) -> None:
    """Print the speed of the stages and of training beside that of their bare networks."""
    global clock  # one for all measurements of a run
    clock = time.process_time if cpu_time else time.perf_counter
    use_threads(threads)
    click.echo(machine_line(cpu_time=cpu_time))
    files = list(islice(cycle(find_images([images])), count))
    if peers:
        people = some_people(files, crops, most)
        click.echo("\n".join(peer_lines(files, people, speed=speed_of, rounds=rounds)))
        return
    if only == "gpu":
        for line in gpu_lines(
            files,
            some_people(files, crops, most),
            device=device,
            precision=precision,
            speed=speed_of,
            rounds=rounds,
            compiled=compiled,
        ):
            click.echo(line)
    if only in (None, "reading", "gpu"):
        on_gpu = only == "gpu"
        threads_of = (1, 2, 4, 8, 16) if on_gpu else (1, 2, 4)
        read = files[:MOST_READ] if on_gpu else files
        for line in reading_lines(
            read, speed=speed_of, rounds=rounds, threads=threads_of, png=not on_gpu
        ):
            click.echo(line)
    rows = []
    if only in (None, "detect"):
        rows.append(detection_row(files, rounds=rounds, precision=precision, device=device))
    if only in (None, "pose"):
        people = some_people(files, crops, most)
        for name in pose_models:
            for flip in (False, True):
                rows.append(
                    pose_row(
                        name, people, flip=flip, rounds=rounds, precision=precision, device=device
                    )
                )
    if only in (None, "train") and data is not None:
        chosen = DataTable(annotations=str(data[0]), images=str(data[1]))
        rows += [
            training_row(name, chosen, batch=batch, steps=steps, rounds=rounds, device=device)
            for name in models
        ]
    if rows:
        click.echo("\n".join(table(rows)))
    if only in (None, "runtimes"):
        people = some_people(files, crops, most)
        lines = runtime_lines(
            files,
            people,
            speed=speed_of,
            rounds=rounds,
            precision=precision,
            files=exported or None,
        )
        click.echo("\n".join(lines))
    if only in (None, "call"):
        for line in call_lines(rounds=rounds, precision=precision, device=device):
            click.echo(line)
    if only in (None, "eval"):
        click.echo(evaluation_line(rounds=rounds))


def some_people(files: Sequence[ImageFile], crops: int, most: int) -> People:
    """The first `crops` people that the shipped detector finds, at most so many an image."""
    stage = Pipeline(precision="fp32").detection_stage
    chosen: list[tuple[ImageFile, Detections]] = []
    left = crops
    found = list(run(stage, {file.id: file for file in files}.values()))
    for outcome in cycle(found):
        if left <= 0 or not any(outcome.result for outcome in found):
            return chosen
        if outcome.result:
            few = min(most, left, len(outcome.result))
            boxes, scores = outcome.result.boxes_xyxy[:few], outcome.result.scores[:few]
            chosen.append((outcome.item, Detections(outcome.item.id, boxes, scores)))
            left -= few
    return chosen


if __name__ == "__main__":
    main()
