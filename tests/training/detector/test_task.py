"""Detectors as a task of the training loop: they learn, and are measured as they will be used."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from builders import annotation, annotation_file, image_entry
from PIL import Image
from safetensors.torch import save_file

from posepipe.detection.networks import NetworkTable, build_network
from posepipe.detection.torchvision import Preprocessing
from posepipe.errors import DocumentError, OptionError, RecipeError, WeightsError
from posepipe.options import DetectionOptions
from posepipe.pipeline import Pipeline
from posepipe.scoring.evaluation import evaluate_boxes
from posepipe.training.data import DataTable
from posepipe.training.detector import validation
from posepipe.training.detector.batches import DetectionBatch, Target
from posepipe.training.detector.losses import DetectorLosses
from posepipe.training.detector.mosaic import DetectorAugmentTable, MosaicTable
from posepipe.training.detector.task import DetectorTask, DetectorTrainingTable
from posepipe.zoo.recipe import load_recipe

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
short_side = 64
long_side = 96
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
    """Two images with red people before noise, a third with nobody."""
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


@pytest.mark.slow
def test_a_detector_learns_two_images_by_heart_and_that_a_third_is_empty(recipe, people, tmp_path):
    settings = table(people, batch=3, frozen_norm=True, box_loss="giou", box_weight=2.0)
    task = DetectorTask(recipe(), settings, device=CPU)
    before = task.validate(task.network, None)
    losses = train(task, 45)
    assert np.mean(losses[-5:]) < 0.15 * losses[0]
    after = task.validate(task.network, tmp_path / "pictures")
    assert list(after) == ["people/AP", "people/AP50", "people/AR"]
    assert before["people/AP50"] < 0.2
    assert after["people/AP50"] > 0.9
    sheet = np.asarray(Image.open(tmp_path / "pictures/boxes_people.jpg"))
    assert sheet.shape == (400, 1200, 3)
    assert ((sheet[..., 1] > 180) & (sheet[..., 0] < 140)).sum() > 100  # true boxes, green


def test_it_is_measured_as_detecting_and_evaluating_would_measure_it(recipe, people, tmp_path):
    given = recipe()
    task = DetectorTask(given, table(people), device=CPU)
    with torch.no_grad():  # random weights alone find the same everywhere
        task.network.roi_heads.box_predictor.cls_score.weight.mul_(50)
    before = {key: value.clone() for key, value in task.network.state_dict().items()}
    task.train_mode()
    metrics = task.validate(task.network, None)
    after = task.network.state_dict()
    assert all(torch.equal(value, after[key]) for key, value in before.items())
    assert any(module.training for module in task.network.modules())
    assert all(parameter.requires_grad for parameter in task.network.parameters())

    weights = tmp_path / "weights.safetensors"
    save_file({key: value.contiguous() for key, value in after.items()}, weights)
    options = DetectionOptions(models=(given.folder,), weights=weights, min_score=0.0)
    files = [tmp_path / f"{n:012d}.png" for n in (1, 2, 3)]
    stream = Pipeline(options, device="cpu").stream_detections(files)
    found = [detections for _, detections in stream]
    card = evaluate_boxes(found, people.annotations)
    assert card.boxes > 10
    assert metrics == pytest.approx(
        {"people/AP": card.ap, "people/AP50": card.ap50, "people/AR": card.ar}
    )


@pytest.mark.parametrize("precision", ["fp32", "auto"])
def test_it_is_measured_in_the_precision_that_detecting_has(precision, recipe, people, monkeypatch):
    asked = []

    def resolve(name, device):
        asked.append((name, device))
        return torch.float32

    monkeypatch.setattr(validation, "resolve_precision", resolve)
    given = recipe(more=f'[detector]\ntorch_precision = "{precision}"\n')
    task = DetectorTask(given, table(people), device=CPU)
    task.validate(task.network, None)
    assert asked == [(precision, CPU)]


def test_every_set_is_measured_the_first_one_decides(recipe, people, tmp_path):
    empty = annotation_file(
        tmp_path / "empty.json", [], [image_entry(3, file_name="000000000003.png")]
    )
    nobody = DataTable(annotations=str(empty), images=people.images)
    task = DetectorTask(recipe(), table(people, validate=(people, nobody)), device=CPU)
    metrics = task.validate(task.network, tmp_path)
    assert next(iter(metrics)) == "people/AP"
    assert metrics["empty/AP"] == 0
    assert (tmp_path / "boxes_empty.jpg").is_file()
    assert DetectorTask(recipe(), table(), device=CPU).validate(task.network, tmp_path) == {}


# --- what is trained


def test_the_same_seed_gives_the_same_network_and_leaves_torchs_own_numbers_alone(recipe):
    state = torch.get_rng_state()
    one, again, other = (
        DetectorTask(recipe(), table(seed=seed), device=CPU).network.state_dict()
        for seed in (1, 1, 2)
    )
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, again[key]) for key, value in one.items())
    assert not all(torch.equal(value, other[key]) for key, value in one.items())


def test_frozen_stages_and_normalisations_stay_as_they_are(recipe, people):
    settings = table(people, frozen_stages=1, frozen_norm=True)
    task = DetectorTask(recipe(), settings, device=CPU)
    before = {key: value.clone() for key, value in task.network.state_dict().items()}
    train(task, 2)
    changed = {
        key
        for key, value in task.network.state_dict().items()
        if not torch.equal(value, before[key])
    }
    assert not any(key.startswith("backbone.stages.0.") for key in changed)
    assert not any("running" in key for key in changed)
    assert any(key.startswith("backbone.stages.1.") for key in changed)
    assert "roi_heads.box_predictor.cls_score.weight" in changed


def test_without_freezing_everything_is_in_training_mode(recipe):
    task = DetectorTask(recipe(), table(), device=CPU)
    task.train_mode()
    assert all(module.training for module in task.network.modules())


def test_a_run_that_goes_on_has_the_losses_of_one_that_never_stopped(recipe, people):
    settings = table(people, images="mosaic", mosaic=MosaicTable(side=96), ohem=True)
    task = DetectorTask(recipe(), settings, device=CPU)
    task.train_mode()

    def losses(start, count):
        return [
            [part.total.item() for part in task.module(batch)[0].values()]
            for batch in itertools.islice(task.batches(start, 0, 1), count)
        ]

    with torch.no_grad():
        task.network.eval().train()  # statistics of batches do not depend on what came before
        whole = losses(0, 4)
        torch.manual_seed(99)
        assert losses(4, 2) == whole[2:]


def test_weights_to_begin_with_are_those_of_the_file(recipe, tmp_path):
    trained = DetectorTask(recipe(), table(seed=5), device=CPU).network.state_dict()
    file = tmp_path / "start.safetensors"
    save_file({key: value.contiguous() for key, value in trained.items()}, file)
    task = DetectorTask(recipe(), table(), device=CPU, start=file)
    assert all(torch.equal(value, trained[key]) for key, value in task.network.state_dict().items())
    with pytest.raises(WeightsError, match="is of another network"):
        DetectorTask(recipe(classes=91), table(), device=CPU, start=file)


def test_the_backbone_begins_with_a_classifiers_weights(recipe, tmp_path):
    classifier = torchvision.models.mobilenet_v2(num_classes=7)
    file = tmp_path / "imagenet.safetensors"
    save_file(classifier.state_dict(), file)
    task = DetectorTask(recipe(), table(imagenet_weights=str(file)), device=CPU)
    first = task.network.backbone.stages[0][0][0].weight
    assert torch.equal(first, classifier.features[0][0].weight)
    with pytest.raises(WeightsError, match="no weights file"):
        DetectorTask(recipe(), table(imagenet_weights="nowhere.safetensors"), device=CPU)


def test_people_alone_are_learnt_unless_the_network_has_more_classes(recipe, people, tmp_path):
    with Path(people.annotations).open() as file:
        content = json.load(file)
    content["categories"].append({"id": 18, "name": "dog"})
    content["annotations"][1]["category_id"] = 18
    file = tmp_path / "instances.json"
    file.write_text(json.dumps(content))
    data = DataTable(annotations=str(file), images=people.images)

    def classes(of_network):
        task = DetectorTask(recipe(classes=of_network), table(data, batch=3), device=CPU)
        batch = next(task.batches(0, 0, 1))
        return sorted(number for target in batch.targets for number in target.classes.tolist())

    assert classes(2) == [1, 1]
    assert classes(91) == [1, 1, 18]
    with pytest.raises(DocumentError, match=r"category id 18.*classes = 5 has room for 1 to 4"):
        classes(5)


def test_without_data_there_is_nothing_to_learn_from(recipe):
    task = DetectorTask(recipe(), table(), device=CPU)
    with pytest.raises(OptionError, match="0 data sets"):
        next(task.batches(0, 0, 1))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ('[detector]\nbackend = "detectron2"', "train detectron2's networks with detectron2"),
        ("[detector]\nbatch_norm_eps = 0.0", "set training.frozen_norm = true"),
    ],
)
def test_recipes_that_cannot_be_trained_are_refused(recipe, more, message):
    with pytest.raises(RecipeError, match=message):
        DetectorTask(recipe(more=more), table(), device=CPU)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"images": "mosaic", "sizes": (480,)}, "sizes are of whole images"),
        ({"sizes": (8,)}, "sizes must lie between 32 and 8192"),
        ({"ohem_nms": 0.0}, r"ohem_nms must lie in \(0, 1\]"),
        ({"ignore_overlap": 1.5}, r"ignore_overlap must lie in \(0, 1\]"),
        ({"box_weight": -1.0}, "box_weight must be 0 or more"),
        ({"frozen_stages": 5}, "frozen_stages is at most 4"),
        ({"batch": 0}, "batch must be at least 1"),
    ],
)
def test_a_table_with_a_value_out_of_range_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        table(**fields)


@pytest.mark.parametrize(
    "architecture",
    [
        "fasterrcnn_mobilenet_v3_large_320_fpn",
        "fasterrcnn_resnet50_fpn_v2",
        "maskrcnn_resnet50_fpn",
    ],
)
def test_torchvisions_networks_have_losses_and_learn(architecture):
    network = build_network(NetworkTable(architecture=architecture, classes=3)).train()
    network.roi_heads.fg_bg_sampler.batch_size_per_image = 8
    target = Target(
        torch.tensor([[5.0, 5, 40, 60]]), torch.tensor([2]), torch.tensor([[50.0, 0, 64, 64]])
    )
    batch = DetectionBatch(
        torch.randint(0, 256, (1, 64, 64, 3), dtype=torch.uint8), ((64, 64),), (target,), (1,)
    )
    losses, _ = DetectorLosses(network, Preprocessing(), table(ohem=True))(batch)
    torch.stack([part.total for part in losses.values()]).sum().backward()
    unused = [name for name, value in network.named_parameters() if value.grad is None]
    assert unused == []
