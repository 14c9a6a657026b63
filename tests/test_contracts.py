"""What users and developers may rely on: names, docstrings, layers, recipes, clean files."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

import posepipe
from posepipe.curation.paper import PaperTable
from posepipe.detection.candidates import CandidatesTable, DetectorTable
from posepipe.detection.loading import PeopleTable, SuppressionTable, ViewsTable
from posepipe.detection.networks import NetworkTable
from posepipe.detection.rtmdet import RTMDetPreprocessing
from posepipe.detection.rtmdet_network import RTMDetTable
from posepipe.detection.torchvision import Preprocessing
from posepipe.networks.native import tables as native
from posepipe.pose.codecs.choose import decoding_table
from posepipe.pose.crops import PreprocessingTable
from posepipe.pose.heatmaps import DecodingTable
from posepipe.pose.networks.build import BACKENDS, WHOLE_IMAGES, backend_of, network_table
from posepipe.pose.networks.hourglass import HourglassTable
from posepipe.pose.networks.keypoint_rcnn import KeypointRCNNDecoding
from posepipe.pose.networks.plain import PlainTable
from posepipe.training.detector.task import DetectorTrainingTable
from posepipe.training.tables import PoseTrainingTable
from posepipe.zoo.recipe import (
    EXTENDS,
    Recipe,
    ReportedTable,
    Table,
    WeightsTable,
    list_experiments,
    list_recipes,
    load_recipe,
    sha256_of,
)

ROOT = Path(__file__).parents[1]
MODULES = sorted((ROOT / "posepipe").rglob("*.py"))
MODELS = sorted(path.parent.name for path in (ROOT / "models").glob("*/recipe.toml"))
EXPERIMENTS = list(tomllib.loads((ROOT / "experiments" / "cpn.toml").read_text(encoding="utf-8")))
RECIPES = [*MODELS, *EXPERIMENTS]
SHIPPED = sorted(path.parent.name for path in (ROOT / "models").glob("*/weights.safetensors"))
FETCHABLE = [name for name in RECIPES if load_recipe(name).weights.urls]
MOST_BYTES = 16_000_000

PUBLIC_NAMES = {
    "Cluster",
    "DataTable",
    "DetectionOptions",
    "Detections",
    "DrawStyle",
    "Video",
    "VideoOptions",
    "ImageFile",
    "Pipeline",
    "PoseOptions",
    "PosepipeError",
    "Poses",
    "ScoreCard",
    "SmoothingOptions",
    "TrackingOptions",
    "TrainOptions",
    "detect",
    "draw_poses",
    "estimate_poses",
    "evaluate",
    "follow",
    "run_distributed",
    "train",
}

COMMON_TABLES: dict[str, type[Table]] = {"weights": WeightsTable, "reported": ReportedTable}
POSE_TABLES: dict[str, type[Table]] = {
    **COMMON_TABLES,
    "preprocessing": PreprocessingTable,
    "decoding": DecodingTable,
    "training": PoseTrainingTable,
    "paper": PaperTable,
}
DETECTION_TABLES: dict[str, type[Table]] = {
    **COMMON_TABLES,
    "detector": DetectorTable,
    "network": NetworkTable,
    "preprocessing": Preprocessing,
    "candidates": CandidatesTable,
    "people": PeopleTable,
    "views": ViewsTable,
    "suppression": SuppressionTable,
    "training": DetectorTrainingTable,
}


def test_the_public_names_are_these() -> None:
    assert set(posepipe.__all__) == PUBLIC_NAMES
    assert PUBLIC_NAMES.issubset(dir(posepipe))


@pytest.mark.parametrize("name", sorted(PUBLIC_NAMES))
def test_a_public_name_leads_to_something_documented(name: str) -> None:
    assert inspect.getdoc(getattr(posepipe, name))


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'estimate'"):
        posepipe.estimate  # noqa: B018


def test_every_public_name_of_the_package_is_what_its_type_checkers_see() -> None:
    tree = ast.parse((ROOT / "posepipe" / "__init__.py").read_text(encoding="utf-8"))
    imported = {
        alias.asname or alias.name: node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("posepipe")
        for alias in node.names
    }
    assert set(imported) == PUBLIC_NAMES
    for name, module in imported.items():
        assert getattr(import_module(str(module)), name) is getattr(posepipe, name)


def test_importing_posepipe_loads_no_large_library() -> None:
    code = "import sys, posepipe; print(*sys.modules, sep='\\n')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "posepipe" in loaded
    assert not loaded & {"torch", "torchvision", "cv2", "numpy", "PIL", "pycocotools", "click"}


def public_things(tree: ast.AST, prefix: str = "") -> Iterator[tuple[str, ast.AST]]:
    """Every public function and class of a syntax tree, methods of public classes included.

    Functions inside functions are nobody else's business. `__init__` and other methods with such
    names are described by their class.
    """
    for node in ast.iter_child_nodes(tree):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        if node.name.startswith("_"):
            continue
        yield prefix + node.name, node
        if isinstance(node, ast.ClassDef):
            yield from public_things(node, f"{prefix}{node.name}.")


def test_everything_public_has_a_docstring() -> None:
    missing = []
    for path in MODULES:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        things = [("", tree), *public_things(tree)]
        missing += [
            f"{path.relative_to(ROOT)}: {name or 'the module'}"
            for name, node in things
            if not ast.get_docstring(node)
        ]
    assert missing == []


@pytest.mark.skipif(find_spec("importlinter") is None, reason="needs import-linter: make install")
def test_imports_point_right_only() -> None:
    linter = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    done = subprocess.run(
        [sys.executable, "-c", linter, "--no-cache"],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 0 broken" in done.stdout


def test_the_models_of_the_folder_are_the_models_there_are() -> None:
    assert [recipe.name for recipe in list_recipes()] == MODELS
    assert [recipe.name for recipe in list_experiments()] == EXPERIMENTS
    assert not set(MODELS) & set(EXPERIMENTS)
    assert set(SHIPPED) >= {
        "cpn-litehrnet-256x192",
        "cpn-litehrnet-small-256x192",
        "person-detector-rtmdet-nano",
    }


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_has_known_tables_with_known_fields(name: str) -> None:
    recipe = load_recipe(name)
    known = dict(DETECTION_TABLES)
    if recipe.tables.get("detector", {}).get("backend") == "detectron2_native":
        known |= {"network": native.NetworkTable, "preprocessing": native.PreprocessingTable}
    if recipe.tables.get("detector", {}).get("backend") == "rtmdet":
        known |= {"network": RTMDetTable, "preprocessing": RTMDetPreprocessing}
    if recipe.model.stage == "pose":
        backend = backend_of(recipe)
        network = BACKENDS[backend] if backend else type(network_table(recipe))
        known = {**POSE_TABLES, "network": network}
        if backend in WHOLE_IMAGES:
            known |= {"preprocessing": native.PreprocessingTable, "decoding": KeypointRCNNDecoding}
        else:
            known["decoding"] = type(decoding_table(recipe))
    assert set(recipe.tables) <= {"model", *known}
    for table in set(recipe.tables) & set(known):
        recipe.table(table, known[table])
    assert recipe.model.summary


def input_size(recipe: Recipe) -> str:
    """The crop's size as the paper writes it, height first."""
    width, height = recipe.table("preprocessing", PreprocessingTable).input_size_wh
    return f"{height}x{width}"


@pytest.mark.parametrize("name", RECIPES)
def test_a_models_name_says_what_it_is(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.name == name == name.lower()
    if recipe.model.stage == "pose":
        if backend_of(recipe) == "torchvision":
            assert name == recipe.tables["network"]["architecture"].replace("_", "-")
            return
        if backend_of(recipe) == "detectron2_native":
            return  # tests/pose/test_keypoint_rcnn.py's
        table = None if backend_of(recipe) else network_table(recipe)
        if table is None or isinstance(table, PlainTable):
            assert name.split("-")[0] in recipe.model.summary.lower()
        elif isinstance(table, HourglassTable):
            assert name == f"hourglass-{table.stages}-{input_size(recipe)}"
        else:
            kind, backbone = recipe.tables["network"].get("architecture", "cpn"), table.backbone
            # A backbone's name, or the beginning of a long one.
            parts = [part for part in name.split("-") if len(part) > 4]
            assert any(backbone.replace("_", "").startswith(part) for part in parts)
            assert name.startswith(backbone if kind == "resnet" else f"{kind}-")
        assert name.endswith(f"-{input_size(recipe)}")
        if name in MODELS:
            assert input_size(recipe) in recipe.model.summary
    elif recipe.table("detector", DetectorTable).backend == "detectron2_native":
        assert name.startswith("detectron2-")  # the rest is tests/detection/test_published.py's
    elif recipe.table("detector", DetectorTable).backend == "rtmdet":
        assert name.startswith("person-detector-rtmdet-")
    else:
        architecture = recipe.table("network", NetworkTable).architecture
        last_words = architecture.replace("mobilenet_v2", "mobilenetv2").split("_")[1:]
        assert name.endswith("-".join(last_words))


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_weights_are_small_and_those_of_the_recipe(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.weights_path.stat().st_size <= MOST_BYTES
    assert sha256_of(recipe.weights_path) == recipe.model.weights_sha256
    assert recipe.model.licence


@pytest.mark.parametrize("name", MODELS)
def test_a_model_has_a_card_or_extends_one_that_has(name: str) -> None:
    folder = ROOT / "models" / name
    text = (folder / "recipe.toml").read_text(encoding="utf-8")
    assert (folder / "README.md").is_file() or text.partition("[")[0].find(f"{EXTENDS} = ") >= 0


@pytest.mark.parametrize("name", FETCHABLE)
def test_what_can_be_fetched_has_terms_a_checksum_and_a_card(name: str) -> None:
    recipe = load_recipe(name)
    assert all(url.startswith("https://") for url in recipe.weights.urls)
    assert "weights: " in recipe.model.licence
    card = " ".join((ROOT / "models" / name / "README.md").read_text(encoding="utf-8").split())
    assert f"posepipe models fetch {name}" in card
    if not (recipe.weights.sha256_prefix or recipe.weights.md5_prefix):
        assert "publishes no checksum" in card
    reported = recipe.reported
    if reported == ReportedTable():
        assert "Untested" in card
        return
    assert reported.source
    people = f"states {reported.person_ap} AP for the boxes of people"
    keypoints = f"states {reported.keypoint_ap} keypoint AP"
    assert any(text in card for text in (f"states {reported.box_ap} box AP", people, keypoints))


@pytest.mark.parametrize("name", SHIPPED)
def test_a_model_with_weights_has_a_card(name: str) -> None:
    card = ROOT / "models" / name / "README.md"
    assert card.is_file()
    text = card.read_text(encoding="utf-8").lower()
    for word in (name, "trained", "licence", "ap"):
        assert re.search(rf"\b{re.escape(word)}\b", text), word


def tracked_files() -> list[Path]:
    """The text files under version control that still exist."""
    try:
        done = subprocess.run(
            ["git", "ls-files", "-z"],  # noqa: S607
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    binary = {".safetensors", ".jpg", ".png", ".npz", ".mp4"}
    paths = [ROOT / name for name in done.stdout.split("\0") if name]
    return [path for path in paths if path.is_file() and path.suffix not in binary]


def test_no_file_tells_of_the_machine_it_was_written_on() -> None:
    # Put together here, so that this file is none of those found.
    traces = ["/" + "work/", "/" + "tmp/pp", "file:" + "///", "/" + "root/", "/" + "home/"]
    found = [
        f"{path.relative_to(ROOT)}: {trace}"
        for path in tracked_files()
        for trace in traces
        if trace in path.read_text(encoding="utf-8")
    ]
    assert found == []


def test_the_path_of_an_image_in_the_docs_leads_through_things_that_are_there() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    section = text.partition("## One image through")[2].partition("\n## ")[0]
    assert 1 <= len(re.findall(r"^\d+\. ", section, re.MULTILINE)) <= 12
    places = re.findall(r"`([\w/]+)\.py: ([\w.]+)`", re.sub(r"\s+", " ", section))
    assert len(places) > 20
    for module, path in places:
        thing: object = importlib.import_module(f"posepipe.{module.replace('/', '.')}")
        for name in path.split("."):
            thing = getattr(thing, name)
