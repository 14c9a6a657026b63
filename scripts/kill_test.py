"""Kill runs at random moments, resume them, and compare what comes of it with runs left alone.

    python scripts/kill_test.py --kills 100 detect pose run
    python scripts/kill_test.py --kills 60 train

Each run is a process of its own that SIGKILL ends. The processes are forked from this one, which
has imported everything before: a start takes milliseconds, so that kills fall into the work and not
into imports. A run is killed and resumed until it is done (after some kills it is left to finish);
then its output is compared with that of a run that nobody killed: images that are missing or
there twice, and bytes that differ. "amid results" are the kills of processes that had something to
lose. What is still on the disk beside the output counts as left over.
SIGKILL does not lose what the system has not yet written to the disk; a power failure does.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # and no threads in this process: it forks
os.environ["POSEPIPE_OFFLINE"] = "1"

import numpy as np
from PIL import Image
from safetensors.torch import save_file

import posepipe.pipeline  # imported for the processes that are forked
import posepipe.runtime.runs
import posepipe.training.runs  # noqa: F401
from posepipe.cli.main import main as posepipe_main
from posepipe.detection.networks import NetworkTable, build_network
from posepipe.pose.model import build_pose_network
from posepipe.zoo.recipe import load_recipe

EXAMPLES = Path(__file__).parents[1] / "examples"
STAGES = ("detect", "pose", "run", "train")
MOST_KILLS = 12  # of one run; then it is left to finish
HANGS_AFTER_S = 120.0
DETECTOR_RECIPE = """
[model]
stage = "detection"
summary = "a tiny detector, for kills"

[network]
architecture = "fasterrcnn_mobilenet_v2_fpn"
classes = 2
channels = 16
proposals = 20

[preprocessing]
short_side = 64
long_side = 96
"""
POSE_RECIPE = """
[model]
stage = "pose"
summary = "a tiny CPN, for kills"

[network]
backbone = "mobilenet_v2"
channels = 16

[preprocessing]
input_size_wh = [64, 64]

[decoding]
blur_kernel = 5

[training]
samples = 16
batch = 2
workers = 0
average = 0.9
validate_every = 8
checkpoint_minutes = 1e-9
augment = {half_body = 0}
"""


@dataclass(frozen=True)
class Case:
    """A command whose runs are killed.

    Attributes:
        arguments: of the command for an output.
        contents: what counts of an output, by name, in bytes.
        images: which images an output is about, each as often as it is there.
    """

    arguments: Callable[[Path], list[str]]
    contents: Callable[[Path], dict[str, bytes]]
    images: Callable[[Path], list[str]]


def main() -> None:
    """Run the kills of the stages asked for; exit with 1 if anything was lost."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("stages", nargs="+", choices=STAGES)
    parser.add_argument("--kills", type=int, default=30, help="of each stage")
    parser.add_argument("--images", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    failed = False
    with tempfile.TemporaryDirectory(prefix="kill-test-") as folder:
        cases = make_cases(Path(folder), chosen.images)
        for stage in chosen.stages:
            tally = kill_runs(
                cases[stage],
                Path(folder) / f"runs of {stage}",
                chosen.kills,
                random.Random(chosen.seed),  # noqa: S311
            )
            print(f"{stage:7}{line_of(tally)}", flush=True)
            failed |= any(tally[name] for name in BAD)
    sys.exit(failed)


BAD = ("lost", "doubled", "bytes differ", "refused", "tracebacks", "hangs", "left over")
COUNTS = ("kills", "amid results", "runs", *BAD)


def kill_runs(case: Case, folder: Path, kills: int, chance: random.Random) -> Counter[str]:
    """Kill so many processes of a command, resuming each run until it is done."""
    folder.mkdir()
    whole = folder / "whole" / "out"
    whole.parent.mkdir()
    seconds = finish(case.arguments(whole), folder / "log")
    tally: Counter[str] = Counter()
    while tally["kills"] < kills:
        output = folder / f"run-{tally['runs']}" / "out"
        output.parent.mkdir()
        tally["runs"] += 1
        for _ in range(MOST_KILLS):
            after_s = 0.8 * seconds * chance.random()
            if not kill_one(case.arguments(output), after_s, folder / "log"):
                break
            tally["kills"] += 1
            tally["amid results"] += has_results(output)
        try:
            finish(case.arguments(output), folder / "log")
        except TimeoutError:
            tally["hangs"] += 1
            continue
        except RuntimeError as error:
            tally["tracebacks" if "Traceback" in str(error) else "refused"] += 1
            print(error, file=sys.stderr)
            continue
        ours, theirs = case.contents(output), case.contents(whole)
        tally["bytes differ"] += sum(ours[name] != theirs[name] for name in theirs)
        there, wanted = Counter(case.images(output)), Counter(case.images(whole))
        tally["lost"] += (wanted - there).total()
        tally["doubled"] += (there - wanted).total()
        names = {path.name for path in output.parent.iterdir()}
        if output.is_dir():
            names |= {path.name for path in output.iterdir()}
        left = {name for name in names if name.startswith(".") or name.endswith(".journal")}
        tally["left over"] += len(left)
        shutil.rmtree(output.parent)
        print(f"so far: {line_of(tally)}", file=sys.stderr, flush=True)
    return tally


def line_of(tally: Counter[str]) -> str:
    """A tally in words."""
    return ", ".join(f"{name} {tally[name]}" for name in COUNTS)


def has_results(output: Path) -> bool:
    """Whether a killed process has left something that the next one goes on from."""
    journal = output.with_name(output.name + ".journal")
    if journal.exists():
        return journal.read_bytes().count(b"\n") > 1
    return output.is_dir() and any(output.glob("checkpoint-*.pt"))


def kill_one(arguments: list[str], after_s: float, log: Path) -> bool:
    """Start a process and kill it after a time; whether it was still running then."""
    child = start(arguments, log)
    deadline = time.monotonic() + after_s
    while time.monotonic() < deadline:
        if os.waitpid(child, os.WNOHANG)[0]:
            return False
        time.sleep(0.001)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return True


def finish(arguments: list[str], log: Path) -> float:
    """Let a process finish; the seconds it took.

    Raises:
        RuntimeError: it failed; what it said.
        TimeoutError: it hangs.
    """
    child, begun = start(arguments, log), time.monotonic()
    while not (ended := os.waitpid(child, os.WNOHANG))[0]:
        if time.monotonic() - begun > HANGS_AFTER_S:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            raise TimeoutError
        time.sleep(0.002)
    if ended[1]:
        raise RuntimeError(log.read_text(errors="replace"))
    return time.monotonic() - begun


def start(arguments: list[str], log: Path) -> int:
    """A process that runs a command of posepipe; its id."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        with log.open("w") as said:
            os.dup2(said.fileno(), 1)
            os.dup2(said.fileno(), 2)
        posepipe_main(arguments, standalone_mode=False)
        status = 0
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def make_cases(folder: Path, images: int) -> dict[str, Case]:
    """Small images, models and labels, and the commands over them."""
    photos, labels = make_set(folder, "photos", range(1, images + 1))
    others, other_labels = make_set(folder, "others", range(1001, 1003))
    broken = folder / "with a broken one"
    shutil.copytree(photos, broken)
    (broken / f"{images // 2:012d}.jpg").write_bytes(b"no image")
    detector, pose = make_models(folder)
    boxes = folder / "boxes.json"
    where = ["--device", "cpu", "--precision", "fp32"]
    least = ["--min-score", "0.01", "--top-k", "3"]
    few = ["--batch-size", "3"]  # so that results come one after the other
    detect = ["detect", str(broken), "--model", str(detector), *least, *where, *few]
    finish([*detect, "-o", str(boxes)], folder / "log")

    def one_file(command: list[str]) -> Case:
        return Case(
            lambda output: [*command, "-o", str(output), "--resume"],
            lambda output: {"out": output.read_bytes()},
            images_of,
        )

    both = ["run", str(broken), "--detector", str(detector), "--model", str(pose), *least, *where]
    both += [*few, "--detector-batch-size", "3"]
    train = ["train", str(pose), "--data", str(labels), str(photos), "--device", "cpu"]
    train += ["--validate", str(other_labels), str(others)]
    return {
        "detect": one_file(detect),
        "pose": one_file(["pose", str(boxes), "--model", str(pose), *where, *few]),
        "run": one_file(both),
        "train": Case(
            lambda output: [*train, "-o", str(output), "--resume"], run_contents, lambda _: []
        ),
    }


def make_set(folder: Path, name: str, numbers: range) -> tuple[Path, Path]:
    """A folder of small photographs of one person, and labels that make no sense."""
    photos, chance = folder / name, np.random.default_rng(numbers[0])
    photos.mkdir()
    people, images = [], []
    for number in numbers:
        file_name = f"{number:012d}.jpg"
        with Image.open(EXAMPLES / "astronaut.jpg") as photo:
            width, height = (int(side) for side in chance.integers(96, 160, 2))
            photo.convert("RGB").resize((width, height)).save(photos / file_name)
        images.append({"id": number, "file_name": file_name, "width": width, "height": height})
        spots = chance.uniform([10, 10], [width - 10, height - 10], (17, 2)).round(2)
        person = {"id": number, "image_id": number, "category_id": 1, "iscrowd": 0}
        person |= {"bbox": [5, 5, width - 10, height - 10], "area": width * height / 2}
        person |= {"num_keypoints": 17}
        people.append(person | {"keypoints": [float(v) for s in spots for v in (*s, 2)]})
    labels = folder / f"{name}.json"
    categories = [{"id": 1, "name": "person"}]
    content = {"images": images, "annotations": people, "categories": categories}
    labels.write_text(json.dumps(content))
    return photos, labels


def make_models(folder: Path) -> tuple[Path, Path]:
    """Folders of a tiny detector and a tiny pose network, with random weights."""
    detector, pose = folder / "detector", folder / "pose"
    for model, recipe in ((detector, DETECTOR_RECIPE), (pose, POSE_RECIPE)):
        model.mkdir()
        (model / "recipe.toml").write_text(recipe)
    table = load_recipe(detector).table("network", NetworkTable)
    save_file(build_network(table).state_dict(), detector / "weights.safetensors")
    network = build_pose_network(load_recipe(pose))
    save_file(network.state_dict(), pose / "weights.safetensors")
    return detector, pose


def images_of(output: Path) -> list[str]:
    """The images of a boxes.json, or the people's of a kps.json with their places."""
    content = json.loads(output.read_bytes())
    if isinstance(content, dict):
        skipped = [entry["file_name"] for entry in content["skipped"]]
        return [image["file_name"] for image in content["images"]] + skipped
    return [f"{entry['image_id']} {entry['keypoints'][:4]}" for entry in content]


def run_contents(run: Path) -> dict[str, bytes]:
    """What two runs of the same training have in common: weights, and figures without times."""
    rows = [line.split(b",") for line in (run / "metrics.csv").read_bytes().splitlines()]
    minutes = rows[0].index(b"minutes")
    figures = b"\n".join(b",".join(row[:minutes] + row[minutes + 1 :]) for row in rows)
    names = ("last.safetensors", "weights.safetensors", "mined.csv")
    return {name: (run / name).read_bytes() for name in names} | {"metrics.csv": figures}


if __name__ == "__main__":
    main()
