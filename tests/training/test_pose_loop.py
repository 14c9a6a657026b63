"""The loop that trains pose networks keeps its books."""

from __future__ import annotations

import csv

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from posepipe.core.skeleton import COCO_PERSON
from posepipe.pose.crops import PreprocessingTable
from posepipe.pose.heatmaps import encode
from posepipe.pose.networks.cpn import CPN, CPNTable
from posepipe.training.augment import augmented_crop
from posepipe.training.pose_loop import (
    PLAIN,
    PoseTrainingTable,
    mean_oks,
    train_pose,
)

TINY = CPNTable(backbone="mobilenet_v2", channels=16, shortcut="identity")
GIVEN = PreprocessingTable(input_size_wh=(96, 128))


@pytest.fixture
def trained(painted_person, tmp_path):
    """A few seconds of the loop: the network, and the folder with what it wrote."""
    people = [painted_person(seed) for seed in range(4)]
    torch.manual_seed(0)
    network = CPN(TINY)
    table = PoseTrainingTable(minutes=2 / 60, batch=4, frozen_stages=1, augment=PLAIN)
    frozen = {k: v.clone() for k, v in network.backbone.stages[0].state_dict().items()}
    run = tmp_path / "run"
    train_pose(network, [people[:2], people], [1, 3], {"val": people}, table, GIVEN, run=run)
    return network, run, frozen


def test_the_loop_writes_weights_and_figures_and_leaves_frozen_stages_alone(trained):
    network, run, frozen = trained
    assert sorted(path.name for path in run.iterdir()) == ["metrics.csv", "weights.safetensors"]
    [row] = csv.DictReader((run / "metrics.csv").read_text().splitlines())
    assert set(row) == {"minutes", "steps", "global", "refine", "val"}
    assert int(row["steps"]) >= 2
    assert all(np.isfinite(float(value)) for value in row.values())
    assert 0 <= float(row["val"]) <= 1
    CPN(TINY).load_state_dict(load_file(run / "weights.safetensors"))
    after = network.backbone.stages[0].state_dict()
    assert all(torch.equal(after[key], value) for key, value in frozen.items())
    assert all(torch.isfinite(value).all() for value in network.state_dict().values())


class Perfect(torch.nn.Module):
    """Answers with given heatmaps, batch after batch."""

    def __init__(self, maps):
        super().__init__()
        self.maps = list(maps)

    def forward(self, images):
        taken, self.maps = self.maps[: len(images)], self.maps[len(images) :]
        return torch.stack(taken)


def test_mean_oks_is_one_for_perfect_heatmaps_and_less_for_others(painted_person):
    people = [painted_person(seed) for seed in range(35)]  # more than a batch
    generator = np.random.default_rng(0)
    crops = [
        augmented_crop(
            person,
            PLAIN,
            size_wh=GIVEN.input_size_wh,
            margins_xy=GIVEN.margins_xy,
            fill=GIVEN.fill,
            skeleton=COCO_PERSON,
            generator=generator,
        )
        for person in people
    ]

    def maps(shift):
        points = torch.from_numpy(np.stack([crop.points_xy for crop in crops])).float() + shift
        return encode(points, (32, 24), stride=4, sigma=1.4, amplitude=1.0)

    perfect, near, far = (mean_oks(Perfect(maps(shift)), people, GIVEN) for shift in (0, 4, 40))
    assert 0.85 < perfect <= 1
    assert near < perfect
    assert far < 0.1


def test_nobody_to_measure_on_gives_zero():
    assert mean_oks(Perfect([]), [], GIVEN) == 0
