"""Explanations and comparisons as tables and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from posepipe.analysis.errors import KeypointError
from posepipe.analysis.explain import Explanation
from posepipe.analysis.resampling import Difference, ImageChange

KINDS = tuple(kind.name.lower() for kind in KeypointError if kind != KeypointError.UNLABELLED)


def as_table(explanation: Explanation) -> str:
    """Plain text: what each kind of error costs, keypoint by keypoint, group by group.

    Numbers are per cent. No final newline. Where nobody counts there is nothing to explain, and
    the text says so.
    """
    if explanation.ap is None:
        return "No labelled person counts: there is nothing to explain."
    causes = [
        [
            cause.name,
            f"{cause.count} {cause.unit}",
            _percent(cause.alone),
            f"{100 * (cause.alone - explanation.ap):+.1f}",
            _percent(cause.progressive),
        ]
        for cause in explanation.causes
    ]
    keypoints = [
        [name, *(_percent(shares.get(kind)) for kind in KINDS)]
        for name, shares in explanation.per_keypoint.items()
    ]
    groups = [
        [
            f"{group.trait}: {group.name}",
            str(group.people),
            _percent(group.found / group.people if group.people else None),
            _percent(group.mean_oks),
            *(_percent(group.shares.get(kind)) for kind in KINDS),
        ]
        for group in explanation.groups
    ]
    heads = [*KINDS]
    return "\n\n".join(
        [
            f"AP is {_percent(explanation.ap)}. Without errors of one kind, and of all kinds down "
            "to it:\n" + _columns([["", "how many", "alone", "", "with those above"], *causes]),
            "Labelled keypoints of the people found, per cent:\n"
            + _columns([["", *heads], *keypoints]),
            "People, how many of them are found, and how well:\n"
            + _columns([["", "people", "found", "OKS", *heads], *groups]),
        ]
    )


def change_table(changes: Sequence[Difference], names: tuple[str, str]) -> str:
    """Plain text: both runs' numbers in per cent, the change, its interval, whether it is real.

    Args:
        changes: of two runs.
        names: the runs', to head their columns.
    """
    rows = [
        [
            change.name,
            _percent(change.first, 2),
            _percent(change.second, 2),
            "–" if change.change is None else f"{100 * change.change:+.2f}",
            ""
            if change.low is None or change.high is None
            else f"{100 * change.low:+.2f} … {100 * change.high:+.2f}",
            "real" if change.is_real else "",
        ]
        for change in changes
    ]
    return _columns([["", *names, "change", "95 % interval", ""], *rows])


def change_overview(runs: Sequence[Sequence[Difference]], names: Sequence[str]) -> str:
    """Plain text: the numbers of several runs side by side; changes that are real have a star.

    Args:
        runs: for each run its differences from the same first one, in the same order.
        names: of the first run and of all others.
    """
    rows = [
        [
            of_number[0].name,
            _percent(of_number[0].first, 2),
            *(
                part
                for change in of_number
                for part in (
                    _percent(change.second, 2),
                    "" if change.change is None else f"{100 * change.change:+.2f}",
                    "*" if change.is_real else "",
                )
            ),
        ]
        for of_number in zip(*runs, strict=True)
    ]
    heads = ["", names[0], *(part for name in names[1:] for part in (name, "", ""))]
    return _columns([heads, *rows]) + "\n* real: the 95 % interval of the change excludes 0"


def image_table(
    changes: Sequence[ImageChange], file_names: Sequence[str], names: tuple[str, str]
) -> str:
    """Plain text: mean OKS of the people in some images in both runs, in per cent.

    Args:
        changes: of two runs.
        file_names: of the images, by number.
        names: the runs', to head their columns.
    """
    rows = [
        [
            file_names[change.image],
            _percent(change.first),
            _percent(change.second),
            f"{100 * (change.second - change.first):+.1f}",
        ]
        for change in changes
    ]
    return _columns([["mean OKS in", *names, "change"], *rows])


def as_json(explanation: Explanation) -> dict[str, Any]:
    """The fields as builtin types, for a JSON file; shares in [0, 1]."""
    document: dict[str, Any] = msgspec.to_builtins(explanation)
    return document


def _columns(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells as text, the first column to the left and the others to the right.

    >>> print(_columns([["", "n"], ["miss", "12"]]))
           n
    miss  12
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if place else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def _percent(share: float | None, decimals: int = 1) -> str:
    return "–" if share is None else f"{100 * share:.{decimals}f}"
