"""The folder of a run: its recipe, its weights, its checkpoint, and what it was made from."""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import tomli_w
import torch
from safetensors.torch import save
from torch import nn

from posepipe.errors import DocumentError, TrainingError
from posepipe.io.checksums import sha256_of
from posepipe.io.jsonfiles import decode, read_bytes, remove_leftovers, write_whole
from posepipe.io.locks import Lock
from posepipe.io.records import installed_version
from posepipe.training.checkpoint import (
    Checkpoint,
    checkpoints_of,
    load_checkpoint,
    save_checkpoint,
)
from posepipe.training.tables import TrainingTable
from posepipe.zoo.recipe import WEIGHTS_FILE, WEIGHTS_FILES, Recipe, load_recipe
from posepipe.zoo.sources import RECIPE_FILE

LAST_WEIGHTS_FILE = "last.safetensors"
RUN_FILE = "run.json"
LOCK_FILE = ".lock"
IMAGES_FOLDER = "images"

# Written after a checkpoint, never before one.
_WEIGHTS = (LAST_WEIGHTS_FILE, *WEIGHTS_FILES)
# What may change from one sitting to the next: it does not affect the weights.
_FREE = ("model.summary", "training.workers", "training.checkpoint_minutes", "training.cache")
# What a recipe may say about the weights it came with, or where it came from.
_NOT_OF_A_RUN = ("training", "extends", "paper", "reported", "weights")
_PACKAGES = ("posepipe", "torch", "torchvision", "numpy", "opencv-python-headless", "accelerate")


class Sitting(msgspec.Struct, frozen=True):
    """One start of a run: how it was called, when, with what.

    Attributes:
        command: as typed.
        begun: time in UTC.
        samples: of the run so far.
        processes: how many.
        device: their kind.
        versions: of Python and the packages that matter.
    """

    command: list[str]
    begun: str
    samples: int
    processes: int
    device: str
    versions: dict[str, str]


class DataUsed(msgspec.Struct, frozen=True):
    """A data set of a run.

    Attributes:
        use: "train" or "validate".
        annotations: the file.
        sha256: of the file.
        images: the folder.
        weight: how often it is drawn, relative to the others.
        image_count: how many the file lists.
        image_bytes: size of all their files.
        people: labelled ones, crowds left out.
        with_keypoints: those of them with a labelled keypoint.
    """

    use: str
    annotations: str
    sha256: str
    images: str
    weight: float
    image_count: int
    image_bytes: int
    people: int
    with_keypoints: int


class RunRecord(msgspec.Struct, frozen=True):
    """The content of ``run.json``.

    Attributes:
        recipe: name of the recipe that the run began with.
        seed: of everything drawn at random.
        data: what it was trained and measured on.
        start: SHA-256 of the weights it began with, by their file's name.
        sittings: one for each start.
    """

    recipe: str
    seed: int
    data: list[DataUsed]
    start: dict[str, str]
    sittings: list[Sitting]


@dataclass(frozen=True)
class RunFolder:
    """Where a run keeps everything; `posepipe pose --model` takes it as a model.

    Attributes:
        path: the folder.
    """

    path: Path

    @property
    def images(self) -> Path:
        """Where drawn results go."""
        return self.path / IMAGES_FOLDER

    @property
    def has_checkpoint(self) -> bool:
        """Whether there is a checkpoint to go on from."""
        return bool(checkpoints_of(self.path))

    def holds_a_run(self) -> bool:
        """Whether there is a run, or a model, in this folder.

        A run that ended before its first checkpoint, by its ``run.json``, does not count: it has
        nothing to keep.
        """
        if self.has_checkpoint or any((self.path / name).exists() for name in _WEIGHTS):
            return True
        return (self.path / RECIPE_FILE).exists() and not self.has_record()

    def refusal(self) -> TrainingError:
        """The error of a run that would begin where there is one already."""
        return TrainingError(
            f"{self.path} holds a run or a model: go on from it with --resume, or name another "
            "folder with -o"
        )

    @contextmanager
    def held(self) -> Iterator[None]:
        """Make the folder and hold it for this process; leftovers of killed ones are removed.

        Raises:
            TrainingError: another process holds it, or it cannot be made or written to.
        """
        busy = TrainingError(
            f"another training is writing {self.path}: wait for it, or name another folder with -o"
        )
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = Lock(self.path / LOCK_FILE, busy)
        except OSError as error:
            raise TrainingError(f"{self.path} cannot be written: {error.strerror}") from None
        try:
            remove_leftovers(self.path)
            yield
        finally:
            lock.release()

    def begin(self, recipe: Recipe, record: RunRecord) -> None:
        """Write what a run starts with.

        ``run.json`` comes first: a folder with only that is a start that was
        interrupted; one with only a recipe may be somebody's model.

        Raises:
            DocumentError: disk full or no permission.
        """
        self.write_record(record)
        write_whole(self.path / RECIPE_FILE, [tomli_w.dumps(recipe.tables).encode()])

    def check_same(self, recipe: Recipe) -> None:
        """Check that the run here was begun with the same recipe.

        Raises:
            TrainingError: it has another one (names the first difference).
            RecipeError: it cannot be read.
        """
        difference = first_difference(load_recipe(self.path).tables, recipe.tables)
        if difference is not None:
            field, was, now = difference
            raise TrainingError(
                f"{self.path} cannot be resumed: {field} was {was}, is {now}: repeat the first "
                "command with --resume added, or begin another run folder"
            )

    def checkpoint(self, warn: Callable[[str], None] = lambda _: None) -> Checkpoint | None:
        """The run's latest undamaged checkpoint; None where it has not reached its first.

        Args:
            warn: called with one line for each damaged one.

        Raises:
            TrainingError: there are only damaged ones, or none are left.
        """
        errors: list[TrainingError] = []
        for path in checkpoints_of(self.path):
            try:
                checkpoint = load_checkpoint(path)
            except TrainingError as error:
                errors.append(error)
                continue
            for damaged in errors:
                warn(f"{damaged}: going on from {path.name}")
            return checkpoint
        there_were = [name for name in _WEIGHTS if (self.path / name).exists()]
        if errors or there_were:
            what = str(errors[0]) if errors else f"{self.path} no longer has a checkpoint"
            start = f" --start {self.path / there_were[0]}" if there_were else ""
            raise TrainingError(
                f"{what}: restore it, or begin another run folder with -o and{start or ' anew'}"
            )
        return None

    def save(self, checkpoint: Checkpoint, network: nn.Module) -> None:
        """Write the checkpoint, and the weights of this moment.

        Until a measurement has found the best weights, the latest ones stand in for them.

        Raises:
            DocumentError: disk full or no permission; what was there stays.
        """
        save_checkpoint(self.path, checkpoint)
        _write_weights(self.path / LAST_WEIGHTS_FILE, network)
        if checkpoint.progress.best is None:
            self.keep_best(network)

    def keep_best(self, network: nn.Module) -> None:
        """Make these weights those of the model.

        Raises:
            DocumentError: disk full or no permission; what was there stays.
        """
        _write_weights(self.path / WEIGHTS_FILE, network)

    def has_record(self) -> bool:
        """Whether ``run.json`` is there."""
        return (self.path / RUN_FILE).exists()

    def read_record(self) -> RunRecord:
        """What ``run.json`` says.

        Raises:
            TrainingError: there is none, or it is damaged.
        """
        path = self.path / RUN_FILE
        if not self.has_record():
            raise TrainingError(f"{self.path} is not a run folder: it has no {RUN_FILE}")
        try:
            return decode(read_bytes(path), RunRecord, path=path, what="a run's record")
        except DocumentError as error:
            raise TrainingError(f"{error}: restore it, or begin another run folder") from None

    def write_record(self, record: RunRecord) -> None:
        """Write ``run.json``.

        Raises:
            DocumentError: disk full or no permission.
        """
        text = msgspec.json.format(msgspec.json.encode(record), indent=2)
        write_whole(self.path / RUN_FILE, [text, b"\n"])


def resolved(recipe: Recipe, table: TrainingTable) -> Recipe:
    """The recipe with every field of ``[training]`` in it, and no digest of weights to come."""
    tables = {name: value for name, value in recipe.tables.items() if name not in _NOT_OF_A_RUN}
    tables["model"] = {k: v for k, v in tables["model"].items() if k != "weights_sha256"}
    # A user's model is not what the zoo's says about itself; its folder may be used from anywhere.
    tables["model"] |= {"summary": f"trained from the recipe {recipe.name}", "licence": ""}
    tables["training"] = training = msgspec.to_builtins(table)
    for one in [*training["data"], *training["validate"]]:
        one |= {key: str(Path(one[key]).resolve()) for key in ("annotations", "images")}
    if table.imagenet_weights:
        training["imagenet_weights"] = str(Path(table.imagenet_weights).resolve())
    return replace(recipe, tables=tables)


def first_difference(
    before: Mapping[str, Any], now: Mapping[str, Any]
) -> tuple[str, object, object] | None:
    """The first field in which two recipes must not differ but do, with both values; or None."""
    flat_before, flat_now = dict(_flat(before)), dict(_flat(now))
    for field in [*flat_before, *flat_now]:
        was, is_now = (flat.get(field, "absent") for flat in (flat_before, flat_now))
        if was != is_now and field not in _FREE:
            return field, was, is_now
    return None


def sitting(samples: int, *, processes: int, device: str) -> Sitting:
    """This start of a run."""
    return Sitting(
        command=[Path(sys.argv[0]).name, *sys.argv[1:]],
        begun=datetime.now(UTC).isoformat(timespec="seconds"),
        samples=samples,
        processes=processes,
        device=device,
        versions={"python": platform.python_version(), **_versions(_PACKAGES)},
    )


def sha256_by_name(paths: Iterable[str]) -> dict[str, str]:
    """The SHA-256 of files, by their names."""
    return {Path(path).name: sha256_of(Path(path)) for path in paths if path}


def check_same_data(before: Sequence[DataUsed], now: Sequence[DataUsed], run: Path) -> list[str]:
    """Whether a run goes on with the labels that it began with; a line where images differ.

    Images may have been mended or removed since, as a bad one requires.

    Raises:
        TrainingError: an annotation file has changed.
    """
    changes = []
    for was, is_now in zip(before, now, strict=False):
        if was.sha256 != is_now.sha256:
            raise TrainingError(
                f"{run} cannot be resumed: {is_now.annotations} has changed since the run began: "
                "restore it, or begin another run folder"
            )
        if was.image_bytes != is_now.image_bytes:
            changes.append(f"images in {is_now.images} have changed since the run began")
    return changes


def _flat(tables: Any, prefix: str = "") -> Iterable[tuple[str, object]]:
    if isinstance(tables, Mapping):
        for name, value in tables.items():
            yield from _flat(value, f"{prefix}.{name}" if prefix else str(name))
    elif isinstance(tables, list | tuple) and tables and isinstance(tables[0], Mapping):
        for place, value in enumerate(tables):
            yield from _flat(value, f"{prefix}[{place}]")
    else:
        yield prefix, list(tables) if isinstance(tables, tuple) else tables


def _write_weights(path: Path, network: nn.Module) -> None:
    weights = {key: value.cpu().contiguous() for key, value in network.state_dict().items()}
    write_whole(path, [save(weights)])


def _versions(packages: Iterable[str]) -> dict[str, str]:
    found = {package: version for package in packages if (version := installed_version(package))}
    found["torch"] = str(torch.__version__)  # says CPU or CUDA, too
    return found
