"""A recipe for a skeleton of one's own, from the categories of an annotation file."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import tomli_w
from msgspec import structs

from posepipe.core.skeleton import COCO_PERSON, DEFAULT_SIGMA, Skeleton, mirror_pairs_by_name
from posepipe.errors import DocumentError, OptionError, RecipeError
from posepipe.io.coco import CategoryEntry, read_coco
from posepipe.io.jsonfiles import write_whole
from posepipe.training.tables import PoseTrainingTable
from posepipe.zoo.recipe import Recipe, load_recipe
from posepipe.zoo.skeleton import recipe_skeleton
from posepipe.zoo.sources import RECIPE_FILE


@dataclass(frozen=True)
class NewModel:
    """A recipe that was written.

    Attributes:
        folder: of the model.
        skeleton: what it is for.
        notes: what was guessed or is unknown, one line each.
    """

    folder: Path
    skeleton: Skeleton
    notes: tuple[str, ...]


def new_model(
    folder: str | Path, annotations: str | Path, *, base: str | Path, category: str | None = None
) -> NewModel:
    """Write a recipe for the keypoints of an annotation file: a pose model's, with its skeleton.

    Keypoint names and limbs are the file's. Mirror pairs are the names that differ in "left" and
    "right" alone. Sigmas are COCO's where the keypoints are those of COCO's person, else one
    default. Half bodies are unknown. The share of mined keypoints is the base's.
    Several categories with the same keypoints are learnt as one, under the folder's name.

    Args:
        folder: the model folder to make; its name is the model's.
        annotations: a COCO file whose ``categories`` name their keypoints.
        base: the pose model whose network, crops and training are taken.
        category: the category's name, where several have keypoints and one is wanted.

    Raises:
        DocumentError: no such file, or no category with keypoints.
        OptionError: categories of different keypoints and none named, or the folder has a recipe.
        RecipeError: no such base, one for another stage, or keypoints that contradict themselves.
    """
    folder, recipe = Path(folder), load_recipe(base)
    if recipe.model.stage != "pose":
        raise RecipeError(f"{recipe.name} is for {recipe.model.stage}: --base takes a pose model")
    if (folder / RECIPE_FILE).exists():
        raise OptionError(f"{folder} already has a {RECIPE_FILE}: name another folder")
    entry = _chosen(Path(annotations), category, all_of_them=folder.name)
    try:
        skeleton, notes = _skeleton(entry)
    except ValueError as error:
        raise RecipeError(f"{annotations}, category {entry.name!r}: {error}") from None
    about = f"{len(skeleton)} keypoints of {skeleton.category}"
    parts = [
        "\n".join(f"# {line}" for line in (f"{about}; all else as in {recipe.name}", *notes)),
        tomli_w.dumps({"model": {"stage": "pose", "summary": f"{about}, from {recipe.name}"}}),
        _skeleton_text(skeleton),
        tomli_w.dumps(_other_tables(recipe, skeleton)),
    ]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OptionError(f"{folder} cannot be made: {error.strerror}") from None
    write_whole(folder / RECIPE_FILE, ["\n\n".join(part.strip() for part in parts).encode(), b"\n"])
    return NewModel(folder, skeleton, tuple(notes))


def _chosen(path: Path, name: str | None, *, all_of_them: str) -> CategoryEntry:
    """The category to learn; where several have the same keypoints, all of them by one name."""
    categories = read_coco(path).entries.categories
    with_keypoints = [category for category in categories if category.keypoints]
    if not with_keypoints:
        raise DocumentError(
            f'{path}: no category names its keypoints: add "keypoints": [names] to its entry in '
            '"categories"'
        )
    names = ", ".join(repr(category.name) for category in with_keypoints[:8])
    if name is not None:
        found = [category for category in with_keypoints if category.name == name]
        if not found:
            raise OptionError(f"{path}: no category {name!r} has keypoints, but {names}")
        return found[0]
    if len(with_keypoints) == 1:
        return with_keypoints[0]
    if len({category.keypoints for category in with_keypoints}) > 1:
        raise OptionError(
            f"{path}: several categories have keypoints, of different names: name one with "
            f"--category, of {names}"
        )
    return structs.replace(with_keypoints[0], name=all_of_them)


def _skeleton(entry: CategoryEntry) -> tuple[Skeleton, list[str]]:
    """The skeleton, and what about it was guessed or is unknown."""
    names = entry.keypoints
    if names == COCO_PERSON.keypoints:
        return replace(COCO_PERSON, category=entry.name), []
    pairs = mirror_pairs_by_name(names)
    # COCO counts from 1; where there is a 0, somebody counted from there.
    first = 0 if any(0 in pair for pair in entry.skeleton) else 1
    limbs = tuple((start - first, end - first) for start, end in entry.skeleton)
    notes = [
        f"mirror_pairs: {len(pairs)} by left and right in the names; check them, for what is "
        "missing here is learnt wrongly from mirror images",
        f"sigmas: {DEFAULT_SIGMA} for all, the mean of COCO's: not known, so that OKS and AP "
        "compare models on this data only, not with others'",
        "upper_body: not known; name the keypoints of the upper half for augmentation by halves",
    ]
    if not limbs:
        notes.append("limbs: none in the file; name the pairs that drawings connect")
    sigmas = (DEFAULT_SIGMA,) * len(names)
    return Skeleton(entry.name, names, pairs, limbs, sigmas, entry.name), notes


def _skeleton_text(skeleton: Skeleton) -> str:
    """The table as people write it: a name or a pair per line. TOML strings are JSON's."""
    names = skeleton.keypoints
    lists = {
        "keypoints": names,
        "mirror_pairs": [(names[left], names[right]) for left, right in skeleton.mirror_pairs],
        "limbs": [(names[start], names[end]) for start, end in skeleton.limbs],
        "sigmas": skeleton.sigmas,
        "upper_body": [names[index] for index in skeleton.upper_body],
    }
    lines = ["[skeleton]", f"category = {_text(skeleton.category)}"]
    for field, entries in lists.items():
        lines += [f"{field} = [", *(f"    {_text(entry)}," for entry in entries), "]"]
    return "\n".join(lines)


def _text(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _other_tables(recipe: Recipe, skeleton: Skeleton) -> dict[str, Any]:
    """The base's network, crops and training, with the same share of keypoints mined.

    For other keypoints there is no teacher, and nothing of the backbone is frozen.
    """
    kept = ("network", "preprocessing", "decoding", "training")
    tables = {name: dict(recipe.tables[name]) for name in kept if name in recipe.tables}
    tables.get("network", {}).pop("keypoints", None)
    training = tables.setdefault("training", {})
    share = recipe.table("training", PoseTrainingTable).loss.hardest / len(recipe_skeleton(recipe))
    hardest = max(1, round(min(share, 1) * len(skeleton)))
    if skeleton.keypoints != recipe_skeleton(recipe).keypoints:
        # A teacher of other keypoints has nothing to say, and a backbone has to learn of new ones.
        training.pop("distil", None)
        training["frozen_stages"] = 0
    training["loss"] = {**training.get("loss", {}), "hardest": hardest}
    return tables
