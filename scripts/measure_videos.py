"""Frames a second of a video beside the same frames as images, in turn within one run.

    python scripts/measure_videos.py [VIDEO] [--rounds 3]

Every round does the images and each way of doing the video once; given are the medians over the
rounds of how many times as quick as the images it was, by the clock and by processor time.
Absolute numbers depend on the machine; processor time tells less of what else it is doing.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import click
from PIL import Image

from posepipe.io.find_images import find_images
from posepipe.io.videos import Video
from posepipe.pipeline import Pipeline
from posepipe.runtime.runs import RunOptions, run_both
from posepipe.tracking.smoothing import SmoothingOptions
from posepipe.tracking.tracker import TrackingOptions
from posepipe.videos.options import VideoRunOptions
from posepipe.videos.runs import run_video

PAN = Path(__file__).parents[1] / "examples" / "pan.mp4"


def frame_images(pipeline: Pipeline, frames: Path, output: Path) -> int:
    """`posepipe run FRAMES`; how many people were found."""
    options = RunOptions(output=output, made_by=pipeline.made_by("run"))
    images = find_images([frames])
    document, _ = run_both(*pipeline.both_stages, images, options, finish=pipeline.finish)
    return sum(len(poses) for poses in document.poses)


def video(pipeline: Pipeline, path: Path, output: Path, **how: object) -> int:
    """`posepipe run VIDEO`; how many people were found."""
    with Video(str(path)) as opened:
        return run_video(pipeline, opened, VideoRunOptions(output=output, **how)).people  # type: ignore[arg-type]


@click.command(help=(__doc__ or "").splitlines()[0])
@click.argument("path", type=click.Path(path_type=Path), default=PAN)
@click.option("--rounds", type=int, default=3, show_default=True)
@click.option("--detector", help="Another than the default.")
def main(path: Path, rounds: int, detector: str | None) -> None:
    """Measure and print."""
    pipeline = Pipeline(detector).load()
    followed = {"tracking": TrackingOptions(), "smoothing": SmoothingOptions()}
    with tempfile.TemporaryDirectory(prefix="measure-videos-") as name:
        folder = Path(name)
        frames = folder / "frames"
        frames.mkdir()
        with Video(str(path)) as opened:
            count = 0
            for frame in opened:
                Image.fromarray(frame.pixels).save(frames / f"{count:06}.jpg", quality=95)
                count += 1
        output, drawn = folder / "kps.json", folder / "drawn.mp4"
        ways: dict[str, Callable[[], int]] = {
            "the frames as images (JPEG)": lambda: frame_images(pipeline, frames, output),
            "the video": lambda: video(pipeline, path, output),
            "--track --smooth": lambda: video(pipeline, path, output, **followed),
            "--track --smooth --draw": lambda: video(
                pipeline, path, output, draw=drawn, **followed
            ),
            "--track --smooth --detect-every 5": lambda: video(
                pipeline, path, output, detect_every=5, **followed
            ),
        }
        taken: dict[str, list[float]] = {way: [] for way in ways}
        used: dict[str, list[float]] = {way: [] for way in ways}
        people: dict[str, int] = {}
        pipeline(frame.pixels)  # warms up
        for _ in range(rounds):
            for way, do in ways.items():
                began, worked = time.perf_counter(), time.process_time()
                people[way] = do()
                taken[way].append(time.perf_counter() - began)
                used[way].append(time.process_time() - worked)
        print(f"{path.name}: {count} frames")
        (first, *_) = ways
        for way in ways:
            speed = count / statistics.median(taken[way])
            cells = [way, f"{people[way]} people", f"{speed:.2f} frames/s"]
            for spent in (taken, used):
                ratios = [a / b for a, b in zip(spent[first], spent[way], strict=True)]
                cells.append(f"{statistics.median(ratios):.2f}")
            print("|", " | ".join(cells), "|", flush=True)


if __name__ == "__main__":
    main()
