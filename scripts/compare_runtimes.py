"""Whether all runtimes, precisions and devices give the accuracy of torch in fp32 on the CPU.

    python scripts/compare_runtimes.py labels.json images/ [--detector NAME] [--model NAME]

For each: AP of the person boxes (all boxes), OKS AP in the boxes of `run` and in labelled ones, by
the commands that a user would give, and how far they are from torch's in fp32; and by how much the
mean OKS of labelled people changes, with its 95 % interval. On few images AP is not fine enough to
tell small changes from chance: one person's OKS that passes a threshold is a jump. "auto" is what
torch runs by default: detectors may have a precision of their own then. What is not installed is
left out, with a line. A CUDA GPU is compared as well, if there is one.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import click
import torch

from posepipe.networks.devices import precision_name, resolve_device, resolve_precision
from posepipe.networks.runtimes.names import TORCH
from posepipe.networks.runtimes.registry import RUNTIMES
from posepipe.options import DEFAULT_DETECTOR, DEFAULT_POSE_MODEL

POSES = ("run.json", "labelled.json")


def posepipe(*words: str | Path) -> None:
    """Run a command of posepipe's; its warnings go to stderr."""
    command = [sys.executable, "-m", "posepipe", *map(str, words)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def accuracy(
    labels: Path, images: Path, models: Sequence[str], where: Sequence[str], folder: Path
) -> list[float]:
    """Box AP, OKS AP of `posepipe run` and OKS AP in labelled boxes, in per cent.

    The folder, which must not exist, gets the results.
    """
    detector, model = models
    folder.mkdir()
    boxes, own, labelled = (folder / name for name in ("boxes.json", *POSES))
    posepipe("detect", images, "--model", detector, "--min-score", "0", "-o", boxes, *where)
    posepipe("run", images, "--detector", detector, "--model", model, "-o", own, *where)
    truth = ["--ground-truth", labels, "--images", images]
    posepipe("pose", *truth, "--model", model, "-o", labelled, *where)
    found = []
    for file in (boxes, own, labelled):
        numbers = folder / f"{file.stem}-numbers.json"
        posepipe("eval", file, "--annotations", labels, "--json", numbers)
        found.append(100 * json.loads(numbers.read_text())["ap"])
    return found


def change_of_mean_oks(labels: Path, before: Path, after: Path) -> str:
    """By how much mean OKS changed from one file of poses to another, in per cent."""
    told = after.with_suffix(".changes.json")
    posepipe("compare", before, after, "--annotations", labels, "--json", told)
    [compared] = json.loads(told.read_text())
    [change] = [one for one in compared["numbers"] if one["name"] == "mean OKS"]
    numbers = change["second"] - change["first"], change["low"], change["high"]
    return "{:+.2f} ({:+.2f} … {:+.2f})".format(*(100 * number for number in numbers))


def placements() -> list[tuple[str, str, str]]:
    """Devices, runtimes and precisions to compare: torch in fp32 on the CPU first."""
    own = precision_name(resolve_precision("auto", resolve_device("cpu")))
    precisions = list(dict.fromkeys(["fp32", own]))
    found = [(TORCH, precision) for precision in precisions]
    if own != "fp32":  # else "auto" is fp32 for all
        found.append((TORCH, "auto"))
    for name, registered in RUNTIMES.items():
        if not registered.is_installed:
            click.echo(f"{name}: not installed, left out")
            continue
        known = ["fp32"] if name == "onnxruntime" else precisions
        found += [(name, precision) for precision in known]
    on_cpu = [("cpu", runtime, precision) for runtime, precision in found]
    if not torch.cuda.is_available():
        return on_cpu
    return [*on_cpu, *(("cuda", TORCH, precision) for precision in ("fp32", "bf16", "auto"))]


@click.command()
@click.argument("labels", type=click.Path(path_type=Path, exists=True))
@click.argument("images", type=click.Path(path_type=Path, exists=True))
@click.option("--detector", default=DEFAULT_DETECTOR, show_default=True)
@click.option("--model", default=DEFAULT_POSE_MODEL, show_default=True)
def main(labels: Path, images: Path, detector: str, model: str) -> None:
    """Print the accuracy of every runtime beside torch's in fp32."""
    kinds = ("box AP", "OKS AP", "in labelled boxes", "mean OKS, change", "in labelled boxes")
    click.echo(f"{'':24}" + "".join(f" {kind:>23}" for kind in kinds))
    with tempfile.TemporaryDirectory() as name:
        results = Path(name)
        first: list[float] | None = None
        for number, (device, runtime, precision) in enumerate(placements()):
            where = ["--device", device, "--runtime", runtime, "--precision", precision]
            called = f"{runtime}, {precision}" if device == "cpu" else f"{device}, {precision}"
            folder = results / str(number)
            try:
                found = accuracy(labels, images, (detector, model), where, folder)
            except subprocess.CalledProcessError:  # it has said why
                if first is None:
                    sys.exit(1)
                click.echo(f"{called:24} left out")
                continue
            first = first or found
            columns = [f"{x:.2f} {x - exact:+7.2f}" for x, exact in zip(found, first, strict=True)]
            if number:
                columns += [
                    change_of_mean_oks(labels, results / "0" / poses, folder / poses)
                    for poses in POSES
                ]
            click.echo(f"{called:24}" + "".join(f" {column:>23}" for column in columns))


if __name__ == "__main__":
    main()
