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


def precision_recall(
    matches: Matches, found: Found, *, times: FloatArray | None = None
) -> PrecisionRecall:
    """Go through the found objects of all images from the highest score downwards.

    Args:
        matches: of these found objects.
        found: their scores.
        times: (images,) how often each image counts; None for once.

    Returns:
        Zeros where nothing was found.
    """
    order = np.argsort(-found.scores[matches.found], kind="stable")
    hit = (matches.labels >= 0)[..., order]
    counts = np.where(matches.ignored[..., order], 0.0, 1.0)
    of_image = matches.positives.astype(np.float64)
    if times is not None:
        counts *= times[found.images[matches.found[order]]]
        of_image = of_image * times[: of_image.shape[1]]
    true = np.cumsum(np.where(hit, counts, 0.0), axis=-1)
    false = np.cumsum(np.where(hit, 0.0, counts), axis=-1)
    sizes, thresholds = true.shape[:2]
    precision = np.zeros((sizes, thresholds, len(RECALLS)))
    recall = np.zeros((sizes, thresholds))
    for size, positives in enumerate(of_image.sum(axis=1)):
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
