"""A run becomes a model of the zoo: half-precision weights, recipe, card, golden numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w
import torch
from safetensors.torch import save

from posepipe.curation.golden import write_golden
from posepipe.errors import OptionError, TrainingError, WeightsError
from posepipe.io.checksums import sha256_of
from posepipe.io.jsonfiles import write_whole
from posepipe.io.locks import output_held
from posepipe.training.checkpoint import TrainingProgress
from posepipe.training.metrics import METRICS_FILE, SAMPLES, read_rows
from posepipe.training.run_folder import DataUsed, RunFolder, RunRecord
from posepipe.zoo.recipe import WEIGHTS_FILE, Recipe, load_recipe
from posepipe.zoo.skeleton import recipe_skeleton
from posepipe.zoo.sources import RECIPE_FILE
from posepipe.zoo.weights import StateDict, read_state

CARD_FILE = "README.md"
MOST_BYTES = 16_000_000
_COUNTER = "num_batches_tracked"


@dataclass(frozen=True, kw_only=True)
class PackOptions:
    """How a run is packed.

    Attributes:
        weights: another file in the run's folder than its best weights: its ``last.safetensors``.
        average: folders of other runs of the same network, from the same start: the mean of their
            weights and the run's is packed, files of the same name from all of them; a "model soup"
            (Wortsman et al., ICML 2022). What the runs measured is not about that mean, so the card
            leaves it out: state it with `measured`.
        summary: one line for `posepipe models`; None: the recipe's.
        licence: terms of weights and data in a few words; None: the run's recipe's, which has none
            unless it was written there.
        data_terms: a paragraph of the card about the data's terms.
        measured: numbers for the card that were measured elsewhere, a line each.
        notes: a paragraph of the card: limits, what failures have in common.
        overwrite: replace a model that is there already.
        allow_large: more than 16 MB.
    """

    weights: Path | None = None
    average: tuple[Path, ...] = ()
    summary: str | None = None
    licence: str | None = None
    data_terms: str = ""
    measured: tuple[str, ...] = ()
    notes: str = ""
    overwrite: bool = False
    allow_large: bool = False


@dataclass(frozen=True)
class Packed:
    """What was written.

    Attributes:
        folder: the model's.
        bytes: size of its weights file.
        sha256: of that file.
    """

    folder: Path
    bytes: int
    sha256: str


def pack_run(run: str | Path, model: str | Path, *, options: PackOptions | None = None) -> Packed:
    """Make a model folder of a run folder: weights, recipe, card and golden numbers.

    Args:
        run: the run's folder.
        model: the folder to make; its name is the model's.
        options: see `PackOptions`.

    Raises:
        TrainingError: no run, or no weights in it yet.
        OptionError: the model exists, no licence is known, or the weights are too large or not of
            the run.
        WeightsError: the weights are damaged, or do not fit into half precision.
        DocumentError: something cannot be written.
    """
    options = options or PackOptions()
    folder, target = RunFolder(Path(run)), Path(model)
    runs = [_Trained.read(path) for path in (folder.path, *options.average)]
    names = (WEIGHTS_FILE, RECIPE_FILE, CARD_FILE)
    there = [name for name in names if (target / name).exists()]
    if there and not options.overwrite:
        raise OptionError(
            f"{target} already has a {there[0]}: name another folder, or replace it with "
            "--overwrite"
        )
    if target.exists() and target.samefile(run):
        raise OptionError(f"{target} is the run's own folder: name another one")
    weights = options.weights or folder.path / WEIGHTS_FILE
    if weights.resolve().parent != folder.path.resolve():
        raise OptionError(
            f"{weights} is not of the run {folder.path}, whose card it would get: pack its own run"
        )
    files = [one.folder.path / weights.name for one in runs]
    for file in files:
        if not file.is_file():
            raise TrainingError(f"{file} does not exist: train until a checkpoint is written")
    packed = save(_halved(_mean_state(files), weights))
    if len(packed) > MOST_BYTES and not options.allow_large:
        raise OptionError(
            f"the weights take {len(packed) / 1e6:.1f} MB, more than the "
            f"{MOST_BYTES / 1e6:.0f} MB of a shipped model: train a smaller network, or use "
            "--allow-large"
        )
    packed_recipe = _recipe_of(runs[0].recipe, options)
    if not packed_recipe["model"].get("licence"):
        raise OptionError(
            "a model states the terms of its weights and data: give --licence, in a few words"
        )
    rows = read_rows(folder.path / METRICS_FILE)
    card = model_card(target.name, packed_recipe, runs, rows, options, len(packed))
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OptionError(f"{target} cannot be made: {error.strerror}") from None
    with output_held(target):
        write_whole(target / WEIGHTS_FILE, [packed])
        digest = sha256_of(target / WEIGHTS_FILE)
        packed_recipe["model"] = {"weights_sha256": digest, **packed_recipe["model"]}
        write_whole(target / RECIPE_FILE, [tomli_w.dumps(packed_recipe).encode()])
        write_whole(target / CARD_FILE, [card.encode()])
        write_golden(load_recipe(target.resolve()))
    return Packed(target, len(packed), digest)


@dataclass(frozen=True)
class _Trained:
    """A run that becomes a model, or a part of one.

    Attributes:
        folder: where it lies.
        record: what it was made from.
        recipe: what it was meant to be.
    """

    folder: RunFolder
    record: RunRecord
    recipe: Recipe

    @classmethod
    def read(cls, path: Path) -> _Trained:
        folder = RunFolder(path)
        return cls(folder, folder.read_record(), load_recipe(path))

    def progress(self) -> TrainingProgress:
        """How far it came: read from the checkpoint, which is large."""
        checkpoint = self.folder.checkpoint()
        return TrainingProgress() if checkpoint is None else checkpoint.progress


def model_card(
    name: str,
    tables: Mapping[str, Any],
    trained: Sequence[_Trained],
    rows: Sequence[Mapping[str, str]],
    options: PackOptions,
    size: int,
) -> str:
    """The card's text.

    Args:
        name: the model's.
        tables: its recipe.
        trained: the run, and those whose weights it is averaged with.
        rows: of the run's ``metrics.csv``.
        options: what else is known.
        size: of the weights file in bytes.
    """
    model = tables["model"]
    stage = {"pose": "poses", "detection": "detection"}[model["stage"]]
    network = "; ".join(f"{key} {_text(value)}" for key, value in tables["network"].items())
    parts = [
        f"# {name}",
        f"{_text(model['summary'])}.",
        "\n".join(
            [
                "| | |",
                "|---|---|",
                f"| for | {stage} |",
                f"| network | {network} |",
                *_skeleton_rows(trained[0].recipe),
                f"| size | {size / 1e6:.1f} MB, stored in half precision |",
                f"| licence | {_text(model['licence'])} |",
            ]
        ),
        "## Accuracy",
        _measured_text(rows, options, model["stage"]),
        "## Training",
        _training_text(trained),
        "## Data",
        _data_table(list(dict.fromkeys(one for run in trained for one in run.record.data))),
    ]
    if options.data_terms:
        parts.append(options.data_terms)
    if options.notes:
        parts += ["## Limits", options.notes]
    return "\n\n".join(parts) + "\n"


def _skeleton_rows(recipe: Recipe) -> list[str]:
    """A row of the card about keypoints that are not those of COCO's person."""
    skeleton = recipe_skeleton(recipe)
    if "skeleton" not in recipe.tables:
        return []
    names = ", ".join(skeleton.keypoints)
    return [f"| {skeleton.category} | {len(skeleton)} keypoints: {names} |"]


def _mean_state(files: Sequence[Path]) -> StateDict:
    """The mean of the weights of one network in several files."""
    states = [read_state(file) for file in files]
    shapes = [{key: value.shape for key, value in state.items()} for state in states]
    for file, of_file in zip(files, shapes, strict=True):
        if of_file != shapes[0]:
            differing = dict(of_file.items() ^ shapes[0].items())
            raise WeightsError(
                f"{file} is of another network than {files[0]}: see {min(differing)!r}"
            )
    return {
        key: torch.stack([state[key].float() for state in states]).mean(dim=0)
        if value.is_floating_point()
        else value
        for key, value in states[0].items()
    }


def _halved(state: StateDict, source: Path) -> StateDict:
    """Weights in half precision, counters left out."""
    halved = {}
    for key, value in state.items():
        if key.endswith(_COUNTER):
            continue
        half = value.half() if value.dtype == torch.float32 else value
        if half.is_floating_point() and not half.isfinite().all():
            raise WeightsError(f"{source}: {key!r} does not fit into half precision")
        halved[key] = half.contiguous()
    return halved


def _recipe_of(recipe: Recipe, options: PackOptions) -> dict[str, Any]:
    """The run's recipe for others: no paths of the machine it was trained on."""
    tables = {name: dict(table) for name, table in recipe.tables.items()}
    tables["training"] |= {"data": [], "validate": [], "imagenet_weights": ""}
    if options.summary is not None:
        tables["model"]["summary"] = options.summary
    if options.licence is not None:
        tables["model"]["licence"] = options.licence
    return tables


def _measured_text(rows: Sequence[Mapping[str, str]], options: PackOptions, stage: str) -> str:
    lines = []
    metrics = [name for name in (rows[0] if rows else {}) if "/" in name]
    if metrics and not options.average:
        best = max(rows, key=lambda row: float(row[metrics[0]]))
        chosen = rows[-1] if _is_last(options) else best
        which = "the last" if _is_last(options) else "the best by the first metric"
        lines.append(
            f"Evaluated during training, after {int(chosen[SAMPLES]):,} samples ({which} of "
            f"{len(rows)} evaluations on these same data sets); "
            + (
                "with labelled boxes, the recipe's decoding, weights before rounding to half "
                "precision:"
                if stage == "pose"
                else "person boxes, weights before rounding to half precision:"
            )
        )
        table = ["| data set | metric | |", "|---|---|---|"]
        for name in metrics:
            of, _, metric = name.partition("/")
            table.append(f"| {of} | {metric} | {100 * float(chosen[name]):.1f} |")
        lines.append("\n".join(table))
    lines += [f"- {line}" for line in options.measured]
    return "\n\n".join(lines) if lines else "Not measured: no AP is known."


def _is_last(options: PackOptions) -> bool:
    return options.weights is not None and options.weights.name != WEIGHTS_FILE


def _training_text(trained: Sequence[_Trained]) -> str:
    texts = []
    if len(trained) > 1:
        texts.append(f"The weights are averaged over {len(trained)} runs.")
    for run in trained:
        record, last, progress = run.record, run.record.sittings[-1], run.progress()
        length = run.recipe.tables["training"]["samples"]
        started = "; ".join(
            f"{name} (SHA-256 {digest[:12]}…)" for name, digest in record.start.items()
        )
        device = {"cpu": "CPU", "cuda": "GPU"}.get(last.device, last.device)
        texts.append(
            f"`posepipe train`, from the recipe {record.recipe}: {progress.samples:,} of "
            f"{length:,} samples in {progress.seconds / 60:.0f} minutes, "
            f"{last.processes} process{'es' if last.processes > 1 else ''} on {device}, "
            f"seed {record.seed}. It started from {started or 'random weights'}."
        )
    which = "" if len(trained) == 1 else " of the first run"
    texts.append(f"The recipe's table `[training]` has all settings{which}.")
    versions = trained[0].record.sittings[-1].versions
    texts.append(f"Versions: {', '.join(f'{name} {number}' for name, number in versions.items())}.")
    return "\n\n".join(texts)


def _data_table(data: Sequence[DataUsed]) -> str:
    lines = [
        "| data set | used to | weight | images | people | with keypoints | SHA-256 |",
        "|---|---|---|---|---|---|---|",
    ]
    for one in data:
        drawn = f"{one.weight:g}" if one.use == "train" else ""
        lines.append(
            f"| {Path(one.annotations).stem} | {one.use} | {drawn} | {one.image_count:,} | "
            f"{one.people:,} | {one.with_keypoints:,} | {one.sha256[:12]}… |"
        )
    return "\n".join(lines)


def _text(value: object) -> str:
    """A recipe's value as Markdown's text: one line in which nothing is markup or a control."""
    text = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    shown = "".join(c if c.isprintable() else "?" for c in " ".join(text.split()))
    return shown.replace("|", "\\|").replace("<", "&lt;")
