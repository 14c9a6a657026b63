"""What measures a machine with a GPU runs on any other as well."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

import gpu_speed  # noqa: E402

from posepipe.core.boxes import Detections  # noqa: E402
from posepipe.io.find_images import find_images  # noqa: E402


@pytest.mark.slow
def test_every_network_and_stage_does_all_that_it_is_timed_for(monkeypatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda network, **_: network)
    monkeypatch.setattr(gpu_speed, "usable_cores", lambda: 8)
    monkeypatch.setattr(gpu_speed, "default_workers", lambda: 4)
    [image] = find_images([ROOT / "examples" / "astronaut.jpg"])
    people = [(image, Detections(1, [[20, 10, 480, 500], [100, 20, 330, 300]], [0.9, 0.8]))]
    done = []

    def speed(work) -> float:
        done.append(work())
        return float(len(done))

    lines = list(
        gpu_speed.gpu_lines(
            [image] * 3,
            people,
            device="cpu",
            precision="fp32",
            speed=speed,
            rounds=1,
            models=["cpn-litehrnet-small-256x192"],
        )
    )
    assert done == [2] * 14 + [3] * 12 + [3] * 8  # all take turns, twice
    kinds = [line[2:58].strip() for line in lines if line.startswith("  ")]
    stage, run = ([what, *(f"{what}, workers: {n}" for n in (2, 7))] for what in ("stage", "run"))
    compiled = ["bare, compiled", "stage, compiled"]
    pose = ["bare", *stage, "stage, images in memory", *compiled]
    run += ["run, compiled"]
    assert kinds == [*pose, "bare", *stage, *compiled, *run, "pose", "detect"]
