"""Score cards: the COCO numbers of a result, as fields, as a table and as JSON.

Numbers are shares in [0, 1]; tables show per cent with one decimal, as the paper prints them.
None, shown as "–" and null in JSON, is a number that does not exist: no such people in the
annotations (pycocotools says -1), or sizes that are only estimates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from posepipe.core.skeleton import mirror_pairs_by_name, side_and_part
from posepipe.scoring.reliability import ScoreBand

MISSING = "–"


@dataclass(frozen=True)
class KeypointScore:
    """The AP of one keypoint alone (`posepipe.scoring.evaluation.evaluate` defines it)."""

    name: str
    ap: float | None


@dataclass(frozen=True)
class ScoreCard:
    """COCO's ten keypoint metrics, in the paper's order; None if a metric does not exist.

    Attributes:
        ap: mean of the average precisions at OKS 0.50, 0.55 … 0.95.
        ap50: average precision at OKS 0.50; `ap75` at 0.75.
        ap_medium: `ap` of people of 32² to 96² px; `ap_large` of larger ones.
        ar: mean recall at OKS 0.50 … 0.95, at most 20 poses per image.
        ar50: recall at OKS 0.50; `ar75` at 0.75.
        ar_medium: `ar` of people of 32² to 96² px; `ar_large` of larger ones.
        split: the name of the data set.
        images: number of images, with and without people.
        people: number of people with labelled keypoints, without crowds.
        poses: number of poses evaluated.
        per_keypoint: AP of each keypoint; empty if it was not requested.
        by_score: how many poses are right (OKS 0.5) by score; empty if it was not requested.
        warnings: what may be misleading, one line each.
    """

    ap: float | None
    ap50: float | None
    ap75: float | None
    ap_medium: float | None
    ap_large: float | None
    ar: float | None
    ar50: float | None
    ar75: float | None
    ar_medium: float | None
    ar_large: float | None
    split: str
    images: int
    people: int
    poses: int
    per_keypoint: tuple[KeypointScore, ...] = ()
    by_score: tuple[ScoreBand, ...] = ()
    warnings: tuple[str, ...] = field(default=())

    @property
    def numbers(self) -> tuple[tuple[str, float | None], ...]:
        """The ten metrics with their names, in the paper's order."""
        return (
            ("AP", self.ap),
            ("AP.5", self.ap50),
            ("AP.75", self.ap75),
            ("AP M", self.ap_medium),
            ("AP L", self.ap_large),
            ("AR", self.ar),
            ("AR.5", self.ar50),
            ("AR.75", self.ar75),
            ("AR M", self.ar_medium),
            ("AR L", self.ar_large),
        )

    def as_table(self) -> str:
        """Plain text: counts, the ten metrics, then keypoints and scores; no final newline."""
        heading = _heading(self.split, self.images, self.people, f"{self.poses} poses")
        parts = [heading, _row_table(self.numbers)]

        if self.per_keypoint:
            parts.append(_keypoint_table(self.per_keypoint))
        if self.by_score:
            parts.append(_score_table(self.by_score))
        return "\n\n".join(parts)

    def as_json(self) -> dict[str, Any]:
        """The fields as builtin types, for a JSON file; keypoints by name."""
        card: dict[str, Any] = msgspec.to_builtins(self)
        card["per_keypoint"] = {score.name: score.ap for score in self.per_keypoint}
        return card


@dataclass(frozen=True)
class BoxScoreCard:
    """COCO's detection metrics for the category person.

    Attributes:
        ap: mean of the average precisions at IoU 0.50, 0.55 … 0.95.
        ap50: average precision at IoU 0.50; `ap75` at 0.75.
        ap_small: `ap` of people under 32² px, `ap_medium` to 96², `ap_large` above.
        ar: mean recall at IoU 0.50 … 0.95, at most 100 boxes per image (the paper's "AR person").
        ar_small: `ar` of people under 32² px, `ar_medium` to 96², `ar_large` above.
        split: the name of the data set.
        images: number of images, with and without people.
        people: number of people, without crowds.
        boxes: number of boxes evaluated.
        by_score: how many boxes are right (IoU 0.5) by score; empty if it was not requested.
        warnings: what may be misleading, one line each.
    """

    ap: float | None
    ap50: float | None
    ap75: float | None
    ap_small: float | None
    ap_medium: float | None
    ap_large: float | None
    ar: float | None
    ar_small: float | None
    ar_medium: float | None
    ar_large: float | None
    split: str
    images: int
    people: int
    boxes: int
    by_score: tuple[ScoreBand, ...] = ()
    warnings: tuple[str, ...] = field(default=())

    @property
    def numbers(self) -> tuple[tuple[str, float | None], ...]:
        """The numbers with their column heads, in COCO's order."""
        return (
            ("AP", self.ap),
            ("AP.5", self.ap50),
            ("AP.75", self.ap75),
            ("AP S", self.ap_small),
            ("AP M", self.ap_medium),
            ("AP L", self.ap_large),
            ("AR", self.ar),
            ("AR S", self.ar_small),
            ("AR M", self.ar_medium),
            ("AR L", self.ar_large),
        )

    def as_table(self) -> str:
        """Plain text: what was counted, then the numbers; no final newline."""
        heading = _heading(self.split, self.images, self.people, f"{self.boxes} boxes")
        parts = [heading, _row_table(self.numbers)]
        if self.by_score:
            parts.append(_score_table(self.by_score))
        return "\n\n".join(parts)

    def as_json(self) -> dict[str, Any]:
        """The fields as builtin types, for a JSON file."""
        card: dict[str, Any] = msgspec.to_builtins(self)
        return card


def _heading(split: str, images: int, people: int, found: str) -> str:
    counts = f"{images} images, {people} people, {found}"
    return f"{split}: {counts}" if split else counts


def _row_table(numbers: Sequence[tuple[str, float | None]]) -> str:
    """Two lines: heads and values, in columns of equal width.

    >>> print(_row_table([("AP", 0.721), ("AP M", None)]))
      AP  AP M
    72.1     –
    """
    width = max(4, *(len(head) for head, _ in numbers))
    heads = "  ".join(head.rjust(width) for head, _ in numbers)
    values = "  ".join(_percent(value).rjust(width) for _, value in numbers)
    return f"{heads}\n{values}"


def _keypoint_table(scores: Sequence[KeypointScore]) -> str:
    """One line per keypoint or pair of keypoints: left and right side by side."""
    paired = mirror_pairs_by_name([score.name for score in scores])
    partner, rights = dict(paired), {right for _, right in paired}
    rows = [("AP of", "left", "right" if paired else "")]
    for index, score in enumerate(scores):
        if index in partner:
            part, right = side_and_part(score.name)[1], scores[partner[index]]
            rows.append((part, _percent(score.ap), _percent(right.ap)))
        elif index not in rights:
            rows.append((score.name, _percent(score.ap), ""))
    width = max(9, *(len(name) for name, _, _ in rows)) + 1
    return "\n".join(f"{a:<{width}}{b:>6}{c:>7}".rstrip() for a, b, c in rows)


def _score_table(bands: Sequence[ScoreBand]) -> str:
    """One line for each band of scores in which there is something, the highest first."""
    lines = ["   score  found  right  precision above  recall above"]
    for band in reversed([band for band in bands if band.count]):
        shares = _percent(band.right), _percent(band.precision), _percent(band.recall)
        right, precision, recall = shares
        lines.append(f"  ≥ {band.low:.2f}{band.count:>7}{right:>7}{precision:>17}{recall:>14}")
    return "\n".join(lines)


def _percent(share: float | None) -> str:
    return MISSING if share is None else f"{100 * share:.1f}"
