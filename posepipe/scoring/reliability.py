"""What a score means: how many of those who have it are right, and what a least score keeps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from posepipe.scoring.matching import FloatArray, Found, Matches

BANDS: FloatArray = np.arange(20) / 20


@dataclass(frozen=True)
class ScoreBand:
    """What was found with scores of one band, and with those of this band or a higher one.

    Attributes:
        low: the lowest score of the band.
        count: how many were found in the band, without those that count neither way.
        right: the share of them that are right; None where there are none.
        precision: the share that is right of all that score at least `low`; None likewise.
        recall: the share of the labels that are found by them; None where nothing is labelled.
    """

    low: float
    count: int
    right: float | None
    precision: float | None
    recall: float | None


def score_bands(matches: Matches, found: Found) -> tuple[ScoreBand, ...]:
    """The reliability curve of what was found, in bands of 0.05, the lowest scores first.

    A found object is right if it takes a label at the first threshold (0.5 for COCO's), whatever
    its size. Scores below 0 belong to the lowest band, those above 1 to the highest.

    Args:
        matches: of these found objects.
        found: their scores.
    """
    counts = ~matches.ignored[0, 0]
    scores = np.round(found.scores[matches.found][counts], 6)  # 0.35 in float32 is less
    right = (matches.labels[0, 0] >= 0)[counts]
    band = np.clip(np.searchsorted(BANDS, scores, side="right") - 1, 0, None)
    of_band = np.bincount(band, minlength=len(BANDS))
    right_of_band = np.bincount(band, weights=right, minlength=len(BANDS))
    above, right_above = (np.cumsum(n[::-1])[::-1] for n in (of_band, right_of_band))
    labels = int(matches.positives[0].sum())
    return tuple(
        ScoreBand(
            low=float(low),
            count=int(of_band[n]),
            right=_share(right_of_band[n], of_band[n]),
            precision=_share(right_above[n], above[n]),
            recall=_share(right_above[n], labels),
        )
        for n, low in enumerate(BANDS)
    )


def _share(part: float, whole: float) -> float | None:
    return float(part / whole) if whole else None
