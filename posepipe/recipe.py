"""A model's recipe: one TOML file that says everything about a model.

A model is a folder ``models/<name>/`` with a ``recipe.toml``, a model card ``README.md`` and,
where small enough to ship, ``weights.safetensors``. This file finds, reads and checks recipes; it
does not know what the tables mean. Each stage describes its own tables as a `Table` and asks for
them: ``recipe.table("network", CPNSettings)``.
"""

from __future__ import annotations

import copy
import hashlib
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec

from posepipe.errors import RecipeError, WeightsError

Stage = Literal["detection", "pose"]
WEIGHTS_FILE = "weights.safetensors"
# Other programs' files, in the order in which they are looked for; `posepipe.weights` reads them.
WEIGHTS_FILES = (WEIGHTS_FILE, "weights.pth", "weights.pkl")
RECIPE_FILE = "recipe.toml"


class Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of every table of a recipe: fields are typed, unknown ones are errors."""


T = TypeVar("T", bound=Table)


class ModelTable(Table, frozen=True):
    """The table ``[model]``, which every recipe has.

    Attributes:
        stage: what the model is for.
        summary: one line for `posepipe models`.
        licence: terms of the weights and of the data they were trained on, in a few words.
        weights_sha256: of the weights file that belongs to the recipe; "" where there is none yet.
    """

    stage: Stage
    summary: str
    licence: str = ""
    weights_sha256: str = ""


@dataclass(frozen=True)
class Recipe:
    """A recipe as read from its file; `table` gives its parts, checked.

    Attributes:
        name: the folder's name.
        folder: where `recipe.toml` lies.
        tables: the parsed TOML.
        changes: what of it was set anew, see `with_changes`.
    """

    name: str
    folder: Path
    tables: Mapping[str, Any]
    changes: tuple[str, ...] = ()

    @property
    def model(self) -> ModelTable:
        """What every recipe says about its model."""
        return self.table("model", ModelTable)

    def table(self, name: str, kind: type[T]) -> T:
        """One table of the recipe as a `kind`; an absent table is an empty one.

        Raises:
            RecipeError: a field is unknown, missing or of the wrong type; names file and field.
        """
        try:
            return msgspec.convert(self.tables.get(name, {}), kind)
        except msgspec.ValidationError as error:
            message = str(error).replace("`$.", "`")
            changed = "".join(f" with --set {c}" for c in self.changes if c.startswith(f"{name}."))
            raise RecipeError(
                f"{self.folder / RECIPE_FILE}{changed}, [{name}]: {message}"
            ) from None

    def with_changes(self, changes: Sequence[str]) -> Recipe:
        """The recipe with fields set anew; whether they exist is found out when a table is asked.

        Args:
            changes: like "training.learning_rate=1e-4": table, field (and fields of tables inside),
                a value as in TOML. What is no TOML is a text, as nobody quotes twice in a shell.

        Raises:
            RecipeError: not of this form, or a field inside something that is no table.
        """
        tables = copy.deepcopy(dict(self.tables))
        for change in changes:
            path, equals, value = change.partition("=")
            *parents, field = path.split(".")
            if not (equals and parents and field and all(parents)):
                raise RecipeError(
                    f"--set {change}: write TABLE.FIELD=VALUE, like training.learning_rate=1e-4"
                )
            table = tables
            for parent in parents:
                table = table.setdefault(parent, {})
                if not isinstance(table, dict):
                    raise RecipeError(f"--set {change}: {parent!r} is no table of {self.name}")
            table[field] = _toml_value(value)
        return Recipe(self.name, self.folder, tables, (*self.changes, *changes))

    @property
    def has_weights(self) -> bool:
        """Whether a weights file lies beside the recipe."""
        return any((self.folder / name).is_file() for name in WEIGHTS_FILES)

    @property
    def weights_path(self) -> Path:
        """The weights file beside the recipe.

        Raises:
            WeightsError: there is none.
        """
        beside = (self.folder / name for name in WEIGHTS_FILES)
        path = next((path for path in beside if path.is_file()), None)
        if path is None:
            raise WeightsError(
                f"model {self.name!r} comes without weights: name a file (.safetensors, .pth) with "
                f"--weights, or put {WEIGHTS_FILE} into {self.folder}"
            )
        return path

    def verified_weights(self) -> tuple[Path, str]:
        """The weights file and its SHA-256, compared with the recipe's if that names one.

        Raises:
            WeightsError: no weights file, or not the one that the recipe was written for.
        """
        path = self.weights_path
        digest = sha256_of(path)
        wanted = self.model.weights_sha256
        if wanted and digest != wanted:
            raise WeightsError(
                f"{path} has SHA-256 {digest[:12]}…, its recipe says {wanted[:12]}…: the file is "
                "damaged or of another version; fetch the model folder again"
            )
        return path, digest


def load_recipe(name_or_path: str | Path) -> Recipe:
    """The recipe of a model of the zoo by its name, or of any folder or recipe.toml by its path.

    Raises:
        RecipeError: no such model (the message lists those there are), or no valid TOML.
    """
    folder = _find_folder(name_or_path)
    file = folder / RECIPE_FILE
    try:
        tables = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RecipeError(f"{folder} has no {RECIPE_FILE}: not a model folder") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RecipeError(f"{file} is not valid TOML: {error}") from None
    except OSError as error:
        raise RecipeError(f"{file} cannot be read: {error.strerror}") from None
    recipe = Recipe(name=folder.name, folder=folder, tables=tables)
    recipe.model  # noqa: B018  # checks the one table that every recipe has
    return recipe


def list_recipes(stage: Stage | None = None) -> list[Recipe]:
    """All recipes of the zoo, of one stage or of both, sorted by name."""
    folders = sorted(file.parent for file in zoo_folder().glob(f"*/{RECIPE_FILE}"))
    recipes = [load_recipe(folder) for folder in folders]
    return [recipe for recipe in recipes if stage in (None, recipe.model.stage)]


def zoo_folder() -> Path:
    """The folder of the models that come with posepipe."""
    return Path(str(resources.files("posepipe.models")))


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _toml_value(text: str) -> Any:
    try:
        parsed = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    return parsed["value"] if set(parsed) == {"value"} else text


def _find_folder(name_or_path: str | Path) -> Path:
    path = Path(name_or_path)
    if path.name == RECIPE_FILE and path.is_file():
        return path.resolve().parent
    looks_like_path = isinstance(name_or_path, Path) or len(path.parts) > 1
    if looks_like_path:
        if path.is_dir():
            return path.resolve()
        raise RecipeError(f"no model folder {path}: name a folder that has a {RECIPE_FILE}")
    in_zoo = zoo_folder() / path.name
    if (in_zoo / RECIPE_FILE).is_file():
        return in_zoo
    if (path / RECIPE_FILE).is_file():
        return path.resolve()
    known = ", ".join(sorted(file.parent.name for file in zoo_folder().glob(f"*/{RECIPE_FILE}")))
    raise RecipeError(f"no model {str(name_or_path)!r}; there are: {known or 'none'}")
