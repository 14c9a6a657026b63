"""Detectors as a task of the training loop: they learn, and are measured as they will be used."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
import torchvision
from builders import annotation, annotation_file, image_entry
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from posepipe.detection.networks import NetworkTable, build_network, trunk_stages
from posepipe.errors import DocumentError, OptionError, RecipeError, WeightsError
from posepipe.recipe import load_recipe
from posepipe.training.detector_task import DetectorTask, DetectorTrainingTable
from posepipe.training.mosaic import DetectorAugmentTable
from posepipe.training.samples import DataTable

CPU = torch.device("cpu")
RECIPE = """
[model]
stage = "detection"
summary = "a small one for tests"

[network]
architecture = "fasterrcnn_mobilenet_v2_fpn"
classes = CLASSES
channels = 16
proposals = 60

[preprocessing]
short_side = 96
long_side = 160
"""
PLAIN = DetectorAugmentTable(flip=0.0, brightness=0.0)


@pytest.fixture
def recipe(tmp_path):
    """Makes the folder of a small detector without weights."""

    def make(classes=2, more=""):
        folder = tmp_path / "small"
        folder.mkdir(exist_ok=True)
        (folder / "recipe.toml").write_text(RECIPE.replace("CLASSES", str(classes)) + more)
        return load_recipe(folder)

    return make


@pytest.fixture
def people(tmp_path) -> DataTable:
    """Two pictures with red people before noise, a third with nobody."""
    random = np.random.default_rng(3)
    boxes = [(1, 20, 10, 30, 70), (1, 80, 30, 25, 60), (2, 50, 20, 32, 64)]
    for number in (1, 2, 3):
        pixels = random.integers(0, 120, (96, 128, 3), dtype=np.uint8)
        for _, x, y, w, h in (box for box in boxes if box[0] == number):
            pixels[y : y + h, x : x + w] = 230, 60, 30
        Image.fromarray(pixels).save(tmp_path / f"{number:012d}.png")
    file = annotation_file(
        tmp_path / "people.json",
        [
            annotation(n, image_id, bbox=[x, y, w, h], area=w * h)
            for n, (image_id, x, y, w, h) in enumerate(boxes, start=1)
        ],
        [image_entry(n, file_name=f"{n:012d}.png", width=128, height=96) for n in (1, 2, 3)],
    )
    return DataTable(annotations=str(file), images=str(tmp_path))


def table(people=None, **fields):
    given = {"samples": 100, "batch": 2, "workers": 0, "precision": "fp32", "augment": PLAIN}
    if people is not None:
        given |= {"data": (people,), "validate": (people,)}
    return DetectorTrainingTable(**(given | fields))


def train(task, steps, rate=2e-3):
    """Some steps; the loss of each."""
    task.train_mode()
    parameters = [p for p in task.network.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(parameters, lr=rate)
    losses = []
    for batch in itertools.islice(task.batches(0, 0, 1), steps):
        parts, _ = task.module(batch)
        loss = torch.stack([part.total / part.count for part in parts.values()]).sum()
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 5.0)
        optimiser.step()
        losses.append(loss.item())
    return losses


def test_a_detector_learns_two_pictures_by_heart_and_that_a_third_is_empty(recipe, people, tmp_path):
    task = DetectorTask(recipe(), table(people, batch=3, box_loss="giou", box_weight=2.0), device=CPU)
    before = task.validate(task.network, None)
    losses = train(task, 60)
    assert np.mean(losses[-5:]) < 0.25 * losses[0]
    # Batch normalisations of a network this young lag behind: measured as it was trained.
    after = task.validate(task.network, tmp_path / "pictures")
    assert list(after) == ["person_box_ap", "person_box_ap50", "person_box_ar"]
    assert before["person_box_ap"] < 0.2
    assert after["person_box_ap50"] > 0.9
    sheet = np.asarray(Image.open(tmp_path / "pictures/boxes_people.jpg"))
    assert sheet.shape == (400, 1200, 3)
    assert ((sheet[..., 1] > 180) & (sheet[..., 0] < 140)).sum() > 100  # true boxes, green
