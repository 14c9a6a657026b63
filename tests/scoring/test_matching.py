"""Matching all images at once gives what COCO's loops give; laws of precision and recall."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from posepipe.scoring.matching import Found, Labelled, match
from posepipe.scoring.precision import precision_recall

RANGES = ((0.0, 1e10), (0.0, 50.0), (50.0, 1e10))
THRESHOLDS = np.array([0.3, 0.5, 0.9])


def problem(seed, images=6, most_found=7, most_labels=5):
    """Similarities and scores of few distinct values, so that there are many ties."""
    random = np.random.default_rng(seed)
    n = int(random.integers(0, images * most_found + 1))
    m = int(random.integers(0, images * most_labels + 1))
    found = Found(
        random.integers(0, images, n),
        random.integers(0, 4, n) / 4,
        random.integers(1, 100, n).astype(float),
    )
    labelled = Labelled(
        random.integers(0, images, m),
        random.integers(1, 100, m).astype(float),
        random.random(m) < 0.3,
        random.random(m) < 0.2,
    )
    similar = random.integers(0, 6, (n, m)) / 5
    return found, labelled, similar


def as_in_a_loop(found, labelled, similar, threshold, area_range, most):
    """COCO's rule, one image and one found object at a time: {found object: label or None}."""
    low, high = area_range
    taken = {}
    for image in np.unique(found.images):
        objects = np.flatnonzero(found.images == image)
        objects = objects[np.argsort(-found.scores[objects], kind="stable")][:most]
        labels = np.flatnonzero(labelled.images == image)
        ignored = [
            bool(labelled.ignored[m]) or not low <= labelled.areas[m] <= high for m in labels
        ]
        order = np.argsort(ignored, kind="stable")
        used = set()
        for n in objects:
            best, chosen, chosen_ignored = threshold, None, False
            for place in order:
                m = labels[place]
                if m in used and not labelled.crowd[m]:
                    continue
                if chosen is not None and not chosen_ignored and ignored[place]:
                    break
                if similar[n, m] < best:
                    continue
                best, chosen, chosen_ignored = similar[n, m], m, ignored[place]
            taken[n] = (chosen, chosen_ignored)
            if chosen is not None:
                used.add(chosen)
    return taken


@given(st.integers(0, 10_000), st.integers(1, 8))
def test_matches_equal_those_of_a_loop(seed, most):
    found, labelled, similar = problem(seed)
    matches = match(
        found,
        labelled,
        lambda n, m: similar[n, m],
        thresholds=THRESHOLDS,
        area_ranges=RANGES,
        most=most,
    )
    for a, area_range in enumerate(RANGES):
        for t, threshold in enumerate(THRESHOLDS):
            expected = as_in_a_loop(found, labelled, similar, threshold, area_range, most)
            assert set(expected) == set(matches.found.tolist())
            for place, n in enumerate(matches.found):
                label, ignored = expected[n]
                assert matches.labels[a, t, place] == (-1 if label is None else label)
                if label is None:
                    ignored = not area_range[0] <= found.areas[n] <= area_range[1]
                assert matches.ignored[a, t, place] == ignored


def test_groups_of_images_do_not_matter(monkeypatch):
    found, labelled, similar = problem(3, images=40)
    rule = {"thresholds": THRESHOLDS, "area_ranges": RANGES, "most": 5}
    whole = match(found, labelled, lambda n, m: similar[n, m], **rule)
    monkeypatch.setattr("posepipe.scoring.matching._GROUP_ELEMENTS", 1)
    apart = match(found, labelled, lambda n, m: similar[n, m], **rule)
    assert np.array_equal(whole.labels, apart.labels)
    assert np.array_equal(whole.ignored, apart.ignored)


@pytest.mark.parametrize("nothing", ["found", "labels", "both"])
def test_nothing_found_and_nobody_labelled(nothing):
    none = np.zeros(0, np.intp), np.zeros(0), np.zeros(0)
    one = np.zeros(1, np.intp), np.ones(1), np.ones(1)
    found = Found(*(none if nothing in ("found", "both") else one))
    images, areas, _ = none if nothing in ("labels", "both") else one
    flags = np.zeros(len(images), bool)
    labelled = Labelled(images, areas, flags, flags)
    rule = {"thresholds": THRESHOLDS, "area_ranges": RANGES[:1], "most": 5}
    matches = match(found, labelled, lambda n, m: np.ones(len(n)), **rule)
    curves = precision_recall(matches, found)
    assert matches.labels.shape == (1, 3, len(found.images))
    if nothing == "found":
        assert not curves.precision.any()
        assert not curves.recall.any()
    else:
        assert np.isnan(curves.precision).all()


@given(st.integers(0, 10_000))
def test_precision_falls_with_recall_and_nobody_is_found_twice(seed):
    found, labelled, similar = problem(seed)
    labelled = replace(labelled, ignored=labelled.ignored | labelled.crowd)  # as in COCO
    matches = match(
        found,
        labelled,
        lambda n, m: similar[n, m],
        thresholds=THRESHOLDS,
        area_ranges=RANGES[:1],
        most=20,
    )
    curves = precision_recall(matches, found)
    if matches.positives.any():
        assert (np.diff(curves.precision, axis=-1) <= 0).all()
        assert (curves.recall <= 1).all()
