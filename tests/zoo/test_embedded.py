from __future__ import annotations

from pathlib import Path

import pytest

from posepipe.errors import RecipeError
from posepipe.zoo.embedded import embedded_recipe, with_recipe
from posepipe.zoo.recipe import load_recipe

TABLES = {"model": {"stage": "pose", "summary": "grüße"}, "decoding": {"blur_kernel": 3}}


@pytest.fixture
def network(tmp_path: Path) -> Path:
    """An ONNX file with a long graph, and other metadata, before its recipe."""
    onnx = pytest.importorskip("onnx")
    ends = [onnx.helper.make_tensor_value_info(name, 1, [1]) for name in ("a", "b")]
    node = onnx.helper.make_node("Relu", ["a"], ["b"], doc_string="x" * 100_000)
    graph = onnx.helper.make_graph([node], "g", ends[:1], ends[1:])
    model = onnx.helper.make_model(graph, producer_name="somebody")
    onnx.helper.set_model_props(model, {"author": "somebody else"})
    path = tmp_path / "net.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def test_a_recipe_goes_in_and_comes_out(network) -> None:
    onnx = pytest.importorskip("onnx")
    network.write_bytes(with_recipe(network.read_bytes(), TABLES))
    assert embedded_recipe(network) == TABLES
    entries = {entry.key: entry.value for entry in onnx.load(network).metadata_props}
    assert entries.keys() == {"author", "posepipe.recipe"}  # still what others can read
    recipe = load_recipe(network)
    assert (recipe.name, recipe.weights_path) == ("net", network)
    assert recipe.has_weights


def test_a_file_without_a_recipe_says_what_to_do(network) -> None:
    with pytest.raises(RecipeError, match=r"net.onnx has no recipe in it.* backend = \"onnx\""):
        load_recipe(network)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.onnx", b"\xff" * 40),
        ("a.onnx", b"\x0a\xff\xff\xff\xff\x7f"),
        ("a.onnx", b"\x0f"),
        ("a.onnx", b"just text, which is no network"),
        ("a.xml", b""),
        ("a.xml", b"<?xml version='1.0'?><net><rt_info><a></rt_info></net>"),
        ("a.xml", b"<!DOCTYPE a [<!ENTITY b 'c'>]><net><rt_info>&b;</rt_info></net>"),
    ],
)
def test_nonsense_is_one_line(name, content, tmp_path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(RecipeError, match=rf"{name} is damaged, or not an exported network"):
        load_recipe(tmp_path / name)


@pytest.mark.parametrize("text", [b"{", b"[1]", b'{"model": 3}', b'{"model": {"stage": "pose"}}'])
def test_a_wrong_recipe_names_the_file(text, network, monkeypatch) -> None:
    monkeypatch.setattr("posepipe.zoo.embedded.recipe_text", lambda _: text.decode())
    network.write_bytes(with_recipe(network.read_bytes(), {}))
    with pytest.raises(RecipeError, match=r"net.onnx"):
        load_recipe(network)
