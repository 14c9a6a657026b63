"""COCO's assignment of found objects to labelled ones, for all images at once.

In every image, from the highest score downwards, each found object takes the most similar label
that is still free, if it is similar enough. What pycocotools does in Python loops over images,
sizes, thresholds and labels is done here for all of them together, one rank of score after
another; every match is the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.intp]
FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

# Of P pairs of a found object (P,) and a label (P,), by index: (P,) how similar, in [0, 1].
Similarity = Callable[[IntArray, IntArray], FloatArray]

# Images are worked on in groups whose largest array has about this many elements.
_GROUP_ELEMENTS = 2_000_000


@dataclass(frozen=True, eq=False)
class Labelled:
    """The labelled objects of all images.

    Attributes:
        images: (M,) number of the image, from 0.
        areas: (M,) square pixels.
        ignored: (M,) whether finding it, or not finding it, counts neither way.
        crowd: (M,) whether it takes any number of found objects.
    """

    images: IntArray
    areas: FloatArray
    ignored: BoolArray
    crowd: BoolArray


@dataclass(frozen=True, eq=False)
class Found:
    """The found objects of all images.

    Attributes:
        images: (N,) number of the image, from 0.
        scores: (N,) any finite numbers; the best first.
        areas: (N,) square pixels.
    """

    images: IntArray
    scores: FloatArray
    areas: FloatArray


@dataclass(frozen=True, eq=False)
class Matches:
    """Who was matched with whom, for A ranges of area and T thresholds.

    Attributes:
        found: (n,) the found objects that were looked at, by image and then by falling score.
        labels: (A, T, n) the label that each of them took; -1 for none.
        ignored: (A, T, n) whether it counts neither way: its label is ignored or of another size,
            or it took none and is itself of another size.
        positives: (A, images) how many labels of each image count.
    """

    found: IntArray
    labels: IntArray
    ignored: BoolArray
    positives: IntArray


def match(
    found: Found,
    labelled: Labelled,
    similarity: Similarity,
    *,
    thresholds: FloatArray,
    area_ranges: Sequence[tuple[float, float]],
    most: int,
) -> Matches:
    """Match found objects with labels as `COCOeval.evaluateImg` does.

    Args:
        found: N objects.
        labelled: M objects.
        similarity: OKS or IoU of pairs in the same image.
        thresholds: (T,) least similarities.
        area_ranges: A ranges in square pixels, both ends included.
        most: found objects that are looked at in an image, the best first.

    Returns:
        The matches; without found objects they are empty.
    """
    order = np.lexsort(
        (-found.scores, found.images)
    )  # stable: of equal scores the first stays first
    rank = place_in_run(found.images[order])
    order, rank = order[rank < most], rank[rank < most]
    low, high = np.array(area_ranges, np.float64).reshape(-1, 2).T
    ignored = labelled.ignored | _outside(labelled.areas, low, high)  # (A, M)
    shape = (len(low), len(thresholds), len(order))
    taken_labels = np.full(shape, -1, np.intp)
    least = np.minimum(thresholds, 1 - 1e-10)
    by_image = np.argsort(labelled.images, kind="stable")
    for group in _groups(found.images[order], labelled.images[by_image], shape[0] * shape[1]):
        places, label_places = group
        _match_group(
            (order[places], places, rank[places]),
            by_image[label_places],
            (found.images, labelled.images),
            (similarity, least),
            (ignored, labelled.crowd),
            taken_labels,
        )
    uncounted = np.empty(shape, bool)
    uncounted[:] = _outside(found.areas[order], low, high)[:, None]
    matched = np.nonzero(taken_labels >= 0)
    uncounted[matched] = ignored[matched[0], taken_labels[matched]]
    return Matches(
        found=order,
        labels=taken_labels,
        ignored=uncounted,
        positives=_per_image(~ignored, labelled.images),
    )


def _match_group(
    found: tuple[IntArray, IntArray, IntArray],
    labels: IntArray,
    images: tuple[IntArray, IntArray],
    rule: tuple[Similarity, FloatArray],
    flags: tuple[BoolArray, BoolArray],
    taken_labels: IntArray,
) -> None:
    """Match the found objects of some images with their labels; results go to `taken_labels`."""
    objects, places, rank = found
    similarity, least = rule
    rows, row_of_object = np.unique(images[0][objects], return_inverse=True)
    row_of_label = np.searchsorted(rows, images[1][labels])
    column = place_in_run(images[1][labels])
    width, depth = int(column.max()) + 1, int(rank.max()) + 1
    label_at = np.full((width, len(rows)), -1, np.intp)
    label_at[column, row_of_label] = labels
    there = label_at >= 0
    similar = np.full((depth, width, len(rows)), -1.0)
    pair_column, pair_object = np.nonzero(there[:, row_of_object])
    similar[rank[pair_object], pair_column, row_of_object[pair_object]] = similarity(
        objects[pair_object], label_at[pair_column, row_of_object[pair_object]]
    )
    place_at = np.full((depth, len(rows)), -1, np.intp)
    place_at[rank, row_of_object] = places
    counted = (~flags[0][:, label_at] & there).transpose(1, 0, 2)  # (G, A, R)
    shared = flags[1][label_at] & there  # (G, R)
    free = np.ones((width, counted.shape[1], len(least), len(rows)), bool)
    for value_all, places_now in zip(similar, place_at, strict=True):
        here = np.flatnonzero(places_now >= 0)
        value = value_all[:, here]  # (G, R)
        enough = value[:, None] >= least[:, None]  # (G, T, R)
        fits = enough[:, None] & (free[..., here] | shared[:, None, None, here])  # (G, A, T, R)
        regular = fits & counted[:, :, None, here]
        # A label that counts goes before one that is ignored, the last of equals before the others.
        fits = np.where(regular.any(axis=0), regular, fits)
        best = np.full(fits.shape[1:], -1, np.intp)
        most_similar = np.full(fits.shape[1:], -1.0)
        for label, candidate in enumerate(fits):
            better = candidate & (value[label] >= most_similar)
            best[better] = label
            np.copyto(most_similar, value[label], where=better)
        a, t, r = np.nonzero(best >= 0)
        chosen = best[a, t, r]
        free[chosen, a, t, here[r]] = False
        taken_labels[a, t, places_now[here[r]]] = label_at[chosen, here[r]]


def _groups(
    found_images: IntArray, label_images: IntArray, copies: int
) -> Iterator[tuple[IntArray, IntArray]]:
    """Places of found objects and of labels, a group of images at a time; both inputs are sorted.

    Images without found objects or without labels need no matching and are in no group. Those
    with about as many labels go together, so that little is padded.
    """
    images, starts, counts = np.unique(label_images, return_index=True, return_counts=True)
    first = np.searchsorted(found_images, images, side="left")
    last = np.searchsorted(found_images, images, side="right")
    some = np.flatnonzero(last > first)
    some = some[np.argsort(counts[some], kind="stable")]
    begin = 0
    while begin < len(some):
        end = begin + 1
        while end < len(some) and (end + 1 - begin) * counts[some[end]] * copies <= _GROUP_ELEMENTS:
            end += 1
        group = np.sort(some[begin:end])
        yield ranges(first[group], last[group]), ranges(starts[group], (starts + counts)[group])
        begin = end


def ranges(first: IntArray, last: IntArray) -> IntArray:
    """All whole numbers of several ranges, the ends left out, one range after another.

    >>> ranges(np.array([3, 9]), np.array([5, 10])).tolist()
    [3, 4, 9]
    """
    lengths = last - first
    before = np.cumsum(lengths) - lengths
    places: IntArray = np.arange(lengths.sum()) + np.repeat(first - before, lengths)
    return places


def place_in_run(values: IntArray) -> IntArray:
    """(n,) place of each element within its run of equal neighbours.

    >>> place_in_run(np.array([4, 4, 4, 9, 9])).tolist()
    [0, 1, 2, 0, 1]
    """
    if not len(values):
        return np.zeros(0, np.intp)
    begins = np.concatenate([[True], values[1:] != values[:-1]])
    return np.arange(len(values)) - np.maximum.accumulate(
        np.where(begins, np.arange(len(values)), 0)
    )


def _per_image(flags: BoolArray, images: IntArray) -> IntArray:
    """(A, images) how many of the flags (A, M) are set in each image (M,)."""
    number = int(images.max(initial=-1)) + 1
    counts = [np.bincount(images[row], minlength=number) for row in flags]
    return np.array(counts, np.intp).reshape(len(flags), number)


def _outside(areas: FloatArray, low: FloatArray, high: FloatArray) -> BoolArray:
    """(A, n) whether n areas lie outside of A ranges."""
    return (areas < low[:, None]) | (areas > high[:, None])
