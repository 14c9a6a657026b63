"""The table [skeleton] of recipes."""

from __future__ import annotations

from pathlib import Path

import pytest

from posepipe.core.skeleton import COCO_PERSON, DEFAULT_SIGMA, Skeleton
from posepipe.errors import RecipeError
from posepipe.zoo.recipe import load_recipe
from posepipe.zoo.skeleton import recipe_skeleton

DOG = """
[skeleton]
category = "dog"
keypoints = ["nose", "left_ear", "right_ear", "tail"]
limbs = [["nose", "left_ear"], ["nose", "right_ear"]]
"""


def skeleton_of(folder: Path, text: str) -> Skeleton:
    model = folder / "model"
    model.mkdir(exist_ok=True)
    (model / "recipe.toml").write_text(f"[model]\nstage = 'pose'\nsummary = ''\n{text}")
    return recipe_skeleton(load_recipe(model))


def test_without_the_table_it_is_cocos_person(tmp_path: Path) -> None:
    assert skeleton_of(tmp_path, "") == COCO_PERSON
    assert recipe_skeleton(load_recipe("cpn-litehrnet-256x192")) == COCO_PERSON


def test_a_table_without_keypoints_gives_the_category_alone_another_name(tmp_path: Path) -> None:
    found = skeleton_of(tmp_path, "[skeleton]\ncategory = 'pedestrian'")
    assert (found.name, found.category) == ("pedestrian", "pedestrian")
    assert found.keypoints == COCO_PERSON.keypoints
    assert found.sigmas == COCO_PERSON.sigmas


def test_what_is_left_out_follows_from_the_keypoints(tmp_path: Path) -> None:
    assert skeleton_of(tmp_path, DOG) == Skeleton(
        name="dog",
        keypoints=("nose", "left_ear", "right_ear", "tail"),
        mirror_pairs=((1, 2),),  # as their names say
        limbs=((0, 1), (0, 2)),
        sigmas=(DEFAULT_SIGMA,) * 4,
        category="dog",
        upper_body=(),
    )


def test_what_is_given_counts(tmp_path: Path) -> None:
    more = """
name = "sitting dog"
mirror_pairs = []
sigmas = [0.1, 0.2, 0.2, 0.3]
upper_body = ["nose", "right_ear"]
"""
    found = skeleton_of(tmp_path, DOG + more)
    assert (found.name, found.category) == ("sitting dog", "dog")
    assert found.mirror_pairs == ()
    assert found.sigmas == (0.1, 0.2, 0.2, 0.3)
    assert found.upper_body == (0, 2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (DOG + "sigmas = [0.1]", r"\[skeleton\]: sigmas has 1 numbers for 4 keypoints"),
        (DOG + "upper_body = ['paw']", "upper_body names 'paw', which is not among the keypoints"),
        (DOG + "mirror_pairs = [['nose', 'nose']]", "'nose' is in mirror_pairs twice"),
        (DOG + "colour = 'brown'", "there is no field 'colour'"),
        ("[skeleton]\nsigmas = [0.1]", "keypoints is missing"),
    ],
)
def test_a_wrong_table_is_an_error_that_names_field_and_file(
    tmp_path: Path, text: str, message: str
) -> None:
    with pytest.raises(RecipeError, match=message) as caught:
        skeleton_of(tmp_path, text)
    assert "recipe.toml" in str(caught.value)
