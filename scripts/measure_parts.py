"""What each part of a run costs, in CPU time per image: what docs/scaling.md reckons with.

    python scripts/measure_parts.py IMAGES... [--precision fp32]

CPU time of all threads, on one core, so that other programs on the machine matter little. Networks
run on the CPU; on a GPU only the other parts count.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from posepipe.core.poses import Poses
from posepipe.io.checked_lines import encode_line
from posepipe.io.documents import made_by
from posepipe.io.find_images import find_images
from posepipe.io.shards import Shard, Shards, read_shards
from posepipe.networks.threads import use_threads
from posepipe.pipeline import Pipeline
from posepipe.runtime.merging import merge_shards
from posepipe.runtime.runs import RunOptions, run_both


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images", nargs="+")
    parser.add_argument("--precision", default="fp32")
    given = parser.parse_args()
    use_threads(1)
    images = find_images(given.images)
    pipeline = Pipeline(device="cpu", precision=given.precision, runtime="torch")
    first, second = pipeline.both_stages
    print(f"{len(images)} images, {given.precision}, one core; CPU time per image")

    def timed(what: str, call: Callable[[], Any]) -> Any:
        begun = time.process_time()
        result = call()
        seconds = time.process_time() - begun
        print(f"{what:34} {1000 * seconds / len(images):8.2f} ms", flush=True)
        return result

    files = timed("read the file's bytes", lambda: [image.path.read_bytes() for image in images])
    loaded = [replace(image, data=data) for image, data in zip(images, files, strict=True)]
    pixels = timed("decode", lambda: [image.read() for image in loaded])
    decoded = [replace(image, pixels=array) for image, array in zip(images, pixels, strict=True)]
    ready = timed("prepare for the detector", lambda: [first.prepare(i) for i in decoded])
    first(ready[:1])
    found = timed("detector (on a CPU)", lambda: [first([one])[0] for one in ready])
    pairs = list(zip(decoded, found, strict=True))
    crops = timed("cut crops", lambda: [second.prepare(pair) for pair in pairs])
    second(crops[:1])
    poses = timed("pose network (on a CPU)", lambda: [second([one])[0] for one in crops])
    lines = timed("encode the result", lambda: [encode_line(one) for one in poses])
    print(f"{'people per image':34} {sum(map(len, found)) / len(images):8.2f}")
    print(f"{'bytes per file':34} {sum(map(len, files)) / len(images):8.0f}")
    print(f"{'bytes per result':34} {sum(map(len, lines)) / len(images):8.0f}")
    with tempfile.TemporaryDirectory() as folder:
        shard, output = Shard(1, 1), Path(folder) / "kps.json"
        options = RunOptions(output=shard.path(output), made_by=made_by("run"), shard=shard)
        run_both(first, second, images, options, finish=pipeline.finish)
        shards = read_shards([shard.path(output)])
        timed("merge shards", lambda: merge_shards(shards, output))
        if find_spec("pyarrow") is not None:
            _driver(shards, output, timed)


def _driver(shards: Shards, output: Path, timed: Callable[[str, Callable[[], Any]], Any]) -> None:
    """What the driver of a Ray run does with each result."""
    from posepipe.distributed.parts import Parts

    entries = list(shards.entries(Poses))
    with Parts(output, shards.header, resume=False) as parts:
        rows = [
            {"position": e.position, "people": 0, "skipped": "", "line": encode_line(e)[:-1]}
            for e in entries
        ]
        parts.append(rows)  # warm
        times = max(1, 2048 // len(rows))
        timed(f"driver: write Parquet, {times} times", lambda: parts.append(rows * times))
        timed("driver: merge Parquet", lambda: merge_shards(parts, output))
        parts.remove()


if __name__ == "__main__":
    main()
