"""Recipes: found by name or path, read strictly, their weights verified."""

from __future__ import annotations

import hashlib
import tomllib
from typing import Literal

import pytest

from posepipe.errors import RecipeError, WeightsError
from posepipe.io.checksums import sha256_of
from posepipe.zoo.recipe import Table, list_experiments, list_recipes, load_recipe
from posepipe.zoo.sources import experiments_folder, zoo_folder

MODEL = """
[model]
stage = "pose"
summary = "one for tests"
"""


class ShapeTable(Table, frozen=True):
    """A table as a stage would describe it."""

    width: int
    kind: Literal["round", "square"] = "round"
    margins: tuple[float, float] = (0.0, 0.0)

    def __post_init__(self) -> None:
        if self.width <= 0:
            raise ValueError(f"width must be positive, got {self.width}")


@pytest.fixture
def model_folder(tmp_path):
    """Makes a model folder with a recipe of the given text."""

    def make(text: str = MODEL, name: str = "my-model"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "recipe.toml").write_text(text)
        return folder

    return make


# --- found


def test_every_form_of_a_path_leads_to_the_same_recipe(model_folder, monkeypatch):
    folder = model_folder()
    monkeypatch.chdir(folder.parent)
    forms = [folder, str(folder), folder / "recipe.toml", "./my-model", "my-model"]
    for form in [*forms, "my-model/recipe.toml", "./my-model/"]:
        recipe = load_recipe(form)
        assert recipe.name == "my-model"
        assert recipe.folder.samefile(folder)
    monkeypatch.chdir(folder)
    assert load_recipe("recipe.toml").name == "my-model"


def test_a_model_of_the_zoo_is_found_by_its_name():
    recipe = load_recipe("cpn-litehrnet-256x192")
    assert recipe.folder.samefile(zoo_folder() / "cpn-litehrnet-256x192")
    assert recipe.model.stage == "pose"


def test_an_experiment_is_found_by_its_name_and_has_no_weights():
    recipe = load_recipe("cpn-c2-resnet50-256x192")
    assert recipe.tables["network"]["backbone"] == "resnet50"  # inherited from another row
    assert recipe.tables["paper"]["ap"] == 68.3
    assert tomllib.loads(recipe.text) == recipe.tables
    with pytest.raises(WeightsError, match=r"comes without weights: .* --weights, or train it"):
        _ = recipe.weights_path


def test_a_wrong_field_of_an_experiment_is_named_with_file_and_row():
    recipe = load_recipe("cpn-c2-resnet50-256x192").with_changes(["shape.widht=3"])
    with pytest.raises(RecipeError, match=r"cpn\.toml, cpn-c2-resnet50-256x192 with --set shape"):
        recipe.table("shape", ShapeTable)


def test_what_is_done_to_an_experiments_tables_stays_with_that_recipe():
    load_recipe("cpn-resnet50-256x192").tables["network"]["backbone"] = "other"
    assert load_recipe("cpn-c2-resnet50-256x192").tables["network"]["backbone"] == "resnet50"


def test_the_experiments_are_listed_in_their_files_order():
    names = [recipe.name for recipe in list_experiments()]
    text = (experiments_folder() / "cpn.toml").read_text(encoding="utf-8")
    assert names == list(tomllib.loads(text))
    assert not set(names) & {recipe.name for recipe in list_recipes()}


def test_the_zoos_models_are_listed_by_stage_and_sorted():
    names = [recipe.name for recipe in list_recipes()]
    assert names == sorted(names)
    poses, detectors = ({r.name for r in list_recipes(s)} for s in ("pose", "detection"))
    assert "cpn-litehrnet-256x192" in poses
    assert "person-detector-rtmdet-nano" in detectors
    assert poses | detectors == set(names)
    assert not poses & detectors


@pytest.mark.parametrize(
    ("name", "nearest"), [("cpn-resnet-fifty", "cpn-resnet"), ("hourglass", "hourglass-"), ("", "")]
)
def test_an_unknown_model_is_answered_with_those_like_it(name, nearest, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RecipeError) as caught:
        load_recipe(name)
    assert f"no model '{name}'; there are: {nearest}" in str(caught.value)
    assert " more (`posepipe models` and `posepipe models --paper` list them)" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_path_that_leads_nowhere_is_named(tmp_path):
    with pytest.raises(RecipeError, match=r"no model folder .*nowhere: name a folder that has"):
        load_recipe(tmp_path / "nowhere")
    with pytest.raises(RecipeError, match=r"has no recipe\.toml: not a model folder"):
        load_recipe(tmp_path)


def test_a_file_that_is_no_model_is_told_as_such(tmp_path, monkeypatch):
    (tmp_path / "net.bin").touch()
    monkeypatch.chdir(tmp_path)
    for name in ("net.bin", "./net.bin", tmp_path / "net.bin"):
        with pytest.raises(RecipeError, match=r"net\.bin is not a model: .* in \.onnx or \.xml;"):
            load_recipe(name)


@pytest.mark.parametrize("name", ["absent.onnx", "./folder/absent.xml"])
def test_an_exported_file_that_is_not_there_is_called_a_file(name):
    with pytest.raises(RecipeError, match=r"no file .*absent\.\w+: name one that `posepipe models"):
        load_recipe(name)


# --- read


def test_a_table_gives_its_fields_and_their_defaults(model_folder):
    recipe = load_recipe(model_folder(MODEL + "[shape]\nwidth = 3\nmargins = [0.1, 1]\n"))
    assert recipe.table("shape", ShapeTable) == ShapeTable(width=3, margins=(0.1, 1.0))


def test_numbers_in_exponent_notation_are_numbers(model_folder):
    # The reason for TOML: YAML reads 5e-4 as a string.
    recipe = load_recipe(model_folder(MODEL + "[shape]\nwidth = 3\nmargins = [5e-4, 1e2]\n"))
    assert recipe.table("shape", ShapeTable).margins == (0.0005, 100.0)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ("", "it lacks the field 'width'"),
        ("[shape]", "it lacks the field 'width'"),
        ("shape = 5", "it takes a table, got a whole number"),
        ("[shape]\nwidth = 3\nheight = 4", "there is no field 'height'"),
        ('[shape]\nwidth = "3"', "width takes a whole number, got a text"),
        ("[shape]\nwidth = 3.5", "width takes a whole number, got a fraction"),
        (
            '[shape]\nwidth = 3\nkind = "flat"',
            "kind takes one of round, square, got 'flat'",
        ),
        ("[shape]\nwidth = 3\nmargins = [1.0]", "margins"),
        ("[shape]\nwidth = 0", "width must be positive, got 0"),
    ],
)
def test_a_wrong_field_is_named_with_its_table_and_file(shape, message, model_folder):
    text = shape + MODEL if shape.startswith("shape") else MODEL + shape
    recipe = load_recipe(model_folder(text))
    with pytest.raises(RecipeError) as caught:
        recipe.table("shape", ShapeTable)
    assert message in str(caught.value)
    assert "recipe.toml, [shape]: " in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"\[model\].*it lacks the field 'stage'"),
        ('[model]\nstage = "pose"', r"\[model\].*it lacks the field 'summary'"),
        ('[model]\nstage = "dance"\nsummary = ""', r"\[model\].*'dance'"),
        (MODEL + 'author = "me"', r"\[model\].*there is no field 'author'"),
        ("stage = ", r"recipe\.toml is not valid TOML: "),
    ],
)
def test_a_recipe_without_a_sound_model_table_is_refused_at_once(text, message, model_folder):
    with pytest.raises(RecipeError, match=message):
        load_recipe(model_folder(text))


def test_a_recipe_that_is_no_text_is_refused(model_folder):
    folder = model_folder()
    (folder / "recipe.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RecipeError, match="is not valid TOML"):
        load_recipe(folder)


@pytest.mark.parametrize(
    "file", sorted(zoo_folder().glob("*/recipe.toml")), ids=lambda f: f.parent.name
)
def test_every_shipped_recipe_is_read(file):
    recipe = load_recipe(file.parent.name)
    own = tomllib.loads(file.read_text())
    if "extends" not in own:
        assert recipe.tables == own
    assert recipe.model.summary == own["model"]["summary"]


# --- inherited

PARENT = """
[model]
stage = "pose"
summary = "the parent"
licence = "the parent's"
weights_sha256 = "00"

[shape]
width = 3
margins = [0.1, 0.2]

[shape.inner]
a = 1
b = 2

[paper]
tables = [3]
"""


def extends(name: str, rest: str = "") -> str:
    return f'extends = "{name}"\n[model]\nsummary = "a child"\n{rest}'


def test_a_recipe_has_what_it_extends_but_for_what_it_says_itself(model_folder):
    model_folder(PARENT, "parent")
    text = extends("parent", "[shape]\nmargins = [0.5]\n[shape.inner]\nb = 5\n[other]\nx = 1")
    child = load_recipe(model_folder(text, "child"))
    assert child.name == "child"
    assert child.tables == {
        "model": {"stage": "pose", "summary": "a child"},
        "shape": {"width": 3, "margins": [0.5], "inner": {"a": 1, "b": 5}},
        "other": {"x": 1},
    }


def test_what_is_said_of_one_model_alone_is_not_inherited(model_folder):
    model_folder(PARENT, "parent")
    child = load_recipe(model_folder(extends("parent"), "child"))
    assert (child.model.weights_sha256, child.model.licence) == ("", "")
    assert "paper" not in child.tables
    with pytest.raises(RecipeError, match="it lacks the field 'summary'"):
        load_recipe(model_folder('extends = "parent"', "silent"))


def test_inheritance_goes_on_over_several_generations(model_folder):
    model_folder(PARENT, "parent")
    model_folder(extends("parent", "[shape]\nwidth = 4"), "child")
    grandchild = load_recipe(model_folder(extends("child", "[shape.inner]\na = 7"), "grandchild"))
    assert grandchild.tables["shape"] == {
        "width": 4,
        "margins": [0.1, 0.2],
        "inner": {"a": 7, "b": 2},
    }
    assert load_recipe("cpn-resnet50-256x192").tables["network"]["backbone"] == "resnet50"


def test_a_folder_anywhere_extends_a_model_of_the_zoo(model_folder):
    zoos = load_recipe("cpn-resnet50-384x288")
    child = load_recipe(model_folder(extends("cpn-resnet50-384x288"), "mine"))
    assert child.tables["preprocessing"] == zoos.tables["preprocessing"]


def test_a_model_beside_the_folder_comes_before_one_of_the_zoo(model_folder):
    model_folder(PARENT, "cpn-resnet50-256x192")
    child = load_recipe(model_folder(extends("cpn-resnet50-256x192"), "mine"))
    assert child.tables["shape"]["width"] == 3


def test_a_changed_copy_of_a_zoos_model_may_keep_its_name(model_folder):
    text = extends("cpn-resnet50-256x192", '[network]\nbackbone = "resnet18"')
    copy = load_recipe(model_folder(text, "cpn-resnet50-256x192"))
    assert copy.tables["network"]["backbone"] == "resnet18"
    assert copy.tables["preprocessing"]["input_size_wh"] == [192, 256]


@pytest.mark.parametrize(
    ("family", "message"),
    [
        ({"a": "a"}, "extends itself in the end: a -> a"),
        ({"a": "b", "b": "a"}, "extends itself in the end: a -> b -> a"),
        ({"a": "b", "b": "c", "c": "b"}, "extends itself in the end: a -> b -> c -> b"),
        ({"a": "nobody"}, "extends 'nobody', but there is no such model beside its folder or in"),
        ({"a": "b", "b": "nobody"}, "extends 'nobody', but there is no such model"),
        ({"a": ""}, "extends takes a model's name, got ''"),
    ],
)
def test_a_family_that_leads_nowhere_is_one_clear_line(family, message, model_folder):
    folders = [model_folder(extends(parent), name) for name, parent in family.items()]
    with pytest.raises(RecipeError) as caught:
        load_recipe(folders[0])
    assert message in str(caught.value)
    assert "recipe.toml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_parents_name_is_a_text(model_folder):
    with pytest.raises(RecipeError, match=r"extends takes a model's name, got 5"):
        load_recipe(model_folder("extends = 5\n" + MODEL))


def test_the_text_of_a_recipe_is_its_own_or_all_that_it_comes_to(model_folder):
    parent = load_recipe(model_folder(PARENT, "parent"))
    child = load_recipe(model_folder(extends("parent", "[shape]\nwidth = 9"), "child"))
    assert parent.text == PARENT
    assert child.text.startswith("# child, which extends parent, with all")
    assert tomllib.loads(child.text) == child.tables


# --- weights


def test_weights_are_verified_against_the_recipe(model_folder):
    digest = hashlib.sha256(b"numbers").hexdigest()
    folder = model_folder(MODEL + f'weights_sha256 = "{digest}"')
    (folder / "weights.safetensors").write_bytes(b"numbers")
    assert load_recipe(folder).verified_weights() == (folder / "weights.safetensors", digest)
    (folder / "weights.safetensors").write_bytes(b"other numbers")
    with pytest.raises(WeightsError, match=rf"has SHA-256 .*, its recipe says {digest[:12]}"):
        load_recipe(folder).verified_weights()


def test_weights_that_the_recipe_says_nothing_about_are_taken(model_folder):
    folder = model_folder()
    (folder / "weights.safetensors").write_bytes(b"numbers")
    path, digest = load_recipe(folder).verified_weights()
    assert digest == sha256_of(path) == hashlib.sha256(b"numbers").hexdigest()


def test_missing_weights_are_missed_where_they_belong(model_folder):
    folder = model_folder()
    with pytest.raises(
        WeightsError, match=r"'my-model' comes without weights: name a file .*safetensors"
    ):
        _ = load_recipe(folder).weights_path
