"""Ten keypoints of dogs: from an annotation file to a recipe, trained, scored and drawn."""

from __future__ import annotations

import csv
import re
import tomllib
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from builders import DOG, annotation, annotation_file, image_entry, save_json
from commands import content, error_of, lines, posepipe
from PIL import Image
from safetensors.torch import load_file

from posepipe.core.skeleton import DEFAULT_SIGMA
from posepipe.zoo.recipe import load_recipe
from posepipe.zoo.skeleton import recipe_skeleton

pytestmark = pytest.mark.slow

# A dog from its left side, in an image of 64 x 48 pixels.
STANDING = {
    "nose": (8, 18),
    "left_ear": (18, 10),
    "right_ear": (14, 8),
    "withers": (26, 18),
    "croup": (46, 18),
    "tail": (56, 10),
    "left_front_paw": (26, 40),
    "right_front_paw": (20, 40),
    "left_back_paw": (48, 40),
    "right_back_paw": (42, 40),
}
DOGS = 4
WIDTH, HEIGHT = 64, 48
CATEGORY = {
    "id": 18,
    "name": "dog",
    "keypoints": list(DOG.keypoints),
    "skeleton": [[start + 1, end + 1] for start, end in DOG.limbs],
}
# Small and quick, and nothing drawn at random: the same four crops again and again.
QUICK = {
    "network.backbone": "mobilenet_v2",
    "network.channels": 32,
    "network.batch_norm_momentum": 0.5,
    "preprocessing.input_size_wh": [64, 64],
    "decoding.blur_kernel": 3,
    "decoding.flip": "false",
    "training.samples": 280,
    "training.batch": 4,
    "training.workers": 0,
    "training.learning_rate": 1e-2,
    "training.warm_up": 40,
    "training.average": 0.0,
    "training.begin_as": "",
    "training.frozen_norm": "false",
    "training.backbone_rate": 1.0,
    "training.loss": "{scale=100.0, localisation=0.15, hardest=5}",
    "training.validate_every": 140,
    "training.augment": "{flip=0, rotation=0, scale=[1, 1], shift=0, half_body=0, colour=0}",
}


@pytest.fixture(scope="module")
def dogs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An annotation file of dogs, a spot in a colour of its own for every keypoint."""
    folder = tmp_path_factory.mktemp("dogs")
    entries, images = [], []
    for number in range(1, DOGS + 1):
        random = np.random.default_rng(number)
        points = np.array([STANDING[name] for name in DOG.keypoints], float)
        points += random.uniform(-4, 4, points.shape)
        pixels = np.full((HEIGHT, WIDTH, 3), 20, np.uint8)
        for k, (x, y) in enumerate(points):
            colour = (60 + 195 * (k // 5), 60 + 97 * (k // 3 % 3), 60 + 97 * (k % 3))
            cv2.circle(pixels, (round(x), round(y)), 3, colour, -1)
        name = f"dog-{number}.png"
        Image.fromarray(pixels).save(folder / name)
        images.append(image_entry(number, file_name=name, width=WIDTH, height=HEIGHT))
        visible = np.column_stack([points, np.full(len(points), 2)])
        entries.append(
            annotation(
                number,
                number,
                category_id=CATEGORY["id"],
                bbox=[2, 2, WIDTH - 4, HEIGHT - 4],
                area=0.6 * WIDTH * HEIGHT,
                keypoints=visible.ravel().tolist(),
                num_keypoints=len(points),
            )
        )
    return annotation_file(folder / "dogs.json", entries, images, categories=[CATEGORY])


@pytest.fixture(scope="module")
def recipe(dogs: Path) -> Path:
    """What `models new` makes of the annotation file."""
    folder = dogs.parent / "dog-cpn"
    result = posepipe("models", "new", folder, "--annotations", dogs)
    assert result.exit_code == 0, result.output
    return folder


def test_a_new_recipe_has_the_files_keypoints_and_says_what_it_guessed(
    recipe: Path, dogs: Path
) -> None:
    skeleton = recipe_skeleton(load_recipe(recipe))
    assert (skeleton.category, skeleton.keypoints) == ("dog", DOG.keypoints)
    assert (skeleton.limbs, skeleton.mirror_pairs) == (DOG.limbs, DOG.mirror_pairs)
    assert skeleton.sigmas == (DEFAULT_SIGMA,) * 10
    assert skeleton.upper_body == ()
    text = (recipe / "recipe.toml").read_text()
    assert "# mirror_pairs: 3 by left and right in the names" in text
    assert f"# sigmas: {DEFAULT_SIGMA} for all" in text
    tables, base = tomllib.loads(text), load_recipe("cpn-litehrnet-256x192").tables
    assert tables["network"] == base["network"]
    assert tables["training"]["loss"] == {**base["training"]["loss"], "hardest": 5}  # 8 of 17
    again = posepipe("models", "new", recipe, "--annotations", dogs)
    assert (
        again.exit_code,
        "already has a recipe.toml: name another folder" in error_of(again),
    ) == (1, True)


@pytest.fixture(scope="module")
def trained(recipe: Path, dogs: Path) -> Path:
    """A run on the four dogs."""
    run = dogs.parent / "run"
    changes = [part for name, value in QUICK.items() for part in ("--set", f"{name}={value}")]
    command = ("train", recipe, "-o", run, "--data", dogs, dogs.parent, "--device", "cpu", *changes)
    result = posepipe(*command)
    assert result.exit_code == 0, result.output
    return run


@pytest.fixture(scope="module")
def keypoints(trained: Path, dogs: Path) -> Path:
    """The kps.json of the labelled boxes."""
    path = dogs.parent / "kps.json"
    command = ("pose", "--model", trained, "--ground-truth", dogs, "--images", dogs.parent)
    result = posepipe(*command, "-o", path, "--device", "cpu")
    assert result.exit_code == 0, result.output
    return path


def test_dogs_are_learnt_and_scored_by_their_own_skeleton(
    trained: Path, keypoints: Path, dogs: Path, tmp_path: Path
) -> None:
    with (trained / "metrics.csv").open() as file:
        early, late = (float(row["refine"]) for row in csv.DictReader(file))
    assert late < 0.5 * early
    entries = content(keypoints)
    assert len(entries) == DOGS
    assert {len(entry["keypoints"]) for entry in entries} == {30}
    assert {entry["skeleton"]["category"] for entry in entries} == {"dog"}
    numbers = tmp_path / "numbers.json"
    result = posepipe("eval", keypoints, "--annotations", dogs, "--json", numbers)
    assert result.exit_code == 0, result.output
    card = content(numbers)
    assert card["ap"] > 0.8
    assert list(card["per_keypoint"]) == list(DOG.keypoints)
    assert "front_paw" in result.stdout


def test_dogs_are_drawn_with_their_limbs(keypoints: Path, dogs: Path, tmp_path: Path) -> None:
    result = posepipe("draw", keypoints, "-o", tmp_path / "drawn", "--min-score", "0")
    assert result.exit_code == 0, result.output
    for entry in content(keypoints):
        name = entry["file_name"]
        drawn = np.asarray(Image.open(tmp_path / "drawn" / name)).astype(int)
        plain = np.asarray(Image.open(dogs.parent / name)).astype(int)
        points = np.array(entry["keypoints"]).reshape(-1, 3)
        start, end = (points[DOG.keypoints.index(one), :2] for one in ("withers", "croup"))
        x, y = ((start + end) / 2).round().astype(int)
        assert np.abs(drawn[y, x] - plain[y, x]).max() > 50


def test_results_of_another_program_are_dogs_where_a_model_says_so(
    keypoints: Path, trained: Path, dogs: Path, tmp_path: Path
) -> None:
    kept = ("image_id", "category_id", "keypoints", "score", "file_name", "image_root")
    plain = [{key: entry[key] for key in kept} for entry in content(keypoints)]
    results = save_json(dogs.parent / "others.json", plain)
    score, drawing = ("eval", results, "--annotations", dogs), ("draw", results, "-o", tmp_path)
    for command in (score, drawing):
        assert "30 numbers as keypoints, not 51" in error_of(posepipe(*command))
    assert posepipe(*drawing, "--model", trained).exit_code == 0
    assert len(list(tmp_path.glob("*.png"))) == DOGS
    scored = posepipe(*score, "--model", trained)
    assert scored.stdout == posepipe("eval", keypoints, "--annotations", dogs).stdout


def test_every_command_for_poses_takes_those_of_dogs(
    keypoints: Path, dogs: Path, tmp_path: Path
) -> None:
    assert posepipe("compare", keypoints, keypoints, "--annotations", dogs).exit_code == 0
    explained = posepipe("eval", keypoints, "--annotations", dogs, "--explain")
    assert explained.exit_code == 0, explained.output
    again = tmp_path / "again.json"
    rescored = posepipe("rescore", keypoints, "-o", again, "--rule", "box")
    assert rescored.exit_code == 0, rescored.output
    assert content(again)[0]["skeleton"] == content(keypoints)[0]["skeleton"]


def test_a_packed_model_keeps_its_skeleton(trained: Path, keypoints: Path, tmp_path: Path) -> None:
    packed = tmp_path / "dog"
    result = posepipe("models", "pack", trained, packed, "--licence", "for tests")
    assert result.exit_code == 0, result.output
    assert "| dog | 10 keypoints: nose, left_ear, " in (packed / "README.md").read_text()
    assert recipe_skeleton(load_recipe(packed)) == recipe_skeleton(load_recipe(trained))
    assert posepipe("models", "verify", packed).exit_code == 0


def test_a_run_starts_with_a_model_of_other_keypoints_but_for_its_heads(
    recipe: Path, dogs: Path, tmp_path: Path
) -> None:
    command = ("train", recipe, "-o", tmp_path / "run", "--data", dogs, dogs.parent)
    changes = ("training.samples=1", "training.batch=1", "training.learning_rate=1e-12")
    sets = [part for change in changes for part in ("--set", change)]
    start = load_recipe("cpn-litehrnet-256x192")
    result = posepipe(*command, *sets, "--start", start.name, "--device", "cpu")
    assert result.exit_code == 0, result.output
    ours = load_file(tmp_path / "run" / "last.safetensors")
    theirs = load_file(start.weights_path)
    other = {key for key, tensor in theirs.items() if ours[key].shape != tensor.shape}
    assert all(re.search(r"globalnet.heads.\d.1|refinenet.head", key) for key in other)
    assert len(other) == 5 * 5  # a convolution and a batch normalisation of each head
    weights = [key for key in theirs if key not in other and key.endswith("weight")]
    assert all(torch.allclose(ours[key], theirs[key].float(), atol=1e-4) for key in weights)


def test_a_model_of_dogs_finds_no_people(trained: Path, dogs: Path, tmp_path: Path) -> None:
    out = tmp_path / "kps.json"
    run = posepipe("run", dogs.parent, "-o", out, "--model", trained, "--device", "cpu")
    assert run.exit_code == 1
    assert "the detector finds 'person', but the pose model run is for 'dog'" in lines(run)[-1]
    person = annotation_file(tmp_path / "people.json", [annotation()])
    options = ("--images", dogs.parent, "-o", out, "--model", trained)
    pose = posepipe("pose", "--ground-truth", person, *options)
    assert "categories named 'dog': 0 of 1 (person)" in error_of(pose)
