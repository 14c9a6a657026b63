"""The line of `benchmark.py` about evaluating, beside pycocotools."""

from __future__ import annotations

import contextlib
import io
import statistics
import tempfile
import time
from pathlib import Path

from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from synthetic_poses import write_synthetic

from posepipe.scoring.evaluation import evaluate


def evaluation_line(*, rounds: int, images: int = 5000, poses: int = 20) -> str:
    """Seconds of evaluating synthetic poses from files to numbers, beside pycocotools' own."""
    with tempfile.TemporaryDirectory() as folder:
        labels, results = Path(folder) / "labels.json", Path(folder) / "results.json"
        write_synthetic(labels, results, images=images, poses=poses)
        seconds: dict[str, list[float]] = {"ours": [], "per keypoint": [], "pycocotools": []}
        for _ in range(rounds):
            for name, work in (
                ("ours", lambda: numbers_of(results, labels, per_keypoint=False)),
                ("per keypoint", lambda: numbers_of(results, labels, per_keypoint=True)),
                ("pycocotools", lambda: numbers_of_pycocotools(results, labels)),
            ):
                begun = time.perf_counter()
                found = work()
                seconds[name].append(time.perf_counter() - begun)
                if name == "ours":
                    ours = found
        equal = "equal" if found == ours else "DIFFERENT"
    median = {name: statistics.median(values) for name, values in seconds.items()}
    return (
        f"evaluating {images} images x {poses} poses: {median['ours']:.1f} s, with every "
        f"keypoint {median['per keypoint']:.1f} s; pycocotools {median['pycocotools']:.1f} s, "
        f"ratio {median['pycocotools'] / median['ours']:.1f}, numbers {equal}"
    )


def numbers_of(results: Path, labels: Path, *, per_keypoint: bool) -> list[float | None]:
    """COCO's ten numbers."""
    return [value for _, value in evaluate(results, labels, per_keypoint=per_keypoint).numbers]


def numbers_of_pycocotools(results: Path, labels: Path) -> list[float | None]:
    """The same as pycocotools computes them."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(labels))
        evaluator = COCOeval(truth, truth.loadRes(str(results)), "keypoints")
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return [None if value == -1 else float(value) for value in evaluator.stats]
