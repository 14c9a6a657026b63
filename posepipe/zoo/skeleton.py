"""The recipe's table ``[skeleton]``: what the keypoints of a model are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Annotated

from msgspec import Meta

from posepipe.core.skeleton import (
    COCO_PERSON,
    DEFAULT_SIGMA,
    PERSON,
    Skeleton,
    mirror_pairs_by_name,
)
from posepipe.zoo.bounds import Number
from posepipe.zoo.recipe import Recipe, Table

Names = Annotated[tuple[str, ...], Meta(max_length=1_000)]
Pairs = Annotated[tuple[tuple[str, str], ...], Meta(max_length=10_000)]


class SkeletonTable(Table, frozen=True):
    """The table ``[skeleton]``; without `keypoints` it is COCO's person.

    Keypoints are referred to by their names.

    Attributes:
        name: how messages refer to the skeleton; "" takes the category's.
        category: annotation files' name for what has these keypoints. In a detector's recipe: what
            it finds.
        keypoints: the names, in the order of the annotation files' numbers.
        mirror_pairs: pairs (left, right) that exchange their places in a mirror image. Left out,
            they are the names that differ in "left" and "right" (or L and R) alone.
        limbs: pairs that a drawing connects.
        sigmas: OKS's standard deviation of each keypoint; left out, `DEFAULT_SIGMA` for all.
        upper_body: the keypoints of the upper half, for augmentation by half bodies; left out,
            bodies are not halved.

    Raises:
        ValueError: a name twice or unknown, or a list of the wrong length.
    """

    name: str = ""
    category: str = PERSON
    keypoints: Names = ()
    mirror_pairs: Pairs | None = None
    limbs: Pairs = ()
    sigmas: Annotated[tuple[Number, ...], Meta(max_length=1_000)] = ()
    upper_body: Names = ()

    def __post_init__(self) -> None:
        self.skeleton()

    def skeleton(self) -> Skeleton:
        """What the table says, as a noun."""
        if not self.keypoints:
            if self.mirror_pairs or self.limbs or self.sigmas or self.upper_body:
                raise ValueError("keypoints is missing: name them, in the labels' order")
            named = self.name or (COCO_PERSON.name if self.category == PERSON else self.category)
            return replace(COCO_PERSON, name=named, category=self.category)
        places = {name: index for index, name in enumerate(self.keypoints)}
        pairs = self.mirror_pairs
        return Skeleton(
            name=self.name or self.category,
            keypoints=self.keypoints,
            mirror_pairs=mirror_pairs_by_name(self.keypoints)
            if pairs is None
            else _index_pairs("mirror_pairs", pairs, places),
            limbs=_index_pairs("limbs", self.limbs, places),
            sigmas=self.sigmas or (DEFAULT_SIGMA,) * len(self.keypoints),
            category=self.category,
            upper_body=tuple(_indices("upper_body", self.upper_body, places)),
        )


def recipe_skeleton(recipe: Recipe) -> Skeleton:
    """What the keypoints of a recipe's model are: COCO's person, unless it says something else.

    Raises:
        RecipeError: ``[skeleton]`` has a wrong field.
    """
    return recipe.table("skeleton", SkeletonTable).skeleton()


def _index_pairs(
    field: str, pairs: Iterable[tuple[str, str]], places: Mapping[str, int]
) -> tuple[tuple[int, int], ...]:
    indices = iter(_indices(field, (name for pair in pairs for name in pair), places))
    return tuple(zip(indices, indices, strict=True))


def _indices(field: str, names: Iterable[str], places: Mapping[str, int]) -> list[int]:
    names = list(names)
    if unknown := [name for name in names if name not in places]:
        raise ValueError(f"{field} names {unknown[0]!r}, which is not among the keypoints")
    return [places[name] for name in names]
