"""Every number and list of a recipe has bounds, whoever adds one."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

import posepipe
from posepipe.errors import RecipeError
from posepipe.pose.crops import PreprocessingTable
from posepipe.pose.heatmaps import DecodingTable
from posepipe.pose.networks.cpn import CPNTable
from posepipe.zoo.recipe import Recipe, Table, load_recipe


def all_tables() -> list[type[Table]]:
    for module in pkgutil.walk_packages(posepipe.__path__, "posepipe."):
        if not module.name.startswith("posepipe.models"):
            try:
                importlib.import_module(module.name)
            except ModuleNotFoundError as error:  # of an extra that is not installed
                if str(error.name).startswith("posepipe"):
                    raise
    found: list[type[Table]] = []
    waiting = [Table]
    while waiting:
        kinds = waiting.pop().__subclasses__()
        found += kinds
        waiting += kinds
    return [table for table in found if table.__module__.startswith("posepipe.")]


def unbounded(kind: Any, place: str) -> Iterator[str]:
    """The places in a type that take numbers or lists of any size."""
    match kind:
        case msgspec.inspect.IntType() | msgspec.inspect.FloatType():
            lowest, highest = {kind.ge, kind.gt}, {kind.le, kind.lt}
            if lowest == {None} or highest == {None}:
                yield place
        case msgspec.inspect.UnionType():
            for one in kind.types:
                yield from unbounded(one, place)
        case msgspec.inspect.TupleType():
            for one in kind.item_types:
                yield from unbounded(one, place)
        case msgspec.inspect.VarTupleType() | msgspec.inspect.ListType():
            if kind.max_length is None:
                yield place
            yield from unbounded(kind.item_type, place)
        case msgspec.inspect.DictType() | msgspec.inspect.AnyType() | msgspec.inspect.RawType():
            yield place


def test_every_field_of_every_table_has_bounds() -> None:
    tables = all_tables()
    assert len(tables) > 20
    places = [
        f"{table.__module__}.{table.__name__}.{found}"
        for table in tables
        for field in msgspec.inspect.type_info(table).fields  # type: ignore[attr-defined]
        for found in unbounded(field.type, field.name)
    ]
    assert places == [], "give these fields types of posepipe.zoo.bounds"


KINDS = {"preprocessing": PreprocessingTable, "decoding": DecodingTable, "network": CPNTable}
NAN, INFINITY = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("table", "field", "value"),
    [
        ("preprocessing", "std", [0, 1, 1]),
        ("preprocessing", "std", [NAN, 1, 1]),
        ("preprocessing", "mean", [INFINITY, 1, 1]),
        ("preprocessing", "margins_xy", [1e9, 0.1]),
        ("preprocessing", "input_size_wh", [10**6 * 32, 64]),
        ("preprocessing", "fill", [256, 0, 0]),
        ("decoding", "amplitude", NAN),
        ("decoding", "amplitude", 0.0),
        ("decoding", "amplitude", -1.0),
        ("decoding", "blur_kernel", 1_000_001),
        ("decoding", "confidence_offset", INFINITY),
        ("decoding", "stride", 0),
        ("network", "batch_norm_eps", -1e-5),
        ("network", "batch_norm_eps", 0.0),
        ("network", "batch_norm_momentum", NAN),
        ("network", "channels", 2049),  # of 16,384, the network would take 30 GB
        ("network", "channels", 10**9),
        ("network", "channels", 10**4000),
        ("network", "refine_bottlenecks", [0, 1, 2, 10**9]),
        ("network", "refine_bottlenecks", list(range(1000))),
        ("network", "keypoints", 10**9),
    ],
)
def test_a_value_that_makes_no_sense_is_one_line(table: str, field: str, value: object) -> None:
    recipe = load_recipe("cpn-resnet50-256x192")
    tables = {name: dict(content) for name, content in recipe.tables.items()}
    tables.setdefault(table, {})[field] = value
    with pytest.raises(RecipeError) as caught:
        Recipe("changed", recipe.folder, tables).table(table, KINDS[table])
    assert field in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    "text",
    [
        "a = " + "[" * 5000 + "]" * 5000,
        "a = " + "[" * 40 + "]" * 40,
        "a = " + "{b = " * 5000 + "1" + "}" * 5000,
        "[" + ".".join(["a"] * 40) + "]",
        "[" + ".".join(["a"] * 100_000) + "]",
        ".".join(["a"] * 100_000) + " = 1",  # of the keys of values, tomllib copies each beginning
        " . ".join(["'a b'", '"c"'] * 50_000) + " = 1",
        "a = {" + ".".join(["a"] * 100_000) + " = 1}",
        "a = " + "9" * 5000,
        "a = 1e" + "9" * 5000,
        "a = \xff",
        "a = 0001-01-01T99:00:00",
        "# " + "x" * 1_100_000,
        '[model]\nstage = ["pose"]\nsummary = ""',
        'model = "a text"',
        "model = [[1]]",
        'extends = ["a"]',
    ],
)
def test_a_recipe_of_nonsense_is_one_line(text: str, tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text(text, encoding="latin-1")
    with pytest.raises(RecipeError) as caught:
        load_recipe(tmp_path)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    "change",
    ["decoding.blur_kernel=" + "9" * 5000, "a." * 40 + "b=1", "a.b=" + "[" * 5000 + "]" * 5000],
)
def test_a_change_of_nonsense_is_one_line(change: str) -> None:
    recipe = load_recipe("cpn-resnet50-256x192")
    table = change.partition(".")[0]
    with pytest.raises(RecipeError) as caught:
        recipe.with_changes([change]).table(table, DecodingTable)
    assert len(str(caught.value).splitlines()) == 1
