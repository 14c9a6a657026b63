"""A service under load: a real `posepipe serve`, hundreds of parallel requests, waves of them.

    python scripts/load_test.py [--requests 400] [--parallel 200] [--waves 3] [IMAGE...] [-- …]

prints, wave by wave, requests a second, the median and the slowest answer, lost and wrong answers,
and the service's memory. Options behind ``--`` go to `posepipe serve`.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import httpx

EXAMPLES = Path(__file__).parents[1] / "examples"


def main() -> None:
    """Start a service, load it, end it."""
    own, _, options = " ".join(sys.argv[1:]).partition(" -- ")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images", nargs="*", type=Path, default=[EXAMPLES / "astronaut.jpg"])
    parser.add_argument("--requests", type=int, default=400, help="of a wave")
    parser.add_argument("--parallel", type=int, default=200)
    parser.add_argument("--waves", type=int, default=3)
    given = parser.parse_args(own.split())
    bodies = [path.read_bytes() for path in given.images]
    command = [sys.executable, "-m", "posepipe", "serve", "--port", "0", "--timeout", "300"]
    process = subprocess.Popen([*command, *options.split()], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None  # noqa: S101
        url = process.stdout.readline().strip()
        expected = [httpx.post(f"{url}poses", content=body, timeout=300).json() for body in bodies]
        for number in range(given.waves):
            asyncio.run(_wave(number, url, bodies, expected, given))
    finally:
        process.terminate()
        process.wait(60)
    print(f"exit status {process.returncode}")


async def _wave(
    number: int,
    url: str,
    bodies: list[bytes],
    expected: list[list[dict[str, object]]],
    given: argparse.Namespace,
) -> None:
    places = asyncio.Semaphore(given.parallel)
    statuses: Counter[int] = Counter()
    seconds: list[float] = []
    wrong = 0
    limits = httpx.Limits(max_connections=given.parallel)
    async with httpx.AsyncClient(limits=limits, timeout=300) as client:

        async def one(index: int) -> None:
            nonlocal wrong
            async with places:
                begun = time.monotonic()
                which = index % len(bodies)
                answer = await client.post(f"{url}poses?image_id={index}", content=bodies[which])
                seconds.append(time.monotonic() - begun)
            statuses[answer.status_code] += 1
            if answer.status_code == 200:
                found = answer.json()
                same = len(found) == len(expected[which])
                wrong += not same or any(pose["image_id"] != index for pose in found)

        begun = time.monotonic()
        await asyncio.gather(*map(one, range(given.requests)))
        took = time.monotonic() - begun
        text = (await client.get(f"{url}metrics")).text
    numbers = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    memory = float(numbers["process_resident_memory_bytes"]) / 1e6
    batch = float(numbers["posepipe_batch_images_sum"]) / float(
        numbers["posepipe_batch_images_count"]
    )
    lost = given.requests - statuses.total()
    print(
        f"wave {number + 1}: {given.requests / took:.1f} requests/s, median "
        f"{statistics.median(seconds):.2f} s, slowest {max(seconds):.2f} s, statuses "
        f"{dict(statuses)}, lost {lost}, wrong {wrong}, {batch:.1f} images a batch, "
        f"{memory:.0f} MB, held {float(numbers['posepipe_held_bytes']):.0f} bytes",
        flush=True,
    )


if __name__ == "__main__":
    main()
