"""A model's recipe: one TOML file that says everything about a model.

A model is a folder ``models/<name>/`` with a ``recipe.toml``, a model card ``README.md`` and,
where small enough to ship, ``weights.safetensors``. A recipe that begins with
``extends = "other-model"`` says only what differs from that one, and needs no card. Recipes of
networks for which there are no weights are rows of a table in ``experiments/``. This file checks
recipes; `posepipe.zoo.sources` finds and reads them, also those inside exported networks. Neither
knows what the tables mean: each stage describes its own as a `Table` and asks for them:
``recipe.table("network", CPNTable)``.
"""

from __future__ import annotations

import copy
import tomllib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import unquote, urlsplit

import msgspec
import tomli_w

from posepipe.errors import RecipeError, WeightsError
from posepipe.io.checksums import sha256_of
from posepipe.io.reasons import reason
from posepipe.zoo.sources import (
    EXTENDS,
    RECIPE_FILE,
    Source,
    check_depth,
    experiment_sources,
    find_source,
    model_sources,
)

StageName = Literal["detection", "pose"]
Hex = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]*$", max_length=64)]
PerCent = Annotated[float, msgspec.Meta(gt=0, lt=100)]
WEIGHTS_FILE = "weights.safetensors"
# Other programs' files, in the order in which they are looked for; read by `posepipe.zoo.weights`.
WEIGHTS_FILES = (WEIGHTS_FILE, "weights.pth", "weights.pkl", "weights.onnx", "weights.zip")
SUFFIXES = (".safetensors", ".pth", ".pt", ".pkl", ".onnx", ".zip")


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

    stage: StageName
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
        megabytes: how long the file is, in 10^6 bytes, for people; 0 where it is unknown.

    Raises:
        ValueError: a URL that names no weights file.
    """

    urls: Annotated[tuple[str, ...], msgspec.Meta(max_length=20)] = ()
    sha256_prefix: Hex = ""
    md5_prefix: Hex = ""
    megabytes: Annotated[float, msgspec.Meta(ge=0, le=100_000)] = 0

    def __post_init__(self) -> None:
        for url in self.urls:
            if not (url.isascii() and url.isprintable() and " " not in url):
                raise ValueError(f"{url!r} is not a URL: write what is not ASCII as %XX")
            if PurePosixPath(_file_of(url)).suffix not in SUFFIXES:
                raise ValueError(f"{url} names no weights file: {', '.join(SUFFIXES)}")

    @property
    def file_name(self) -> str:
        """The file's own name, as in the first URL; "" where there is none."""
        return _file_of(self.urls[0]) if self.urls else ""


class ReportedTable(Table, frozen=True):
    """The table ``[reported]``: accuracy, in per cent, as the model's makers measured it.

    Attributes:
        box_ap: COCO's AP of boxes over all classes.
        person_ap: the same for the class person alone.
        keypoint_ap: COCO's OKS AP.
        source: who states it, and for which images.
    """

    box_ap: PerCent | None = None
    person_ap: PerCent | None = None
    keypoint_ap: PerCent | None = None
    source: str = ""


@dataclass(frozen=True)
class Recipe:
    """A recipe as read from its file; `table` gives its parts, checked.

    Attributes:
        name: the folder's name.
        folder: where `recipe.toml` and the weights lie; for an experiment, one that does not exist.
        tables: the parsed TOML, with what it inherits.
        changes: which of its fields were overridden, see `with_changes`.
        experiments: the file that has it as a row, if it is one.
        exported: the exported network that has it inside, if there is one.
    """

    name: str
    folder: Path
    tables: Mapping[str, Any]
    changes: tuple[str, ...] = ()
    experiments: Path | None = None
    exported: Path | None = None

    @property
    def place(self) -> str:
        """What error messages call the recipe: its file."""
        return self._source.place

    @property
    def _source(self) -> Source:
        return Source(self.folder, self.experiments, self.exported)

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
            message = reason(error, kind)
            own = [change for change in self.changes if change.startswith(f"{name}.")]
            guilty = [change for change in own if _field(change) in message] or own
            changed = "".join(f" with --set {change}" for change in guilty)
            raise RecipeError(f"{self.place}{changed}, [{name}]: {message}") from None

    def with_changes(self, changes: Sequence[str], *, known: Collection[str] = ()) -> Recipe:
        """The recipe with fields overridden; one that does not exist fails when it is read.

        Args:
            changes: like "training.learning_rate=1e-4": table, field (and fields of tables inside),
                a value as in TOML. A value that is not valid TOML is taken as a string, because
                nobody quotes twice in a shell.
            known: the tables that changes may be about; any if there are none.

        Raises:
            RecipeError: not of this form, another table, or a field inside something that is not a
                table.
        """
        tables = copy.deepcopy(dict(self.tables))
        for change in changes:
            path, equals, value = change.partition("=")
            *parents, field = path.split(".")
            if not (equals and parents and field and all(parents)):
                raise RecipeError(
                    f"--set {change}: write TABLE.FIELD=VALUE, like training.learning_rate=1e-4"
                )
            if known and parents[0] not in known:
                raise RecipeError(
                    f"--set {change}: there is no table {parents[0]!r} to set here: use one of "
                    f"{', '.join(sorted(known))}"
                )
            table = tables
            for parent in parents:
                table = table.setdefault(parent, {})
                if not isinstance(table, dict):
                    raise RecipeError(f"--set {change}: {parent!r} is not a table of {self.name}")
            table[field] = _toml_value(value)
            check_depth(tables, f"--set {change[:60]}")
        return replace(self, tables=tables, changes=(*self.changes, *changes))

    @property
    def text(self) -> str:
        """The recipe as TOML: the file's own text, or with what it inherits, or as a row."""
        parent = self._source.read().get(EXTENDS)
        if parent is None and self.experiments is None and self.exported is None:
            return (self.folder / RECIPE_FILE).read_text(encoding="utf-8")
        extends = "" if parent is None else f", which extends {parent}, with all that it inherits"
        return f"# {self.name}{extends}\n\n" + tomli_w.dumps(self.tables)

    @property
    def has_weights(self) -> bool:
        """Whether a weights file lies beside the recipe, or the recipe is inside of one."""
        return self.exported is not None or any(
            (self.folder / name).is_file() for name in WEIGHTS_FILES
        )

    @property
    def weights_path(self) -> Path:
        """The weights file beside the recipe, or the one that it is inside of.

        Raises:
            WeightsError: there is none.
        """
        if self.exported is not None:
            return self.exported
        beside = (self.folder / name for name in WEIGHTS_FILES)
        path = next((path for path in beside if path.is_file()), None)
        if path is None:
            own = f"put {WEIGHTS_FILE} into {self.folder}"
            raise WeightsError(
                f"model {self.name!r} comes without weights: name a file (.safetensors, .pth) with "
                f"--weights, or {'train it' if self.experiments else own}"
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
    """The recipe of a model of the zoo by its name, or of any folder or file by its path.

    The file is a recipe.toml or an exported network.

    What it ``extends`` is looked for beside its own folder, then in the zoo. Tables are merged
    field by field, tables inside tables likewise; a list replaces a list. Not inherited is what
    concerns one model alone: ``[model]`` but for the stage, ``[weights]``, ``[reported]`` and
    ``[paper]``.

    Raises:
        RecipeError: no such model (the message lists the others), not valid TOML, or it extends
            a model that does not exist or, in the end, itself.
    """
    return _recipe(find_source(name_or_path))


def list_recipes(stage: StageName | None = None) -> list[Recipe]:
    """All models of the zoo, of one stage or of both, sorted by name."""
    recipes = [_recipe(source) for source in model_sources()]
    return [recipe for recipe in recipes if stage in (None, recipe.model.stage)]


def list_experiments() -> list[Recipe]:
    """All rows of the tables of experiments, in their files' order."""
    return [_recipe(source) for source in experiment_sources()]


def _recipe(source: Source) -> Recipe:
    recipe = Recipe(
        source.name,
        source.folder,
        source.resolved(),
        experiments=source.experiments,
        exported=source.exported,
    )
    recipe.model  # noqa: B018  # checks the one table that every recipe has
    return recipe


def _field(change: str) -> str:
    """The field that "table.field=value" is about."""
    return change.partition("=")[0].rpartition(".")[2]


def _toml_value(text: str) -> Any:
    try:
        parsed = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        return text
    return parsed["value"] if set(parsed) == {"value"} else text


def _file_of(url: str) -> str:
    return PurePosixPath(unquote(urlsplit(url).path)).name
