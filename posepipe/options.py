"""The options of both stages."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Self

from posepipe.core.suppression import Method
from posepipe.errors import OptionError
from posepipe.pose.networks.build import Head

DEFAULT_DETECTOR = "person-detector-rtmdet-nano"
DEFAULT_POSE_MODEL = "cpn-litehrnet-256x192"
FAST_POSE_MODEL = "cpn-litehrnet-small-256x192"
FAST_SCALES = (0.65,)


def _recipes(path: str) -> dict[str, str]:
    """Marks an option that is a field of the recipe, by its table and name."""
    return {"recipe": path}


class _Options:
    """What both stages' options share: a name that stands for them, and changes to recipes."""

    changes: tuple[str, ...]

    @classmethod
    def of(cls, given: Self | str | Path | None) -> Self:
        """The options that a caller means.

        Args:
            given: options; a model's name or folder, for the defaults otherwise; None for all of
                the defaults.
        """
        if isinstance(given, str | Path):
            return cls(models=(given,))  # type: ignore[call-arg]  # its subclasses are dataclasses
        return given or cls()

    @property
    def recipe_changes(self) -> tuple[str, ...]:
        """All changes to the models' recipes, as `Recipe.with_changes` takes them."""
        named = [
            (each.metadata["recipe"], getattr(self, each.name))
            for each in fields(self)  # type: ignore[arg-type]  # its subclasses are dataclasses
            if "recipe" in each.metadata
        ]
        given = [f"{path}={json.dumps(value)}" for path, value in named if value is not None]
        return (*given, *self.changes)


@dataclass(frozen=True, kw_only=True)
class DetectionOptions(_Options):
    """How people are detected; None means the value of the first model's recipe.

    Attributes:
        models: names or folders; their boxes are pooled before NMS (the paper's table 2). Missing
            weights are downloaded if the recipe says from where (`posepipe.zoo.cache`).
        config: for the model "detectron2": a YAML file, or a name in its model zoo.
        weights: a weights file instead of the model's own; only with a single model.
        nms: the kind of non-maximum suppression.
        nms_threshold: IoU threshold of hard NMS and linear Soft-NMS.
        nms_sigma: sigma of Gaussian Soft-NMS.
        top_k: how many boxes of all classes are kept before the persons are selected.
        scales: sizes at which each image is processed, relative to the recipe's; the boxes are
            pooled.
        flip: also process the mirror image.
        min_score: the lowest score of a person; boxes below it are left out. None: the first
            model's ``[people] min_score``; 0: keep all boxes, as COCO's evaluation expects.
        batch_size: images per pass; None: by the device, see
            `posepipe.networks.resources.choose_batch_sizes`.
        changes: fields of the models' recipes to override, like "preprocessing.short_side=640".

    Raises:
        OptionError: no model, or one weights file for several models.
    """

    models: tuple[str | Path, ...] = (DEFAULT_DETECTOR,)
    config: str | Path | None = None
    weights: str | Path | None = None
    nms: Method | None = field(default=None, metadata=_recipes("suppression.method"))
    nms_threshold: float | None = field(default=None, metadata=_recipes("suppression.threshold"))
    nms_sigma: float | None = field(default=None, metadata=_recipes("suppression.sigma"))
    top_k: int | None = field(default=None, metadata=_recipes("suppression.top_k"))
    scales: tuple[float, ...] | None = field(default=None, metadata=_recipes("views.scales"))
    flip: bool = False
    min_score: float | None = field(default=None, metadata=_recipes("people.min_score"))
    batch_size: int | None = None
    changes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check_models(self.models, self.weights)

    @classmethod
    def fast(cls, **changes: Any) -> Self:
        """Faster and less accurate: images at 0.65 of the recipe's size (docs/speed.md).

        Args:
            changes: any of the attributes; they take precedence.
        """
        return cls(**{"scales": FAST_SCALES, **changes})


@dataclass(frozen=True, kw_only=True)
class PoseOptions(_Options):
    """How poses are estimated; None means the value of the first model's recipe.

    Attributes:
        models: names or folders; their heatmaps are averaged (the paper's CPN+).
        weights: a weights file instead of the model's own; only with a single model.
        head: "final", or "global": skip a CPN's RefineNet, which is faster and less accurate.
        flip: flip test: average with the mirror image.
        blur_kernel: size of the Gaussian filter on heatmaps in cells, odd; 1: no filter.
        quarter_offset: shift keypoints by a quarter cell towards the second highest response.
        rescore: pose score = box score x mean keypoint confidence; otherwise the box score.
        oks_nms: remove poses whose OKS with a better one exceeds this; None: keep all.
        batch_size: crops per pass, collected across images, on a CPU up to twice as many; None: by
            the device and `flip`, as for detection.
        changes: fields of the models' recipes to override, like "decoding.stride=4".

    Raises:
        OptionError: no model, one weights file for several models, or an OKS outside [0, 1].
    """

    models: tuple[str | Path, ...] = (DEFAULT_POSE_MODEL,)
    weights: str | Path | None = None
    head: Head = "final"
    flip: bool | None = field(default=None, metadata=_recipes("decoding.flip"))
    blur_kernel: int | None = field(default=None, metadata=_recipes("decoding.blur_kernel"))
    quarter_offset: bool | None = field(default=None, metadata=_recipes("decoding.quarter_offset"))
    rescore: bool = True
    oks_nms: float | None = None
    batch_size: int | None = None
    changes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check_models(self.models, self.weights)
        if self.oks_nms is not None and not 0 <= self.oks_nms <= 1:
            raise OptionError(f"the OKS of NMS must lie in [0, 1], got {self.oks_nms}")

    @classmethod
    def fast(cls, **changes: Any) -> Self:
        """Faster and less accurate: a smaller model without the flip test (docs/speed.md).

        Args:
            changes: any of the attributes; they take precedence.
        """
        return cls(**{"models": (FAST_POSE_MODEL,), "flip": False, **changes})


def _check_models(models: object, weights: str | Path | None) -> None:
    if not isinstance(models, tuple | list) or not models:
        raise OptionError(f"models takes at least one model, in a tuple; got {models!r}")
    if weights is not None and len(models) > 1:
        raise OptionError("a weights file of your own goes with a single model")
