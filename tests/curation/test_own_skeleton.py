"""Recipes from the categories of annotation files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from builders import DOG, annotation_file, image_entry

from posepipe.core.skeleton import COCO_PERSON, DEFAULT_SIGMA
from posepipe.curation.own_skeleton import NewModel, new_model
from posepipe.errors import DocumentError, OptionError, RecipeError
from posepipe.zoo.recipe import load_recipe
from posepipe.zoo.skeleton import recipe_skeleton

BASE = "cpn-litehrnet-256x192"


def category(**changes: Any) -> dict[str, Any]:
    """The dog as an annotation file describes it."""
    limbs = [[start + 1, end + 1] for start, end in DOG.limbs]
    return {"id": 1, "name": "dog", "keypoints": list(DOG.keypoints), "skeleton": limbs} | changes


def made(folder: Path, *categories: dict[str, Any], base: str = BASE, **options: Any) -> NewModel:
    file = annotation_file(folder / "a.json", [], [image_entry()], categories=list(categories))
    return new_model(folder / "animals", file, base=base, **options)


def test_the_recipe_reads_back_as_the_skeleton_that_was_made(tmp_path: Path) -> None:
    new = made(tmp_path, category())
    assert recipe_skeleton(load_recipe(new.folder)) == new.skeleton
    assert new.skeleton.limbs == DOG.limbs
    assert new.skeleton.mirror_pairs == DOG.mirror_pairs
    assert new.skeleton.sigmas == (DEFAULT_SIGMA,) * 10


def test_names_of_any_script_and_with_quotes_come_back(tmp_path: Path) -> None:
    names = ['the "nose"', "хвост", "back\\slash"]
    new = made(tmp_path, category(name='a "dog"', keypoints=names, skeleton=[]))
    found = recipe_skeleton(load_recipe(new.folder))
    assert (found.category, list(found.keypoints)) == ('a "dog"', names)
    assert any("limbs: none" in note for note in new.notes)


def test_limbs_that_are_counted_from_0_are_understood(tmp_path: Path) -> None:
    from_0 = [list(limb) for limb in DOG.limbs]
    assert made(tmp_path, category(skeleton=from_0)).skeleton.limbs == DOG.limbs


def test_cocos_keypoints_bring_cocos_sigmas_and_halves(tmp_path: Path) -> None:
    new = made(tmp_path, category(name="pedestrian", keypoints=list(COCO_PERSON.keypoints)))
    assert new.notes == ()
    found = recipe_skeleton(load_recipe(new.folder))
    assert found.category == "pedestrian"
    assert (found.sigmas, found.upper_body) == (COCO_PERSON.sigmas, COCO_PERSON.upper_body)


def test_several_categories_of_the_same_keypoints_are_learnt_as_one(tmp_path: Path) -> None:
    alike = [category(), category(id=2, name="cat"), {"id": 3, "name": "tree"}]
    assert made(tmp_path, *alike).skeleton.category == "animals"  # the folder's name
    assert made(tmp_path / "b", *alike, category="cat").skeleton.category == "cat"


@pytest.mark.parametrize(
    ("categories", "options", "error", "message"),
    [
        ([category(keypoints=[])], {}, DocumentError, "no category names its keypoints"),
        (
            [category(), category(id=2, name="hand", keypoints=["tip"], skeleton=[])],
            {},
            OptionError,
            "of different names: name one with --category, of 'dog', 'hand'",
        ),
        ([category()], {"category": "cat"}, OptionError, "no category 'cat' has keypoints, but"),
        ([category(skeleton=[[1, 11]])], {}, RecipeError, "'dog': .* there is no 10"),
        ([category(keypoints=["a", "a"])], {}, RecipeError, "'a' is listed twice"),
        (
            [category()],
            {"base": "person-detector-rtmdet-nano"},
            RecipeError,
            "is for detection: --base takes a pose model",
        ),
    ],
)
def test_what_makes_no_recipe_is_one_line(
    tmp_path: Path,
    categories: list[dict[str, Any]],
    options: dict[str, Any],
    error: type[Exception],
    message: str,
) -> None:
    with pytest.raises(error, match=message) as caught:
        made(tmp_path, *categories, **options)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "animals").exists()
