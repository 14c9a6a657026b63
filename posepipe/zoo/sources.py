"""Where recipes are written, and what they inherit.

A recipe is the file ``recipe.toml`` of a model's folder, or a row of a table of experiments
(``experiments/*.toml``): of such a file every table is the recipe of the model it is named after.
An exported network's file has its recipe in it (`posepipe.zoo.embedded`).
"""

from __future__ import annotations

import copy
import difflib
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from posepipe.errors import RecipeError
from posepipe.zoo.embedded import SUFFIXES, embedded_recipe, is_exported

RECIPE_FILE = "recipe.toml"
EXTENDS = "extends"
_MOST_NAMES = 8
_MOST_BYTES = 1_000_000
_DEEPEST = 12
# a.b.c.…, for which tomllib takes time and memory by the square: 2 GB for 40 KB.
_LONG_KEY = re.compile(r"""(?:(?:[\w-]+|"[^"\n]*"|'[^'\n]*')[ \t]*\.[ \t]*){50}""")
# What concerns one model alone: its own weights, and numbers measured with them or of its rows in
# the paper. Of [model] only the stage is inherited.
_NOT_INHERITED = ("paper", "reported", "weights")


@dataclass(frozen=True)
class Source:
    """Where one recipe is written.

    Attributes:
        folder: the model's folder; for a row or an exported network, one that need not exist.
        experiments: the file that has it as a row; None for a folder's own file.
        exported: the exported network that has it inside; None for a folder's own file.
    """

    folder: Path
    experiments: Path | None = None
    exported: Path | None = None

    @property
    def name(self) -> str:
        """The model's name."""
        return self.folder.name

    @property
    def place(self) -> str:
        """What error messages call it."""
        if self.experiments is not None:
            return f"{self.experiments}, {self.name}"
        if self.exported is not None:
            return str(self.exported)
        return str(self.folder / RECIPE_FILE)

    def read(self) -> dict[str, Any]:
        """The recipe as it is written, without what it inherits.

        Raises:
            RecipeError: no such file, or not valid TOML.
        """
        if self.experiments is not None:
            return copy.deepcopy(dict(_rows(self.experiments)[self.name]))
        if self.exported is not None:
            tables = embedded_recipe(self.exported)
            check_depth(tables, self.place)
            return tables
        return _parsed(self.folder / RECIPE_FILE)

    def resolved(self, children: tuple[Source, ...] = ()) -> dict[str, Any]:
        """A recipe's tables with all that it inherits.

        Args:
            children: the recipes that extend it.

        Raises:
            RecipeError: it or one that it extends cannot be read, or does not exist.
        """
        tables = self.read()
        parent = tables.pop(EXTENDS, None)
        if parent is None:
            return tables
        line = (*children, self)
        above = _find_parent(parent, line).resolved(line)
        kept = {name: table for name, table in above.items() if name not in _NOT_INHERITED}
        if isinstance(kept.get("model"), dict):
            kept["model"] = {key: value for key, value in kept["model"].items() if key == "stage"}
        return _merged(kept, tables)


def find_source(name_or_path: str | Path) -> Source:
    """Where the recipe of a model is, by its name or by the path of its folder or file.

    The file is a recipe.toml, or an exported network.

    Raises:
        RecipeError: there is none; the message lists the names that are most like it.
    """
    path = Path(name_or_path)
    if path.name == RECIPE_FILE and path.is_file():
        return Source(path.resolve().parent)
    if is_exported(path) and not _is_folder(path):
        if _is_file(path):
            return Source(path.resolve().with_suffix(""), exported=path.resolve())
        raise RecipeError(f"no file {path}: name one that `posepipe models export` has written")
    # "./NAME" is a folder, though its only part is a name.
    looks_like_path = isinstance(name_or_path, Path) or path.name != name_or_path
    if looks_like_path:
        if _is_folder(path):
            return Source(path.resolve())
    else:
        known = _of_posepipe(path.name)
        if known is not None:
            return known
        if _has_recipe(path):
            return Source(path.resolve())
    if _is_file(path):
        raise RecipeError(
            f"{path} is not a model: name a folder that has a {RECIPE_FILE}, or an exported "
            f"network that ends in {' or '.join(SUFFIXES)}; weights belong to --weights"
        )
    if looks_like_path:
        raise RecipeError(f"no model folder {path}: name a folder that has a {RECIPE_FILE}")
    raise RecipeError(f"no model {str(name_or_path)!r}; there are: {_known_names(path.name)}")


def model_sources() -> list[Source]:
    """The zoo's models, sorted by name."""
    return [Source(file.parent) for file in sorted(zoo_folder().glob(f"*/{RECIPE_FILE}"))]


def experiment_sources() -> list[Source]:
    """The rows of all tables of experiments, in their files' order."""
    files = sorted(experiments_folder().glob("*.toml"))
    return [Source(file.with_name(name), file) for file in files for name in _rows(file)]


def zoo_folder() -> Path:
    """The folder of the models that come with posepipe."""
    return Path(str(resources.files("posepipe.models")))


def experiments_folder() -> Path:
    """The folder of the tables of experiments that come with posepipe."""
    return zoo_folder().with_name("experiments")


def check_depth(tables: Mapping[str, Any], what: str) -> None:
    """Check that tables and lists are nested no deeper than any recipe needs.

    Raises:
        RecipeError: they do.
    """
    level: list[Any] = [tables]
    for _ in range(_DEEPEST):
        level = [
            inside
            for one in level
            for inside in (one.values() if isinstance(one, Mapping) else one)
            if isinstance(inside, Mapping | list)
        ]
        if not level:
            return
    raise RecipeError(f"{what} is nested too deeply")


def _of_posepipe(name: str) -> Source | None:
    """The zoo's model of this name, or else the experiment."""
    folder = zoo_folder() / name
    if name and _has_recipe(folder):
        return Source(folder.resolve())
    return next((source for source in experiment_sources() if source.name == name), None)


def _find_parent(name: object, line: tuple[Source, ...]) -> Source:
    """The recipe that the last one of a line of inheritance extends."""
    last = line[-1]
    if not isinstance(name, str) or not name:
        raise RecipeError(f"{last.place}: {EXTENDS} takes a model's name, got {name!r}")
    beside = last.folder.parent / name
    found = [Source(beside.resolve())] if _has_recipe(beside) else []
    known = _of_posepipe(name)
    found += [known] if known is not None else []
    if not found:
        raise RecipeError(
            f"{last.place} {EXTENDS} {name!r}, but there is no such model beside its folder or in "
            f"the zoo; there are: {_known_names(name)}"
        )
    # A changed copy of a zoo's model may keep its name and extend it.
    new = [source for source in found if source not in line]
    if not new:
        chain = " -> ".join([*(source.name for source in line), name])
        raise RecipeError(f"{line[0].place} {EXTENDS} itself in the end: {chain}")
    return new[0]


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:
        return False


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:
        return False


def _has_recipe(folder: Path) -> bool:
    try:
        return (folder / RECIPE_FILE).is_file()
    except OSError:  # a name that is too long, a folder that may not be entered
        return False


def _rows(file: Path) -> Mapping[str, Any]:
    """The tables of a file of experiments by their names; not to be changed."""
    return _parsed_once(file, file.stat().st_mtime_ns)


@cache
def _parsed_once(file: Path, _modified: int) -> Mapping[str, Any]:
    return _parsed(file)


def _parsed(file: Path) -> dict[str, Any]:
    try:
        if file.stat().st_size > _MOST_BYTES:
            raise RecipeError(f"{file} is longer than any recipe: {_MOST_BYTES} bytes are allowed")
        text = file.read_text(encoding="utf-8")
        if _LONG_KEY.search(text):
            raise RecipeError(f"{file} is nested too deeply")
        tables = tomllib.loads(text)
        check_depth(tables, str(file))
        return tables
    except FileNotFoundError:
        raise RecipeError(f"{file.parent} has no {file.name}: not a model folder") from None
    except ValueError as error:  # TOML, UTF-8, numbers of thousands of digits
        raise RecipeError(f"{file} is not valid TOML: {error}") from None
    except RecursionError:
        raise RecipeError(f"{file} is nested too deeply") from None
    except OSError as error:
        raise RecipeError(f"{file} cannot be read: {error.strerror}") from None


def _merged(above: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """One table over another, tables inside them likewise; neither is changed."""
    result = dict(above)
    for key, value in own.items():
        inherited = result.get(key)
        if isinstance(inherited, Mapping) and isinstance(value, Mapping):
            value = _merged(inherited, value)
        result[key] = value
    return result


def _known_names(wanted: str) -> str:
    """Models and experiments for an error's line, those with the most similar names first."""
    names = [source.name for source in (*model_sources(), *experiment_sources())]
    if not names:
        return "none"
    likeness = {name: difflib.SequenceMatcher(None, wanted, name).ratio() for name in names}
    names.sort(key=lambda name: (-likeness[name], name))
    others = len(names) - len(names[:_MOST_NAMES])
    more = (
        f" and {others} more (`posepipe models` and `posepipe models --paper` list them)"
        if others
        else ""
    )
    return ", ".join(names[:_MOST_NAMES]) + more
