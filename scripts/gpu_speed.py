"""Rows of `benchmark.py --only gpu`: networks and stages, compiled and not, and `run`.

They are there for a machine with a GPU; elsewhere the same runs on its CPU.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from peers import People
from reading_speed import lock_milliseconds
from runtime_speed import (
    Speed,
    Work,
    as_stages_run_it,
    bare_network,
    detected,
    done,
    in_turns,
    posed,
    table,
    weights_of,
)

from posepipe.detection.candidates import MOST_RECORDED_SHAPES, alike
from posepipe.detection.rtmdet import RTMDetDetector, padded_shape
from posepipe.detection.stage import DetectionStage
from posepipe.io.images import ImageFile
from posepipe.networks.devices import resolve_device, without_tf32
from posepipe.networks.resources import default_workers, usable_cores
from posepipe.networks.runtimes.names import TORCH
from posepipe.options import DEFAULT_POSE_MODEL, DetectionOptions, PoseOptions
from posepipe.pipeline import Pipeline
from posepipe.pose.stage import PoseStage
from posepipe.zoo.recipe import load_recipe

MOST_READ = 128
"""Images that are read for rows about reading: a GPU's time is dear."""
POSE_MODELS = ("cpn-resnet50-256x192", DEFAULT_POSE_MODEL)


def gpu_lines(
    images: Sequence[ImageFile],
    people: People,
    *,
    device: str,
    precision: str,
    speed: Speed,
    rounds: int,
    compiled: bool = True,
    models: Sequence[str] = POSE_MODELS,
) -> Iterator[str]:
    """Each network bare and in its stage, from files to results; then both stages together.

    Args:
        images: for the detector and for `run`.
        people: for the pose stage.
        device: where all runs in torch; the ratios are to the bare network as it is.
        precision: of the networks.
        speed: measures work that says how much of it there was.
        rounds: of which the median is printed, after one to warm up.
        compiled: measure compiled networks as well.
        models: the pose models; one without weights gets random ones.
    """
    where = resolve_device(device)
    name = torch.cuda.get_device_name(where) if where.type == "cuda" else str(where)
    yield f"in torch on {name}, no flip test, {default_workers()} workers by default"
    place = {"device": device, "precision": precision, "runtime": TORCH}
    # Each file is read once: the same ones come over and over.
    pixels = {file.id: file.read() for file in {image.id: image for image, _ in people}.values()}
    in_memory = [(replace(image, pixels=pixels[image.id]), found) for image, found in people]
    ways = {"": False, ", compiled": True} if compiled else {"": False}
    for model in models:
        works: dict[str, Work] = {}
        for suffix, compiles in ways.items():
            with weights_of(load_recipe(model)) as weights:
                options = PoseOptions(models=(model,), weights=weights, flip=False)
                stage = Pipeline(pose=options, **place).pose_stage
            assert isinstance(stage, PoseStage)  # noqa: S101  # a crop network
            if compiles:
                stage.compile()
            works |= {f"bare{suffix}": bare_network(stage, in_memory)}
            works |= from_files("stage", suffix, partial(posed, stage, people))
            if not compiles:
                works |= {"stage, images in memory": partial(posed, stage, in_memory)}
        title = f"pose {model}, batches of {stage.batch_size}"
        yield from table(title, in_turns(works, speed, rounds), "crops/s", "bare")
    detecting: dict[str, Work] = {}
    running: dict[str, Work] = {}
    for suffix, compiles in ways.items():
        pose = PoseOptions(models=(models[-1],), flip=False)
        pipeline = Pipeline(DetectionOptions(), pose, **place)
        if compiles:
            pipeline.compile()
        stages = pipeline.both_stages
        first, _ = stages
        detecting |= {f"bare{suffix}": _bare_detector(first, images)}
        detecting |= from_files("stage", suffix, partial(detected, stages, images))
        running |= from_files("run", suffix, partial(done, stages, images))
    title = f"detect {first.origins[0].model}, batches of {first.settings.batch_size}"
    yield from table(title, in_turns(detecting, speed, rounds), "images/s", "bare")
    title = f"both, {first.origins[0].model} and {models[-1]}"
    yield from table(title, in_turns(running, speed, rounds), "images/s", "run")
    yield from lock_lines(images[:MOST_READ], people[:MOST_READ], rounds=rounds, **place)


def from_files(what: str, suffix: str, work: Callable[..., int]) -> dict[str, Work]:
    """Work with as many workers as by default; if nothing is compiled, with other numbers, too."""
    works: dict[str, Work] = {f"{what}{suffix}": work}
    if not suffix:
        cores = usable_cores()
        others = {max(1, count) for count in (cores // 4, cores // 2, cores - 1)}
        for workers in sorted(others - {default_workers()}):
            works[f"{what}, workers: {workers}"] = partial(work, workers=workers)
    return works


def lock_lines(
    images: Sequence[ImageFile], people: People, *, rounds: int, **place: str
) -> Iterator[str]:
    """How long preparing an image for a stage needs Python's lock, which all its threads share."""
    pipeline = Pipeline(**place)
    model = pipeline.pose_stage
    assert isinstance(model, PoseStage)  # noqa: S101  # as the default one is
    pose, detection = PoseStage(model.models, engine="device"), pipeline.detection_stage

    def median(prepare: Callable[[Any], object], items: Sequence[Any]) -> float:
        return statistics.median(lock_milliseconds(prepare, items) for _ in range(rounds))

    yield f"{'preparing an image, ms with the lock':56} {'':>9}"
    yield f"  {'pose':54} {median(pose.prepare, people):9.2f}"
    yield f"  {'detect':54} {median(detection.prepare, images):9.2f}"


def _bare_detector(stage: DetectionStage, images: Sequence[ImageFile]) -> Work:
    """A detector's network alone, on all views of images, as many of one shape as a pass takes.

    On CUDA it computes as in its stage: recorded, with all bits of float32.
    """
    [detector] = stage.detectors
    assert isinstance(detector, RTMDetDetector)  # noqa: S101  # as the default one is
    views = [view for image in images for view in stage.prepare(image).views]
    batches, size = [], stage.settings.batch_size
    for _, of_group in alike(views, padded_shape):
        for start in range(0, len(of_group), size):
            pixels = detector.padded(of_group[start : start + size])
            batches.append(detector.preprocessing.normalisation(pixels))
    where = batches[0].device
    network = as_stages_run_it(detector.network, size, shapes=MOST_RECORDED_SHAPES)

    @torch.inference_mode()
    def bare() -> int:
        with without_tf32():
            for batch in batches:
                network(batch)
        _wait(where)
        return len(images)

    return bare


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
