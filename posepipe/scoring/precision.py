"""Average precision and recall of matched objects, as `COCOeval.accumulate` defines them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from posepipe.scoring.matching import FloatArray, Found, Matches

RECALLS: FloatArray = np.linspace(0, 1, 101)


@dataclass(frozen=True, eq=False)
class PrecisionRecall:
    """Precision at given recalls, for A ranges of area and T thresholds.

    Attributes:
        precision: (A, T, 101) the highest precision at each of `RECALLS` or at a higher recall;
            NaN in a range of area in which no label counts.
        recall: (A, T) the share of the labels that were found at all; NaN likewise.
    """

    precision: FloatArray
    recall: FloatArray


def precision_recall(matches: Matches, found: Found) -> PrecisionRecall:
    """Go through the found objects of all pictures from the highest score downwards.

    Args:
        matches: of these found objects.
        found: their scores.

    Returns:
        Zeros where nothing was found.
    """
    order = np.argsort(-found.scores[matches.found], kind="stable")
    hit = (matches.labels >= 0)[..., order]
    counts = ~matches.ignored[..., order]
    true = np.cumsum(hit & counts, axis=-1, dtype=np.float64)
    false = np.cumsum(~hit & counts, axis=-1, dtype=np.float64)
    sizes, thresholds = true.shape[:2]
    precision = np.zeros((sizes, thresholds, len(RECALLS)))
    recall = np.zeros((sizes, thresholds))
    for size, positives in enumerate(matches.positives):
        if not positives:
            precision[size] = recall[size] = np.nan
            continue
        for threshold in range(thresholds):
            tp, fp = true[size, threshold], false[size, threshold]
            if not len(tp):
                continue
            reached = tp / positives
            best = np.maximum.accumulate((tp / (fp + tp + np.spacing(1)))[::-1])[::-1]
            places = np.searchsorted(reached, RECALLS, side="left")
            inside = places < len(best)
            precision[size, threshold, inside] = best[places[inside]]
            recall[size, threshold] = reached[-1]
    return PrecisionRecall(precision, recall)
