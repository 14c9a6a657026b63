"""How much of the bare networks' speed the stages keep, as ratios within one run.

    python scripts/benchmark.py [--images DIR] [--rounds 3]

Absolute numbers depend on the machine and on what else it is doing; the ratios much less, since
stage and bare network take turns.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import cycle, islice
from pathlib import Path

import click
import torch

from posepipe.api import DEFAULT_DETECTOR, DEFAULT_POSE_MODEL, DetectionOptions
from posepipe.core.boxes import Detections
from posepipe.data.images import ImageFile, find_images
from posepipe.detection.stage import DetectionStage, load_detector
from posepipe.engines.local import run
from posepipe.pose.crops import network_input
from posepipe.pose.model import build_pose_network, load_pose_model, pose_model
from posepipe.pose.stage import DecodingSwitches, PoseStage
from posepipe.recipe import load_recipe

People = Sequence[tuple[ImageFile, Detections]]


def table(rows: Sequence[tuple[str, str, float, float, float]]) -> Iterator[str]:
    """The lines of the printed table."""
    yield f"{'what':44} {'unit':>9} {'bare':>8} {'stage':>8} {'ratio':>6}"
    for what, unit, bare, stage, ratio in rows:
        yield f"{what:44} {unit:>9} {bare:8.2f} {stage:8.2f} {ratio:6.2f}"


def compare(
    bare: Callable[[], int], stage: Callable[[], int], rounds: int
) -> tuple[float, float, float]:
    """Median speed of both, and the median of the rounds' ratios, after one round to warm up."""
    speeds = []
    for number in range(rounds + 1):
        pair = []
        # Each goes first in turn, so that a machine that slows down favours neither.
        for work in (bare, stage) if number % 2 else (stage, bare):
            begun = time.perf_counter()
            done = work()
            pair.append(done / (time.perf_counter() - begun))
        if number % 2 == 0:
            pair.reverse()
        if number:
            speeds.append((pair[0], pair[1]))
    return (
        statistics.median(b for b, _ in speeds),
        statistics.median(s for _, s in speeds),
        statistics.median(s / b for b, s in speeds),
    )


def pose_row(
    name: str, people: People, *, flip: bool, rounds: int, precision: str, device: str
) -> tuple[str, str, float, float, float]:
    """The pose stage, from picture files to poses, over its network on crops already normalised."""
    recipe = load_recipe(name)
    if recipe.has_weights:
        model = load_pose_model(name, device=device, precision=precision)
    else:  # speed does not depend on the weights
        network = build_pose_network(recipe)
        model = pose_model(recipe, network, device=device, precision=precision)
    stage = PoseStage([model], switches=DecodingSwitches(flip=flip))
    count = sum(len(found) for _, found in people)
    ready = [stage.prepare(item) for item in people]
    crops = [cut for picture in ready for cut in picture.crops.values()]  # one model, one kind
    pixels = torch.cat([torch.from_numpy(cut.pixels) for cut in crops])
    images = network_input(pixels.to(model.device), model.preprocessing)
    lower = model.dtype != torch.float32

    @torch.inference_mode()
    def bare() -> int:
        for start in range(0, count, stage.batch_size):
            batch = images[start : start + stage.batch_size]
            with torch.autocast(model.device.type, dtype=model.dtype, enabled=lower):
                for _ in range(2 if flip else 1):
                    model.network(batch)
        if model.device.type == "cuda":
            torch.cuda.synchronize()
        return count

    def whole() -> int:
        return sum(len(outcome.result or ()) for outcome in run(stage, people))

    what = f"pose {name}{', flip' if flip else ''} ({str(model.dtype)[6:]})"
    return (what, "crops/s", *compare(bare, whole, rounds))


def detection_row(
    images: Sequence[ImageFile], *, rounds: int, precision: str, device: str
) -> tuple[str, str, float, float, float]:
    """The detection stage, from picture files to people, over its network on resized pictures."""
    detector = load_detector(DEFAULT_DETECTOR, device=device, precision=precision)
    stage = DetectionStage([detector])
    ready = [detector.prepare(image.read()) for image in images]

    def bare() -> int:
        for start in range(0, len(ready), stage.batch_size):
            detector(ready[start : start + stage.batch_size])
        return len(ready)

    def whole() -> int:
        return sum(1 for _ in run(stage, images))

    return (f"detect {DEFAULT_DETECTOR}", "images/s", *compare(bare, whole, rounds))


@click.command()
@click.option(
    "--images",
    type=click.Path(path_type=Path, exists=True),
    default=Path(__file__).parents[1] / "examples",
    help="Folder of pictures with people.",
)
@click.option("--pictures", default=12, show_default=True, help="How many to work on per round.")
@click.option(
    "--crops", default=48, show_default=True, help="How many people to work on per round."
)
@click.option("--rounds", default=3, show_default=True)
@click.option("--device", default="auto", show_default=True)
@click.option("--precision", default="auto", show_default=True)
@click.option("--only", type=click.Choice(["pose", "detect"]))
def main(
    images: Path,
    pictures: int,
    crops: int,
    rounds: int,
    device: str,
    precision: str,
    only: str | None,
) -> None:
    """Print the speed of the stages beside that of their bare networks."""
    files = list(islice(cycle(find_images([images])), pictures))
    rows = []
    if only != "pose":
        rows.append(detection_row(files, rounds=rounds, precision=precision, device=device))
    if only != "detect":
        people = some_people(files, crops)
        for name in ("cpn-resnet50-256x192", DEFAULT_POSE_MODEL):
            for flip in (False, True):
                rows.append(
                    pose_row(
                        name, people, flip=flip, rounds=rounds, precision=precision, device=device
                    )
                )
    click.echo("\n".join(table(rows)))


def some_people(files: Sequence[ImageFile], crops: int) -> People:
    """The first `crops` people that the shipped detector finds, at most four a picture."""
    stage = DetectionOptions().stage()
    chosen: list[tuple[ImageFile, Detections]] = []
    left = crops
    found = list(run(stage, {file.id: file for file in files}.values()))
    for outcome in cycle(found):
        if left <= 0 or not any(outcome.result for outcome in found):
            return chosen
        if outcome.result:
            few = min(4, left, len(outcome.result))
            boxes, scores = outcome.result.boxes_xyxy[:few], outcome.result.scores[:few]
            chosen.append((outcome.item, Detections(outcome.item.id, boxes, scores)))
            left -= few
    return chosen


if __name__ == "__main__":
    main()
