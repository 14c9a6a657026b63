"""Whether memory stays flat: a run over many small images, or a video, its memory as it goes.

    python scripts/memory_test.py --images 10000 [--fast]
    python scripts/memory_test.py --minutes 10

The images are links to a few files; detector and images are tiny (those of kill_test.py), since
it is the pipeline's memory that is measured and not the networks'. With `--fast` the models are
those of `posepipe run --fast`, in the runtime that it chooses, and the images the examples, 320
pixels wide or high. The video has 25 frames a second
of 160x120; every fifth is worked on, people are followed, smoothed and drawn. Linux alone.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from kill_test import make_cases
from PIL import Image

from posepipe.drawing.video_writer import VideoWriter

FPS, EVERY = 25, 5
os.environ["POSEPIPE_OFFLINE"] = "1"


def main() -> None:
    """Print the resident memory at each tenth of the run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--fast", action="store_true", help="shipped models, in their runtime")
    parser.add_argument("--minutes", type=int, help="of a video, instead of images")
    given = parser.parse_args()
    count = given.images if given.minutes is None else given.minutes * 60 * FPS
    with tempfile.TemporaryDirectory(prefix="memory-test-") as name:
        folder = Path(name)
        make_cases(folder, 12)
        sources = small_examples(folder) if given.fast else sorted((folder / "photos").iterdir())
        output = folder / "out.json"
        if given.minutes is None:
            inputs = [many_images(folder / "many", sources, count)]
        else:
            inputs = [long_video(folder / "long.mp4", sources, count)]
            inputs += ["--every", EVERY, "--track", "--smooth", "--draw", folder / "drawn.mp4"]
            count //= EVERY
        models = ["--detector", folder / "detector", "--model", folder / "pose", "--top-k", "3"]
        models += ["--min-score", "0.01"]
        command = ["run", *inputs, *(["--fast"] if given.fast else models), "-o", output]
        command += ["--device", "cpu"]
        journal = output.with_name(output.name + ".journal")
        process = subprocess.Popen([sys.executable, "-m", "posepipe", *map(str, command)])
        told = 0
        while process.poll() is None:
            done = journal.read_bytes().count(b"\n") if journal.exists() else 0
            if done >= told and done:
                print(f"{done:6} {resident_mb(process.pid):7.0f} MB", flush=True)
                told += count // 10
            time.sleep(0.5)
        print(f"peak {peak_mb():.0f} MB, exit status {process.returncode}")


def small_examples(folder: Path) -> list[Path]:
    """The project's example images, made small."""
    sources = []
    for source in sorted((Path(__file__).parents[1] / "examples").glob("*.jpg")):
        sources.append(folder / source.name)
        with Image.open(source) as image:
            image.thumbnail((320, 320))
            image.save(sources[-1])
    return sources


def many_images(folder: Path, sources: list[Path], count: int) -> Path:
    """A folder of links to a few images."""
    folder.mkdir()
    for number in range(count):
        os.link(sources[number % len(sources)], folder / f"photo-{number}.jpg")
    return folder


def long_video(path: Path, sources: list[Path], count: int) -> Path:
    """A video that pans over a few images, each for ten seconds."""
    images = []
    for source in sources:
        with Image.open(source) as image:
            images.append(np.asarray(image.convert("RGB").resize((240, 120))))
    with VideoWriter(path, fps=FPS) as writer:
        for number in range(count):
            part, place = divmod(number, 10 * FPS)
            left = place * 80 // (10 * FPS)
            writer.write(images[part % len(images)][:, left : left + 160], number / FPS)
    return path


def resident_mb(process: int) -> float:
    """The memory that a process has now."""
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return float("nan")


def peak_mb() -> float:
    """The most memory that a child of this process has had."""
    import resource

    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024


if __name__ == "__main__":
    main()
