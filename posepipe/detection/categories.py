"""COCO's category ids, which number the classes of every detector's candidates."""

from __future__ import annotations

from collections.abc import Sequence

from posepipe.detection.candidates import PERSON
from posepipe.errors import RecipeError

_GAPS = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)
COCO_CATEGORY_IDS = tuple(i for i in range(1, 91) if i not in _GAPS)
"""The ids of COCO's 80 categories in order: what detectron2's classes 0…79 stand for."""


def category_ids_of(given: Sequence[int], classes: int, name: str) -> tuple[int, ...]:
    """The category id of each class of a network whose classes are counted from 0, without gaps.

    Args:
        given: what the recipe says; empty for COCO's 80 classes, or the one class person.
        classes: how many there are, background not counted.
        name: the network's, for the error message.

    Raises:
        RecipeError: not one id for each class.

    >>> category_ids_of((), 80, "a")[-1]
    90
    """
    known = {1: (PERSON,), len(COCO_CATEGORY_IDS): COCO_CATEGORY_IDS}
    ids = tuple(given) or known.get(classes, ())
    if len(ids) != classes:
        raise RecipeError(
            f"{name} has {classes} classes, {len(ids)} have category ids: name them all by "
            f"category_ids = [...] in the recipe's [detector], {PERSON} for person"
        )
    return ids
