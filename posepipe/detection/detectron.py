"""detectron2's Faster, Mask and Cascade R-CNN as detectors: the only file that imports detectron2.

It is imported when a model asks for it, never before. All boxes of all classes before NMS are what
detectron2 gives with its public settings at an NMS threshold of 1.0 and no limit per image;
running NMS afterwards gives its own result. A Cascade R-CNN averages the scores of its three heads
and takes the boxes of the last one, which are one box for all classes; the settings above reach
it too.

Conventions converted here: detectron2's images are BGR where its configuration says so; its box
edges are continuous like ours; its classes are counted without gaps from 0.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from posepipe.detection.candidates import (
    Candidates,
    CandidatesTable,
    DetectorInput,
    DetectorTable,
    Origin,
    alike,
)
from posepipe.detection.categories import category_ids_of
from posepipe.errors import MissingDependencyError, RecipeError, WeightsError
from posepipe.networks.devices import precision_name
from posepipe.networks.precision import run_in_precision
from posepipe.networks.runtimes.base import Placement
from posepipe.zoo.recipe import Recipe
from posepipe.zoo.sources import zoo_folder
from posepipe.zoo.weights import find_weights, fit_state, read_state

HOW_TO_GET_IT = (
    "this model needs detectron2, which is not installed: get its source from "
    "https://github.com/facebookresearch/detectron2 and run "
    "`pip install 'setuptools>=77,<81'` and `pip install --no-build-isolation <its folder>`"
)

# Anchors and colours, which older files still contain; all else must fit.
_NOT_WEIGHTS = ("proposal_generator.anchor_generator.cell_anchors.", "pixel_mean", "pixel_std")


class DetectronDetector:
    """A `posepipe.detection.candidates.Detector` around a detectron2 R-CNN.

    Attributes:
        network: the R-CNN, in evaluation mode on its device; it takes detectron2's list of dicts.
        origin: what it consists of.
    """

    def __init__(
        self,
        network: Any,
        config: Any,
        *,
        origin: Origin,
        category_ids: Sequence[int],
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """Take over a network that was built from `candidate_config`.

        Args:
            network: detectron2's GeneralizedRCNN, with its weights.
            config: what it was built from.
            origin: what it consists of.
            category_ids: the COCO category id of each class of the network.
            dtype: of convolutions and linear layers; box arithmetic stays in float32.
        """
        self.network = network.eval().requires_grad_(False)
        self.origin = origin
        self._config = config
        self._category_ids = np.array(category_ids, np.int64)
        # The heads of a Cascade R-CNN are lists of heads, and a C4 network has res5 for one.
        heads = network.roi_heads
        parts = [getattr(heads, name, None) for name in ("box_head", "box_predictor", "res5")]
        modules = [network.backbone, network.proposal_generator.rpn_head]
        for part in parts:
            if part is not None:
                modules += list(part) if isinstance(part, nn.ModuleList) else [part]
        run_in_precision(modules, dtype)

    def prepare(self, image: npt.NDArray[np.uint8], *, scale: float = 1.0) -> DetectorInput:
        """The image at the network's size, resized by detectron2's own code.

        See `Detector.prepare`.
        """
        height, width = image.shape[:2]
        inputs = self._config.INPUT
        pixels = image[:, :, ::-1] if inputs.FORMAT == "BGR" else image
        if inputs.MIN_SIZE_TEST > 0:  # 0 is detectron2's "as it is"
            from detectron2.data import transforms

            shape_hw = transforms.ResizeShortestEdge.get_output_shape(
                height, width, inputs.MIN_SIZE_TEST * scale, inputs.MAX_SIZE_TEST * scale
            )
            new_h, new_w = (max(1, side) for side in shape_hw)
            pixels = transforms.ResizeTransform(height, width, new_h, new_w).apply_image(pixels)
        return DetectorInput(np.ascontiguousarray(pixels), (width, height))

    def __call__(self, batch: Sequence[DetectorInput]) -> list[Candidates]:
        """The candidates of each image; images that pad to the same shape run together."""
        found: list[Candidates] = [Candidates.none()] * len(batch)
        for group, members in alike(batch, self._padded_shape):
            inputs = [_as_input(ready) for ready in members]
            with torch.inference_mode():
                outputs = self.network(inputs)
            for position, output in zip(group, outputs, strict=True):
                found[position] = self._candidates(output["instances"])
        return found

    def _candidates(self, instances: Any) -> Candidates:
        classes = instances.pred_classes.cpu().numpy()
        return Candidates(
            instances.pred_boxes.tensor.float().cpu().numpy(),
            instances.scores.float().cpu().numpy(),
            self._category_ids[classes],
        )

    def _padded_shape(self, pixels: npt.NDArray[np.uint8]) -> tuple[int, int]:
        step = max(1, self.network.backbone.size_divisibility)
        height, width = (-(-side // step) * step for side in pixels.shape[:2])
        return height, width


def load(
    recipe: Recipe,
    *,
    placement: Placement,
    weights: str | Path | None = None,
) -> DetectronDetector:
    """The detector of a recipe with ``backend = "detectron2"``: see `Backend.load`.

    ``[detector]`` and ``[candidates]`` are read; preprocessing is the configuration's.
    """
    table = recipe.table("detector", DetectorTable)
    _check_installed(table.config)
    import detectron2
    from detectron2.modeling import build_model

    logging.getLogger("torch.fx._symbolic_trace").addFilter(_is_of_use)
    min_score = recipe.table("candidates", CandidatesTable).min_score
    config = candidate_config(
        table.config, recipe.folder, min_score=min_score, device=placement.device
    )
    classes = int(config.MODEL.ROI_HEADS.NUM_CLASSES)
    category_ids = category_ids_of(table.category_ids, classes, table.config)
    try:
        path, digest = find_weights(recipe, weights)
    except WeightsError as error:
        raise WeightsError(f"{error}{_where_to_fetch(table.config)}") from None
    network, state = build_model(config), read_state(path)
    unused = _unused_heads(table.config, recipe.folder)
    for head in unused:
        if not any(key.startswith(head) for key in state):
            raise WeightsError(
                f"{path} is of another network: it has no {head + '…'!r}, which {table.config} has"
            )
    fit_state(network, state, path, ignored=(*_NOT_WEIGHTS, *unused))
    origin = Origin(
        recipe.name, f"detectron2 {detectron2.__version__}", digest, precision_name(placement.dtype)
    )
    return DetectronDetector(
        network, config, origin=origin, category_ids=category_ids, dtype=placement.dtype
    )


def build(recipe: Recipe) -> None:
    """None: only detectron2 knows what its configurations stand for."""


def detector(
    network: Any,
    recipe: Recipe,
    *,
    origin: Origin,
    device: torch.device,
    dtype: torch.dtype,
) -> DetectronDetector:
    """A detector around detectron2's own network: see `Backend.detector`.

    Raises:
        MissingDependencyError: detectron2 is not installed.
    """
    table = recipe.table("detector", DetectorTable)
    min_score = recipe.table("candidates", CandidatesTable).min_score
    config = candidate_config(table.config, recipe.folder, min_score=min_score, device=device)
    ids = category_ids_of(table.category_ids, int(config.MODEL.ROI_HEADS.NUM_CLASSES), table.config)
    return DetectronDetector(network, config, origin=origin, category_ids=ids, dtype=dtype)


def candidate_config(config: str, folder: Path, *, min_score: float, device: torch.device) -> Any:
    """A detectron2 configuration, set to give all boxes of all classes before NMS.

    Args:
        config: a name of the model zoo, or a YAML file.
        folder: relative file names start here.
        min_score: boxes that do not score higher are not handed over.
        device: where the network is built.

    Returns:
        detectron2's CfgNode, frozen.

    Raises:
        MissingDependencyError: detectron2 is not installed.
        RecipeError: no such configuration, a damaged one, or one of another kind of network.
    """
    node = _read_config(config, folder)
    node.MODEL.DEVICE = str(device)
    node.MODEL.MASK_ON = node.MODEL.KEYPOINT_ON = False
    node.MODEL.ROI_HEADS.SCORE_THRESH_TEST = min_score
    node.MODEL.ROI_HEADS.NMS_THRESH_TEST = 1.0
    node.TEST.DETECTIONS_PER_IMAGE = -1  # detectron2: below 0 is no limit
    node.MODEL.WEIGHTS = ""  # read here, safely
    node.freeze()
    return node


def _read_config(config: str, folder: Path) -> Any:
    """A detectron2 configuration of an R-CNN as it is written: see `candidate_config`."""
    _check_installed(config)
    from detectron2.config import get_cfg

    node, file = get_cfg(), _config_file(config, folder)
    try:
        node.merge_from_file(str(file), allow_unsafe=False)
    except Exception as error:
        # yacs and PyYAML raise many kinds: KeyError, ValueError, AssertionError, YAMLError.
        reason = (str(error) or type(error).__name__).splitlines()[0]
        if "python/" in reason:
            raise RecipeError(
                f"{file} contains Python code, as those of RetinaNet do, which is not run"
                f"{_natively(config)}"
            ) from None
        raise RecipeError(f"{file} is not a detectron2 configuration: {reason}") from None
    architecture, proposals = node.MODEL.META_ARCHITECTURE, node.MODEL.PROPOSAL_GENERATOR.NAME
    if architecture != "GeneralizedRCNN" or proposals != "RPN":
        raise RecipeError(
            f"{file} describes a {architecture} with {proposals}: only Faster, Mask and Cascade "
            f"R-CNN are run (GeneralizedRCNN with RPN){_natively(config)}"
        )
    return node


def _unused_heads(config: str, folder: Path) -> tuple[str, ...]:
    """Key prefixes of the heads that a configuration has but that are not run."""
    model = _read_config(config, folder).MODEL
    heads = {"roi_heads.mask_head.": model.MASK_ON, "roi_heads.keypoint_head.": model.KEYPOINT_ON}
    return tuple(head for head, has_it in heads.items() if has_it)


def _natively(config: str) -> str:
    """Which recipe runs a configuration without detectron2, as the end of a sentence."""
    name = "detectron2-" + Path(config).stem.lower().replace("_", "-")
    there_is = (zoo_folder() / name).is_dir()
    return f"; model {name} is the same network and needs no detectron2" if there_is else ""


def _is_of_use(record: logging.LogRecord) -> bool:
    """False for torch's warning of a function that detectron2 calls in every run."""
    return "is_fx_tracing" not in record.getMessage()


def _check_installed(config: str) -> None:
    try:
        import detectron2.model_zoo  # noqa: F401  # it needs more than detectron2 itself does
    except ImportError as error:
        missing = (error.name or "").split(".")[0]
        if missing == "detectron2":
            raise MissingDependencyError(HOW_TO_GET_IT + _natively(config)) from None
        package = {"pkg_resources": "setuptools>=77,<81"}.get(missing, missing)
        remedy = f": pip install '{package}'" if package else ""
        raise MissingDependencyError(
            f"detectron2 is installed but cannot be imported: {error}{remedy}{_natively(config)}"
        ) from None


def _config_file(config: str, folder: Path) -> Path:
    if not config:
        raise RecipeError(
            "a detectron2 model needs a configuration, a YAML file or a name of its model zoo: "
            'config = "…" in the recipe\'s [detector], or --config'
        )
    from detectron2 import model_zoo

    own = folder / config
    if own.is_file():
        return own
    try:
        return Path(model_zoo.get_config_file(config))
    except RuntimeError:
        raise RecipeError(
            f"no configuration {config!r}: there is no file {own}, and detectron2's model zoo has "
            "none of that name"
        ) from None


def _where_to_fetch(config: str) -> str:
    from detectron2 import model_zoo

    try:
        return f"; detectron2's own are at {model_zoo.get_checkpoint_url(config)}"
    except RuntimeError:
        return ""


def _as_input(ready: DetectorInput) -> dict[str, Any]:
    """What detectron2's networks take for one image, with the size its boxes are scaled to."""
    width, height = ready.size_wh
    pixels = torch.from_numpy(ready.pixels.transpose(2, 0, 1).astype(np.float32))
    return {"image": pixels, "width": width, "height": height}
