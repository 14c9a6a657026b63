"""Weights fetched on the way: a progress bar on stderr, and what is kept when it is interrupted."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from posepipe.cli.interruption import INTERRUPTED
from posepipe.cli.terminal import echo, logs_json, visible

if TYPE_CHECKING:
    from tqdm import tqdm

    from posepipe.zoo.cache import CachedWeights
    from posepipe.zoo.recipe import Recipe, StageName


class TransferBar:
    """A `posepipe.zoo.downloads.Watcher`: a bar in bytes, none where stderr is not a terminal.

    Args:
        weights: what is fetched; named, with its terms, once it begins to arrive.
    """

    def __init__(self, weights: CachedWeights) -> None:
        self._weights = weights
        self._announced = False
        self._bar: tqdm[None] | None = None

    def transferred(self, done: int, total: int | None) -> None:
        """Move the bar; a part that was there before does not count for the speed."""
        if not self._announced:
            self._announced = True
            terms = self._weights.recipe.model.licence or "licence unknown"
            size = f", {total / 1e6:.0f} MB" if total else ""
            recipe = self._weights.recipe
            named = f"{recipe.name}/{recipe.weights.file_name}"
            echo(f"posepipe: fetching {named}{size} ({terms})", err=True)
        if self._bar is None:
            from tqdm import tqdm

            self._bar = tqdm(
                desc=visible(self._weights.recipe.name),
                total=total,
                initial=done,
                unit="B",
                unit_scale=True,
                disable=logs_json() or None,
                file=sys.stderr,
            )
        self._bar.update(done - self._bar.n)

    def notice(self, line: str) -> None:
        """A line of its own; a transfer that continues after it gets a new bar."""
        self.close()
        echo(f"posepipe: {line}", err=True)

    def close(self) -> None:
        """Leave the bar as it is and go to the next line."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


@contextmanager
def transfer_bar(weights: CachedWeights) -> Iterator[TransferBar]:
    """A bar for a fetch; an interruption says what is kept.

    Raises:
        SystemExit: 130 after an interruption.
    """
    bar = TransferBar(weights)
    try:
        yield bar
    except KeyboardInterrupt:
        bar.close()
        kept = f"; what has arrived is kept in {weights.part}: the same command goes on from it"
        echo(f"posepipe: interrupted{kept if weights.part.is_file() else ''}", err=True)
        sys.exit(INTERRUPTED)
    finally:
        bar.close()


def fetch_missing(
    models: Sequence[str | Path], weights: Path | str | None, *, stage: StageName, offline: bool
) -> None:
    """The weights of all models that a command is about to load, fetched where they are missing.

    What cannot be loaded anyway is not fetched: a model of the other stage, or of a library that
    is not installed. Whoever loads it says why.

    Args:
        models: names or folders.
        weights: a weights file in place of the model's own; then there is nothing to fetch.
        stage: what the models are for.
        offline: whether nothing may be fetched.

    Raises:
        PosepipeError: no such model, or its weights cannot be fetched.
    """
    from posepipe.zoo.cache import CachedWeights, is_offline, state_of, weights_by_name
    from posepipe.zoo.recipe import load_recipe

    if weights is not None:
        return
    for name in models:
        if str(name) == "detectron2":  # described by options alone
            continue
        recipe = load_recipe(name)
        if recipe.model.stage != stage or state_of(recipe) != "can be fetched":
            continue
        if not _backend_is_installed(recipe):
            continue
        if offline or is_offline():
            weights_by_name(recipe, offline=True)  # raises, and says what to do
        cached = CachedWeights(recipe)
        with transfer_bar(cached) as bar:
            cached.fetched(watcher=bar)


def _backend_is_installed(recipe: Recipe) -> bool:
    from posepipe.detection.backends import BACKENDS, DEFAULT_BACKEND

    network = recipe.tables.get("network")
    if isinstance(network, dict) and network.get("backend") == "onnx":
        return any(find_spec(library) is not None for library in ("onnxruntime", "openvino"))
    table = recipe.tables.get("detector")  # as it stands: its checked form would load numpy
    name = table.get("backend", DEFAULT_BACKEND) if isinstance(table, dict) else DEFAULT_BACKEND
    return name not in BACKENDS or BACKENDS[name].is_installed
