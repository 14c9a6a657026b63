"""A model's recipe: one TOML file that says everything about a model.

A model is a folder ``models/<name>/`` with a ``recipe.toml``, a model card ``README.md`` and,
where small enough to ship, ``weights.safetensors``. This file finds, reads and checks recipes; it
does not know what the tables mean. Each stage describes its own tables as a `Table` and asks for
them: ``recipe.table("network", CPNSettings)``.
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import unquote, urlsplit

import msgspec

from posepipe.errors import RecipeError, WeightsError

Stage = Literal["detection", "pose"]
Hex = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]*$", max_length=64)]
Share = Annotated[float, msgspec.Meta(gt=0, lt=100)]
WEIGHTS_FILE = "weights.safetensors"
# Other programs' files, in the order in which they are looked for; `posepipe.weights` reads them.
WEIGHTS_FILES = (WEIGHTS_FILE, "weights.pth", "weights.pkl")
SUFFIXES = (".safetensors", ".pth", ".pt", ".pkl")
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


class WeightsTable(Table, frozen=True):
    """The table ``[weights]``: where weights that do not come with posepipe can be fetched.

    Attributes:
        urls: places that have the same file, the best first; none where it cannot be fetched.
        sha256_prefix: the beginning of its SHA-256, where no more is published. torchvision's file
            names end with eight digits of it.
        md5_prefix: the beginning of its MD5, where nothing better is published. detectron2's file
            names end with six digits of it.
        megabytes: how long the file is, in 10^6 bytes, for people; 0 where it is not known.

    Raises:
        ValueError: a URL that names no weights file.
    """

    urls: tuple[str, ...] = ()
    sha256_prefix: Hex = ""
    md5_prefix: Hex = ""
    megabytes: Annotated[float, msgspec.Meta(ge=0)] = 0

    def __post_init__(self) -> None:
        for url in self.urls:
            if PurePosixPath(_file_of(url)).suffix not in SUFFIXES:
                raise ValueError(f"{url} names no weights file: {', '.join(SUFFIXES)}")

    @property
    def file_name(self) -> str:
        """The file's own name, as in the first URL; "" where there is none."""
        return _file_of(self.urls[0]) if self.urls else ""


class ReportedTable(Table, frozen=True):
    """The table ``[reported]``: accuracy that a model's makers state, in per cent; not measured.

    Attributes:
        box_ap: COCO's AP of boxes over all classes.
        person_ap: the same of the class person alone.
        source: who states it, and of which pictures.
    """

    box_ap: Share | None = None
    person_ap: Share | None = None
    source: str = ""


@dataclass(frozen=True)
class Recipe:
    """A recipe as read from its file; `table` gives its parts, checked.

    Attributes:
        name: the folder's name.
        folder: where `recipe.toml` lies.
        tables: the parsed TOML.
    """

    name: str
    folder: Path
    tables: Mapping[str, Any]

    @property
    def model(self) -> ModelTable:
        """What every recipe says about its model."""
        return self.table("model", ModelTable)

    @property
    def weights(self) -> WeightsTable:
        """Where its weights can be fetched."""
        return self.table("weights", WeightsTable)

    @property
    def reported(self) -> ReportedTable:
        """The accuracy that its makers state."""
        return self.table("reported", ReportedTable)

    def table(self, name: str, kind: type[T]) -> T:
        """One table of the recipe as a `kind`; an absent table is an empty one.

        Raises:
            RecipeError: a field is unknown, missing or of the wrong type; names file and field.
        """
        try:
            return msgspec.convert(self.tables.get(name, {}), kind)
        except msgspec.ValidationError as error:
            message = str(error).replace("`$.", "`")
            raise RecipeError(f"{self.folder / RECIPE_FILE}, [{name}]: {message}") from None

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


def _file_of(url: str) -> str:
    return PurePosixPath(unquote(urlsplit(url).path)).name
