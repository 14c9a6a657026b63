"""What can be chosen about each stage: detectors and their boxes, pose networks and their poses."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from posepipe.core.suppression import Method, Suppression
from posepipe.errors import OptionError
from posepipe.pose.networks.build import Head

DEFAULT_DETECTOR = "person-detector-mobilenetv2-fpn"
DEFAULT_POSE_MODEL = "cpn-mobilenetv2-256x192"
FAST_POSE_MODEL = "cpn-mobilenetv2-small-256x192"
FAST_SCALES = (0.65,)


@dataclass(frozen=True, kw_only=True)
class DetectionOptions:
    """How people are detected; None means what the first model's recipe says.

    Attributes:
        models: names or folders; their boxes are pooled before NMS (the paper's table 2). Weights
            that are not here are fetched if the model's recipe says from where
            (`posepipe.zoo.cache`).
        config: with the model "detectron2": a YAML file or a name of its model zoo.
        weights: another weights file than the model's own; for a single model.
        nms: the kind of suppression.
        nms_threshold: IoU of hard and linear Soft-NMS.
        nms_sigma: of Gaussian Soft-NMS.
        top_k: how many boxes of all classes stay before the persons are chosen.
        scales: sizes at which each picture is looked at, relative to the recipe's.
        flip: look at the mirror image, too.
        min_score: what counts as a person: boxes with a lower score are left out. None is the
            first model's ``[people] min_score``; 0 leaves out nobody, as COCO's scoring wants it.
        batch_size: pictures per pass.

    Raises:
        OptionError: no model, or one weights file for several models.
    """

    models: tuple[str | Path, ...] = (DEFAULT_DETECTOR,)
    config: str | Path | None = None
    weights: str | Path | None = None
    nms: Method | None = None
    nms_threshold: float | None = None
    nms_sigma: float | None = None
    top_k: int | None = None
    scales: tuple[float, ...] = (1.0,)
    flip: bool = False
    min_score: float | None = None
    batch_size: int = 4

    def __post_init__(self) -> None:
        _check_models(self.models, self.weights)

    @classmethod
    def fast(cls, **changes: Any) -> Self:
        """Options that are quicker and less exact: the pictures at 0.65 of the recipe's size.

        What it gains and costs is measured in docs/speed.md.

        Args:
            changes: any of the attributes; they have precedence.
        """
        return cls(**{"scales": FAST_SCALES, **changes})

    def suppression(self, of_recipe: Suppression) -> Suppression:
        """The recipe's suppression with these options' changes.

        Raises:
            OptionError: a value out of range.
        """
        changes = {
            "method": self.nms,
            "threshold": self.nms_threshold,
            "sigma": self.nms_sigma,
            "top_k": self.top_k,
        }
        try:
            return replace(of_recipe, **{k: v for k, v in changes.items() if v is not None})  # type: ignore[arg-type]  # a table of options of several types
        except ValueError as error:
            raise OptionError(str(error)) from None


@dataclass(frozen=True, kw_only=True)
class PoseOptions:
    """How poses are estimated; None means what the first model's recipe says.

    Attributes:
        models: names or folders; their heatmaps are averaged (the paper's CPN+).
        weights: another weights file than the model's own; for a single model.
        head: "final", or "global": leave out a CPN's RefineNet, which is faster and less exact.
        flip: average with the mirror image.
        blur_kernel: cells of the Gaussian filter on heatmaps, odd; 1 for none.
        quarter_offset: a quarter cell from the highest towards the second highest response.
        rescore: pose score = box score x mean keypoint confidence; else the box score.
        oks_nms: leave out poses whose OKS with a better one exceeds this; None for none.
        batch_size: crops per pass, gathered across pictures.

    Raises:
        OptionError: no model, one weights file for several models, or an OKS outside [0, 1].
    """

    models: tuple[str | Path, ...] = (DEFAULT_POSE_MODEL,)
    weights: str | Path | None = None
    head: Head = "final"
    flip: bool | None = None
    blur_kernel: int | None = None
    quarter_offset: bool | None = None
    rescore: bool = True
    oks_nms: float | None = None
    batch_size: int = 32

    def __post_init__(self) -> None:
        _check_models(self.models, self.weights)
        if self.oks_nms is not None and not 0 <= self.oks_nms <= 1:
            raise OptionError(f"the OKS of NMS must lie in [0, 1], got {self.oks_nms}")

    @classmethod
    def fast(cls, **changes: Any) -> Self:
        """Options that are quicker and less exact: a smaller model, without mirror images.

        What it gains and costs is measured in docs/speed.md.

        Args:
            changes: any of the attributes; they have precedence.
        """
        return cls(**{"models": (FAST_POSE_MODEL,), "flip": False, **changes})


def _check_models(models: object, weights: str | Path | None) -> None:
    if not isinstance(models, tuple | list) or not models:
        raise OptionError(f"models takes at least one model, in a tuple; got {models!r}")
    if weights is not None and len(models) > 1:
        raise OptionError("another weights file goes with a single model")
