"""Which categories of a file are the skeleton's, and whether its keypoints are."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from posepipe.core.skeleton import Skeleton
from posepipe.io.entries import Entries
from posepipe.io.findings import EXAMPLES, Finding, noted
from posepipe.io.schema import CategoryEntry

PERSON_ID = 1  # COCO's category id of a person, in every file of its own

_SIDES = {"l": "left", "r": "right"}


def person_categories(
    entries: Entries, skeleton: Skeleton, where: str
) -> tuple[tuple[CategoryEntry, ...], list[Finding]]:
    """The categories of people: those named as the skeleton's, else those with its keypoints.

    A file without categories means COCO's id, or the one id that all its annotations have. Where
    there are categories and none is a person's, the finding is fatal.

    Args:
        entries: the file's.
        skeleton: the people's.
        where: the file's name, for the findings.
    """
    wanted = skeleton.category
    named = tuple(c for c in entries.categories if _plain(c.name) == _plain(wanted))
    if len(named) > 1:
        ids = [f"id {category.id}" for category in named]
        what = f"categories named {wanted!r}"
        return named, noted(where, what, ids, len(entries.categories), "all of them count")
    if named:
        return named, []
    if not entries.categories:
        used = {entry.category_id for entry in entries.annotations}
        if not used or PERSON_ID in used or len(used) > 1:
            return (CategoryEntry(PERSON_ID, wanted),), []
        (only,) = used
        what = "categories that are not listed, while all annotations have one and the same"
        return (CategoryEntry(only, wanted),), noted(
            where, what, [f"id {only}"], 1, f"taken for {wanted!r}"
        )
    plain = _plain_all(skeleton.keypoints)
    alike = tuple(c for c in entries.categories if _plain_all(c.keypoints) == plain)
    if alike:
        names = [repr(category.name) for category in alike]
        return alike, noted(
            where,
            f"categories not named {wanted!r}",
            names,
            len(entries.categories),
            "used because they have its keypoints",
        )
    others = tuple(category.name for category in entries.categories[:5])
    count = len(entries.categories)
    return (), [Finding(True, where, f"categories named {wanted!r}", 0, count, others)]


def keypoint_names(
    categories: Sequence[CategoryEntry], skeleton: Skeleton, where: str, *, fatal: bool
) -> list[Finding]:
    """A finding where a file names other keypoints than the skeleton's, or another order of them.

    Case, the kind of separator, and L or R for a side do not matter; names that are only numbers
    say nothing.

    Args:
        categories: of people; those without names are passed over.
        skeleton: what the labels are taken for.
        where: the file's name.
        fatal: whether the labels' keypoints are needed.
    """
    findings = []
    plain = _plain_all(skeleton.keypoints)
    for category in categories:
        names = _plain_all(category.keypoints)
        if not names or all(name.isdigit() for name in names) or names == plain:
            continue
        if len(names) != len(skeleton):
            differing = [f"{len(names)} in place of {len(skeleton)}"]
        else:
            differing = [
                f"{place}: {is_named} in place of {wanted}"
                for place, (is_named, wanted) in enumerate(zip(names, plain, strict=True), start=1)
                if is_named != wanted
            ]
        order = "in another order" if sorted(names) == sorted(plain) else "others"
        findings.append(
            Finding(
                fatal,
                where,
                f"keypoints of {category.name!r} that are {order} than {skeleton.name}'s",
                len(differing),
                len(skeleton),
                tuple(differing[:EXAMPLES]),
                "bring labels and categories[].keypoints into the skeleton's order, or take a "
                "model of this skeleton",
            )
        )
    return findings


def _plain(name: str) -> str:
    """A name without what tools write in different ways: case, separators, L and R as sides.

    >>> _plain("Left Eye"), _plain("L-eye"), _plain("eye_r"), _plain("Ухо"), _plain("左目")
    ('left_eye', 'left_eye', 'eye_right', 'ухо', '左目')
    """
    words = re.split(r"[\W_]+", unicodedata.normalize("NFKC", name).casefold())
    return "_".join(_SIDES.get(word, word) for word in words if word) or name


def _plain_all(names: Sequence[str]) -> tuple[str, ...]:
    return tuple(map(_plain, names))
