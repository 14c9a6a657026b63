"""What a detector's recipe says of its boxes, and a detector made from it, ready to run."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from msgspec import Meta

from posepipe.core.suppression import Method, Suppression
from posepipe.detection.backends import DETECTRON2, registered_backend
from posepipe.detection.candidates import Detector, DetectorTable
from posepipe.errors import OptionError, RecipeError
from posepipe.networks.runtimes.names import TORCH
from posepipe.networks.runtimes.registry import place_file, place_network
from posepipe.zoo.bounds import Boxes, Factor, Share
from posepipe.zoo.recipe import Recipe, Table, load_recipe
from posepipe.zoo.weights import exported_file

# The parts of a detector's recipe that affect its boxes.
_TABLES = (
    "skeleton",
    "detector",
    "network",
    "preprocessing",
    "candidates",
    "suppression",
    "people",
    "views",
)
Scale = Annotated[float, Meta(ge=0.1, le=10)]


class SuppressionTable(Table, frozen=True):
    """The table ``[suppression]`` of a detector's recipe: the fields of `Suppression`."""

    method: Method = Suppression.method
    threshold: Share = Suppression.threshold
    sigma: Factor = Suppression.sigma
    min_score: Share = Suppression.min_score
    top_k: Boxes = Suppression.top_k

    @property
    def settings(self) -> Suppression:
        """The same as the core's settings."""
        return Suppression(
            method=self.method,
            threshold=self.threshold,
            sigma=self.sigma,
            min_score=self.min_score,
            top_k=self.top_k,
        )


class PeopleTable(Table, frozen=True):
    """The table ``[people]`` of a detector's recipe: which of its boxes count as people.

    Attributes:
        min_score: boxes of people that score less, after NMS, are left out unless asked for.
    """

    min_score: Share = 0.1


class ViewsTable(Table, frozen=True):
    """The table ``[views]`` of a detector's recipe: how it looks at each image.

    Attributes:
        scales: the sizes, relative to what ``[preprocessing]`` says; the boxes of all of them are
            pooled before NMS.
    """

    scales: Annotated[tuple[Scale, ...], Meta(min_length=1, max_length=100)] = (1.0,)


def recipe_suppression(recipe: Recipe) -> Suppression:
    """The NMS that a detector's recipe asks for.

    Raises:
        RecipeError: a field of ``[suppression]`` is wrong.
    """
    return recipe.table("suppression", SuppressionTable).settings


def recipe_min_score(recipe: Recipe) -> float:
    """The score from which on a box counts as a person, by a detector's recipe.

    Raises:
        RecipeError: a field of ``[people]`` is wrong.
    """
    return recipe.table("people", PeopleTable).min_score


def recipe_scales(recipe: Recipe) -> tuple[float, ...]:
    """The sizes at which a detector's recipe looks at each image.

    Raises:
        RecipeError: a field of ``[views]`` is wrong.
    """
    return recipe.table("views", ViewsTable).scales


def detector_recipe(
    model: str | Path, *, config: str | Path | None = None, changes: Sequence[str] = ()
) -> Recipe:
    """The recipe of a detector: one of the zoo, a folder's, or one made from a detectron2 config.

    Args:
        model: name or folder of a model; or "detectron2", which needs `config`.
        config: a name of detectron2's model zoo, or a YAML file.
        changes: fields of the recipe to override, see `Recipe.with_changes`.

    Raises:
        RecipeError: no such model, or one for another stage.
        OptionError: `config` with a model other than "detectron2", or the other way round.
    """
    if str(model) == DETECTRON2:
        if config is None:
            raise OptionError(
                "model detectron2 needs --config: a YAML file, or a name of detectron2's model zoo "
                "such as COCO-Detection/faster_rcnn_R_50_FPN_3x.yaml"
            )
        tables = {
            "model": {"stage": "detection", "summary": f"detectron2, {config}"},
            "detector": {"backend": DETECTRON2, "config": str(config)},
        }
        made = Recipe(name=Path(config).stem, folder=Path.cwd(), tables=tables)
        return made.with_changes(changes, known=_TABLES)
    if config is not None:
        raise OptionError(f"--config belongs to --model detectron2, not to {str(model)!r}")
    recipe = load_recipe(model)
    if recipe.model.stage != "detection":
        raise RecipeError(
            f"model {recipe.name!r} is for the {recipe.model.stage} stage, detection needs a "
            "detector; `posepipe models` lists them"
        )
    return recipe.with_changes(changes, known=_TABLES)


def load_detector(
    model: str | Path | Recipe,
    *,
    config: str | Path | None = None,
    weights: str | Path | None = None,
    changes: Sequence[str] = (),
    device: str = "auto",
    precision: str = "auto",
    runtime: str = "auto",
) -> Detector[Any]:
    """A detector with its weights, ready to run.

    Args:
        model: what `detector_recipe` takes, or a recipe.
        config: for "detectron2" only.
        weights: a weights file in place of the one beside the recipe.
        changes: fields of the recipe to override, see `Recipe.with_changes`.
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        precision: "auto", "fp32", "bf16" or "fp16", of convolutions and linear layers; "auto"
            in torch is what the recipe says, see `DetectorTable`.
        runtime: see `posepipe.networks.runtimes.registry.place_network`.

    Raises:
        RecipeError: no such model, or a wrong field in its recipe.
        WeightsError: no weights, damaged ones, or those of another network.
        DownloadError: the weights cannot be fetched, or may not be.
        OptionError: no such device, precision or runtime here, or options that contradict each
            other.
        MissingDependencyError: the model needs a library that is not installed.
    """
    if str(model) == DETECTRON2 and weights is None:
        raise OptionError("model detectron2 needs --weights: the file that belongs to its --config")
    if isinstance(model, Recipe):
        recipe = model.with_changes(changes, known=_TABLES)
    else:
        recipe = detector_recipe(model, config=config, changes=changes)
    if isinstance(model, Recipe) and config is not None:
        raise OptionError("a recipe names its own configuration: leave out config")
    backend = registered_backend(recipe)
    file = exported_file(recipe, weights)
    if backend.exports and file is not None:
        placement = place_file(file, runtime, device=device, precision=precision)
        return backend.open().load(recipe, placement=placement, weights=weights)
    place = partial(
        place_network, runtime, device=device, model=recipe.name, exports=backend.exports
    )
    placement = place(precision=precision)
    if precision == "auto" and placement.runtime == TORCH:
        placement = place(precision=recipe.table("detector", DetectorTable).torch_precision)
    return backend.open().load(recipe, placement=placement, weights=weights)
