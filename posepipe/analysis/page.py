"""An explanation as a page: one HTML file with its plots inside.

Plots are matplotlib's (extra ``posepipe[explain]``), as SVG.
"""

from __future__ import annotations

import html
import io
import urllib.parse
from typing import Any

import numpy as np

from posepipe.analysis.explain import Explanation
from posepipe.analysis.report import KINDS, as_table
from posepipe.errors import MissingDependencyError
from posepipe.scoring.coco import THRESHOLDS
from posepipe.scoring.matching import FloatArray
from posepipe.scoring.precision import RECALLS, PrecisionRecall

# Good in grey, then from mild to grave; they differ in lightness, too.
_COLOURS = ("#cfd4da", "#ffd166", "#ef8a3c", "#7b4fb5", "#b3243b")
_ROOM = 0.92  # a bar that ends beyond has its number in front
# What the viewer can filter by.
_FILTERS = (*KINDS, "false positive", "false negative")
_SHOWN_THRESHOLDS = (0, 5, 9)  # OKS 0.5, 0.75 and 0.95

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>
body {{ font: 15px system-ui, sans-serif; max-width: 1000px; margin: 2em auto; padding: 0 1em; }}
pre {{ overflow-x: auto; background: #f4f5f7; padding: 1em; }} figure {{ margin: 2em 0; }}
svg {{ max-width: 100%; height: auto; }} figcaption {{ color: #555; }}
</style></head><body><h1>{title}</h1>{link}{body}</body></html>
"""


def as_page(
    explanation: Explanation, curves: PrecisionRecall, *, title: str, view: str = ""
) -> str:
    """The page as HTML.

    Args:
        explanation: of some poses.
        curves: of the same poses, of people of any size first.
        title: what was scored.
        view: the address of a page of `posepipe view` with the same poses; "" for none.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    link = _links(explanation, view) if view else ""
    figures = []
    if explanation.ap is not None:
        figures = [
            (
                _costs(explanation),
                "AP as it is, and its gain when one kind of error after another is corrected.",
            ),
            (
                _precision(curves.precision[0]),
                "Precision and recall at three OKS thresholds: a curve ends at the share of people "
                "who are found so exactly.",
            ),
            (_kinds(explanation), "Errors at each keypoint of the people found."),
        ]
    body = "".join(
        f"<figure>{svg}<figcaption>{html.escape(caption)}</figcaption></figure>"
        for svg, caption in figures
    )
    table = f"<pre>{html.escape(as_table(explanation))}</pre>"
    return _PAGE.format(title=html.escape(title), link=link, body=body + table)


def _links(explanation: Explanation, view: str) -> str:
    """Links into the viewer: the worst images, those with each kind of error, at each keypoint."""
    address = html.escape(view, quote=True)

    def link(text: str, **fields: object) -> str:
        fragment = urllib.parse.urlencode({"sort": "oks", **fields})
        return f'<a href="{address}#{html.escape(fragment)}">{html.escape(text)}</a>'

    kinds = [cause.name for cause in explanation.causes if cause.name in _FILTERS and cause.count]
    keypoints = [link(name, keypoint=place) for place, name in enumerate(explanation.per_keypoint)]
    return "".join(
        f"<p>{paragraph}</p>"
        for paragraph in (
            "Images: " + link("the worst ones first"),
            "With an error of a kind: " + ", ".join(link(kind, error=kind) for kind in kinds),
            "With an error at a keypoint: " + ", ".join(keypoints),
        )
        if not paragraph.endswith(": ")
    )


def _costs(explanation: Explanation) -> str:
    figure, axes = _figure(4)
    names = ["as it is", *(cause.name for cause in explanation.causes)]
    reached = [explanation.ap or 0.0, *(cause.progressive for cause in explanation.causes)]
    before = [0.0, *reached[:-1]]
    gained = np.subtract(reached, before)
    colours = ["#4a6fa5", *["#e07a3f"] * len(explanation.causes)]
    axes.barh(names, 100 * gained, left=100 * np.array(before), color=colours)
    for place, (end, gain) in enumerate(zip(reached, gained, strict=True)):
        text = f"{100 * gain:+.1f}" if place else f"{100 * gain:.1f}"
        inside = end > _ROOM
        axes.annotate(
            *(text, (100 * (before[place] if inside else end), place)),
            **{"xytext": (-4 if inside else 4, 0), "textcoords": "offset points"},
            **{"ha": "right" if inside else "left", "va": "center"},
        )
    axes.invert_yaxis()
    axes.set_xlim(0, 100)
    axes.set_xlabel("AP, per cent")
    return _svg(figure, "costs")


def _precision(precision: FloatArray) -> str:
    figure, axes = _figure(4)
    for place in _SHOWN_THRESHOLDS:
        axes.plot(100 * RECALLS, 100 * precision[place], label=f"OKS {THRESHOLDS[place]:.2f}")
    axes.set(xlabel="recall, per cent", ylabel="precision, per cent", xlim=(0, 100), ylim=(0, 101))
    axes.legend()
    return _svg(figure, "precision")


def _kinds(explanation: Explanation) -> str:
    names = list(explanation.per_keypoint)
    figure, axes = _figure(1 + 0.28 * len(names))
    left = np.zeros(len(names))
    for kind, colour in zip(KINDS, _COLOURS, strict=True):
        shares = [100 * explanation.per_keypoint[name].get(kind, 0.0) for name in names]
        axes.barh(names, shares, left=left, color=colour, label=kind)
        left = left + shares
    axes.invert_yaxis()
    axes.set(xlabel="per cent of labelled keypoints", xlim=(0, 100))
    axes.legend(ncols=len(KINDS), loc="lower center", bbox_to_anchor=(0.5, 1))
    return _svg(figure, "kinds")


def _figure(height: float) -> tuple[Any, Any]:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependencyError(
            "the page needs matplotlib: pip install 'posepipe[explain]'"
        ) from error
    figure = Figure(figsize=(9, height), layout="constrained")
    return figure, figure.subplots()


def _svg(figure: Any, name: str) -> str:
    """The figure as SVG; ids inside begin otherwise for each name, as all are in one page."""
    from matplotlib import rc_context

    stream = io.StringIO()
    # Neither a date nor random ids: the same numbers give the same page.
    with rc_context({"svg.hashsalt": name, "svg.fonttype": "none"}):
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    text = stream.getvalue()
    return text[text.index("<svg") :]
