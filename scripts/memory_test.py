"""Whether memory stays flat: a run over many small pictures, its memory as it goes.

    python scripts/memory_test.py --pictures 10000

The pictures are links to a few files; detector and pictures are tiny (those of kill_test.py), since
it is the pipeline's memory that is measured and not the networks'. Linux alone.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from kill_test import make_cases

os.environ["POSEPIPE_OFFLINE"] = "1"


def main() -> None:
    """Print the resident memory at each tenth of the run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pictures", type=int, default=10_000)
    count = parser.parse_args().pictures
    with tempfile.TemporaryDirectory(prefix="memory-test-") as name:
        folder = Path(name)
        make_cases(folder, 12)
        many = folder / "many"
        many.mkdir()
        sources = sorted((folder / "photos").iterdir())
        for number in range(count):
            os.link(sources[number % len(sources)], many / f"photo-{number}.jpg")
        output = folder / "out.json"
        command = ["run", many, "--detector", folder / "detector", "--model", folder / "pose"]
        command += ["-o", output, "--top-k", "3", "--min-score", "0.01", "--device", "cpu"]
        journal = output.with_name(output.name + ".journal")
        process = subprocess.Popen([sys.executable, "-m", "posepipe", *map(str, command)])
        told = 0
        while process.poll() is None:
            done = journal.read_bytes().count(b"\n") if journal.exists() else 0
            if done >= told and done:
                print(f"{done:6} pictures {resident_mb(process.pid):7.0f} MB", flush=True)
                told += count // 10
            time.sleep(0.5)
        print(f"peak {peak_mb():.0f} MB, exit status {process.returncode}")


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
