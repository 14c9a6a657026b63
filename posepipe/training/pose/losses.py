"""CPN's losses (sections 3.2.1, 3.2.2, 4.2.3): L2 on heatmaps, with online hard keypoint mining.

Every loss is handed over as a sum and the number it is to be divided by, so that parts of a batch,
on other processes or one after the other, add up to what the whole batch gives.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, Protocol

import torch
from msgspec import Meta
from torch import Tensor
from torch.nn import functional as F

from posepipe.errors import RecipeError
from posepipe.pose.heatmaps import Cells, encode, encode_blurred_cell
from posepipe.pose.networks.outputs import TrainingHeatmaps
from posepipe.zoo.bounds import Number, Whole
from posepipe.zoo.recipe import Table


class PoseLossTable(Table, frozen=True):
    """The recipe's table ``[training.loss]`` of a pose network.

    The defaults are the paper's CPN. Its table 6 is `hardest`; its table 7 is `levels` and
    `refine`, "l2*" being L2 with online hard keypoint mining. The ancestors are the two public CPN
    code bases.

    Attributes:
        levels: the loss of intermediate predictions (GlobalNet's), on all annotated keypoints with
            "l2", on each person's hardest with "l2*".
        refine: the loss of the final prediction (RefineNet's); "none" for a network that has none,
            as GlobalNet alone.
        hardest: M, how many keypoints of a person are mined; K or more means no mining.
        target: "gaussian" is centred on the keypoint; "blurred_cell" is the ancestors' lit cell,
            blurred.
        sigmas: standard deviations of the Gaussians in cells, for C2 to C5; one serves all levels.
        kernels: of "blurred_cell", widths in cells for C2 to C5, odd; one serves all levels.
        refine_sigma, refine_kernel: of the final prediction's target; 0: that of C2, the first.
        occluded_levels: what intermediate predictions learn of annotated keypoints that cannot be
            seen (COCO's visibility 1): their place; with "zero" an empty map (the ancestors); with
            "ignore" nothing.
        unlabelled_levels: what they learn of keypoints with visibility 0: nothing, or with "zero"
            an empty map (the ancestors).
        divide_by: sums of L2 are divided by the number of keypoints in them ("counted"), or by the
            people times M, or times K where nothing is mined, however few are annotated ("hardest",
            the ancestors).
        levels_weight: factor on the loss of intermediate predictions, which is a mean over them.
        scale: factor on both L2 losses: peaks of 1 in maps of thousands of cells make small losses.
        localisation: weight of a cross entropy between the softmax over a map's cells and its
            normalised target, summed over all predictions that have a loss. L2 alone stays for long
            on the plateau where every map is zero; this leads off it. Not in the paper.
        sharpness: factor before that softmax, for maps relative to the amplitude.
    """

    levels: Literal["none", "l2", "l2*"] = "l2"
    refine: Literal["none", "l2", "l2*"] = "l2*"
    hardest: Whole = 8
    target: Literal["gaussian", "blurred_cell"] = "gaussian"
    sigmas: Annotated[tuple[Number, ...], Meta(max_length=100)] = (1.4, 1.7, 2.0, 2.6)
    kernels: Annotated[tuple[Whole, ...], Meta(max_length=100)] = ()
    refine_sigma: Number = 0.0
    refine_kernel: Whole = 0
    occluded_levels: Literal["learn", "zero", "ignore"] = "learn"
    unlabelled_levels: Literal["ignore", "zero"] = "ignore"
    divide_by: Literal["counted", "hardest"] = "counted"
    levels_weight: Number = 1.0
    scale: Number = 1.0
    localisation: Number = 0.0
    sharpness: Number = 10.0

    def __post_init__(self) -> None:
        if self.hardest < 1:
            raise ValueError(f"hardest must be at least 1, got {self.hardest}")
        if self.levels == self.refine == "none":
            raise ValueError('levels and refine are both "none": nothing would be learnt')
        if not self.sigmas or min(self.sigmas) <= 0 or self.refine_sigma < 0:
            raise ValueError("sigmas must be one or more positive numbers, refine_sigma 0 or more")
        if any(
            kernel < 1 or kernel % 2 == 0 for kernel in (*self.kernels, self.refine_kernel or 1)
        ):
            raise ValueError("kernels and refine_kernel must be odd and positive")
        if (self.target == "blurred_cell") != bool(self.kernels):
            raise ValueError(
                'target = "blurred_cell" and kernels go together: give both or neither'
            )
        factors = (self.levels_weight, self.scale, self.localisation, self.sharpness)
        if min(factors) < 0:
            raise ValueError("levels_weight, scale, localisation and sharpness must be 0 or more")


class Labels(Protocol):
    """What a loss asks of a batch of B crops; a `PoseBatch` has it."""

    @property
    def points_xy(self) -> Tensor:
        """(B, K, 2) crop pixels; any values for unannotated keypoints."""

    @property
    def weights(self) -> Tensor:
        """(B, K) in [0, 1]; 0: not annotated or outside the crop; below 1: doubtful."""

    @property
    def visibility(self) -> Tensor:
        """(B, K) COCO's 0, 1, 2; 0 where outside the crop."""


@dataclass(frozen=True, eq=False)
class Part:
    """One loss of a batch or of a part of one.

    Attributes:
        total: scalar float32, a sum; its factors in the recipe are in it.
        count: scalar float32 without gradient, what the sum is to be divided by.
    """

    total: Tensor
    count: Tensor

    @property
    def mean(self) -> Tensor:
        """The loss, when this part is the whole batch; 0 where nothing was counted."""
        return self.total / self.count.clamp(min=1)


Losses = dict[str, Part]


def pose_loss(
    heatmaps: TrainingHeatmaps,
    batch: Labels,
    table: PoseLossTable,
    *,
    stride: int,
    amplitude: float,
    cells: Cells = "squares",
) -> tuple[Losses, Tensor]:
    """The losses of one batch or of a part of one, computed in fp32 also under autocast.

    "global": L2 of intermediate predictions, each with its own target (CPN, section 3.2.1; which
    Gaussians is not stated there). "refine": L2 of the final prediction on a person's M keypoints
    with the largest losses (section 3.2.2). "localisation": see `PoseLossTable`. Only those that
    the table asks for and the network has; the loss to learn from is the sum of their means.

    A keypoint's loss is the mean square over its map, times its weight: the mining ranks these
    products, so a doubtful keypoint is mined only where it is all the more wrong, and it counts as
    a whole one in the divisor. Unannotated keypoints give no loss and are never mined; a person
    with fewer annotated keypoints than M gives those there are.

    Args:
        heatmaps: the predictions, of any size and dtype.
        batch: the labels; B = 0 is legal.
        table: the settings.
        stride: crop pixels per heatmap cell.
        amplitude: the targets' peak.
        cells: where they lie, see `Cells`.

    Returns:
        The losses by name, and (K,) int64: in how many people each keypoint was among those that
        the final prediction learns from.

    Raises:
        RecipeError: see `check_loss`.
    """
    check_loss(table, levels=len(heatmaps.levels), refined=heatmaps.refined is not None)
    with torch.autocast(batch.points_xy.device.type, enabled=False):
        return _pose_loss(heatmaps, batch, table, stride=stride, amplitude=amplitude, cells=cells)


def pose_loss_counts(
    batch: Labels, table: PoseLossTable, *, levels: int, refined: bool
) -> dict[str, Tensor]:
    """The counts of `pose_loss`, which the labels alone determine, so before any prediction.

    Args:
        batch: the labels.
        table: the settings.
        levels: how many intermediate predictions the network makes.
        refined: whether it makes a final one.

    Returns:
        By the names that `pose_loss` gives, scalar float32.
    """
    weights = batch.weights.float()
    keypoints = weights.shape[1]

    def count(weights: Tensor, *, mining: bool) -> Tensor:
        kept = _kept(table, keypoints, mining=mining)
        if table.divide_by == "hardest":
            return weights.new_full((), len(weights) * kept)
        return weights.gt(0).sum(dim=1).clamp(max=kept).sum().float()

    counts: dict[str, Tensor] = {}
    if levels and table.levels != "none":
        counting, _ = _level_weights(weights, batch.visibility, table)
        counts["global"] = count(counting, mining=table.levels == "l2*")
    if refined:
        counts["refine"] = count(weights, mining=table.refine == "l2*")
    if table.localisation:
        counts["localisation"] = weights.gt(0).sum().float()
    return counts


def check_loss(table: PoseLossTable, *, levels: int, refined: bool) -> None:
    """Check that the settings fit the number of a network's predictions.

    Raises:
        RecipeError: they contradict each other or the network; the message names the field.
    """

    def wrong(message: str) -> RecipeError:
        return RecipeError(f"[training.loss]: {message}")

    if refined and table.refine == "none":
        raise wrong('refine is "none", but the network has a final prediction: set "l2" or "l2*"')
    if not refined and table.refine != "none":
        raise wrong(
            f"refine is {table.refine!r}, but the network has no RefineNet or other final "
            'prediction: set refine = "none"'
        )
    if not refined and levels == 0:
        raise wrong("the network predicts nothing to learn from")
    name = "sigmas" if table.target == "gaussian" else "kernels"
    given = len(getattr(table, name))
    if table.levels != "none" and levels and given not in (1, levels):
        raise wrong(
            f"{name} has {given} numbers, but the network has {levels} intermediate predictions: "
            "give one number for all, or one for each"
        )


def keypoint_l2(heatmaps: Tensor, targets: Tensor) -> Tensor:
    """(B, K) float32 mean squared errors over each keypoint's map, both (B, K, h, w)."""
    return (heatmaps.float() - targets).square().mean(dim=(-2, -1))


def hardest_keypoints(losses: Tensor, counted: Tensor, hardest: int) -> Tensor:
    """(B, K) bool: each person's `hardest` keypoints of largest loss (CPN, section 3.2.2).

    Args:
        losses: (B, K), 0 or more.
        counted: (B, K) bool, those to choose from; where there are no more than M, all are chosen.
        hardest: M.

    >>> hardest_keypoints(torch.tensor([[3.0, 1.0, 2.0]]), torch.ones(1, 3, dtype=torch.bool), 2)
    tensor([[ True, False,  True]])
    """
    if hardest >= losses.shape[1]:
        return counted
    ranked = losses.detach().masked_fill(~counted, -1.0)
    chosen = ranked.topk(hardest, dim=1).indices
    return torch.zeros_like(counted).scatter(1, chosen, True) & counted


def _pose_loss(
    heatmaps: TrainingHeatmaps,
    batch: Labels,
    table: PoseLossTable,
    *,
    stride: int,
    amplitude: float,
    cells: Cells = "squares",
) -> tuple[Losses, Tensor]:
    weights = batch.weights.float()
    # Points of unannotated keypoints may have any value, NaN included.
    points = torch.where(weights.gt(0)[..., None], batch.points_xy.float(), 0.0)
    totals: dict[str, Tensor] = {}
    mined = torch.zeros(weights.shape[1], dtype=torch.int64, device=weights.device)
    placing = weights.new_zeros(())
    sharpness = table.sharpness / amplitude
    if heatmaps.levels and table.levels != "none":
        counting, placed = _level_weights(weights, batch.visibility, table)
        kept = _kept(table, weights.shape[1], mining=table.levels == "l2*")
        total = weights.new_zeros(())
        for level, maps in enumerate(heatmaps.levels):
            targets = _targets(
                points, maps, table, level, stride=stride, amplitude=amplitude, cells=cells
            )
            shown = targets * placed.gt(0)[..., None, None]
            total = total + _l2(maps, shown, counting, kept)[0]
            if table.localisation:
                placing = placing + _cross_entropy(maps, targets, placed, sharpness)
        totals["global"] = table.scale * table.levels_weight / len(heatmaps.levels) * total
    if heatmaps.refined is not None:
        maps = heatmaps.refined
        kept = _kept(table, weights.shape[1], mining=table.refine == "l2*")
        targets = _targets(
            points, maps, table, None, stride=stride, amplitude=amplitude, cells=cells
        )
        total, chosen = _l2(maps, targets, weights, kept)
        totals["refine"] = table.scale * total
        mined = chosen.sum(dim=0)
        if table.localisation:
            placing = placing + _cross_entropy(maps, targets, weights, sharpness)
    if table.localisation:
        totals["localisation"] = table.localisation * placing
    counts = pose_loss_counts(
        batch, table, levels=len(heatmaps.levels), refined=heatmaps.refined is not None
    )
    return {name: Part(total, counts[name]) for name, total in totals.items()}, mined


def _kept(table: PoseLossTable, keypoints: int, *, mining: bool) -> int:
    """How many keypoints of a person an L2 loss looks at, at most."""
    return min(table.hardest, keypoints) if mining else keypoints


def _level_weights(
    weights: Tensor, visibility: Tensor, table: PoseLossTable
) -> tuple[Tensor, Tensor]:
    """Of intermediate predictions: (B, K) weights of L2, and of keypoints whose place is learnt."""
    occluded = visibility.eq(1)
    placed = weights
    if table.occluded_levels != "learn":
        placed = torch.where(occluded, 0.0, weights)
    counting = weights if table.occluded_levels == "zero" else placed
    if table.unlabelled_levels == "zero":
        unlabelled = weights.eq(0) & visibility.eq(0)
        counting = torch.where(unlabelled, 1.0, counting)
    return counting, placed


def _targets(
    points: Tensor,
    maps: Tensor,
    table: PoseLossTable,
    level: int | None,
    *,
    stride: int,
    amplitude: float,
    cells: Cells = "squares",
) -> Tensor:
    """(B, K, h, w) targets of an intermediate prediction, or with None of the final one."""
    shape_hw = (maps.shape[-2], maps.shape[-1])
    if table.target == "blurred_cell":
        kernel = table.kernels[(level or 0) % len(table.kernels)]
        if level is None and table.refine_kernel:
            kernel = table.refine_kernel
        return encode_blurred_cell(
            points, shape_hw, stride=stride, kernel=kernel, amplitude=amplitude
        )
    sigma = table.sigmas[(level or 0) % len(table.sigmas)]
    if level is None and table.refine_sigma:
        sigma = table.refine_sigma
    return encode(points, shape_hw, stride=stride, sigma=sigma, amplitude=amplitude)


def _l2(maps: Tensor, targets: Tensor, weights: Tensor, kept: int) -> tuple[Tensor, Tensor]:
    """The sum of L2 over each person's `kept` hardest keypoints; (B, K) bool: which those are."""
    losses = keypoint_l2(maps, targets) * weights
    chosen = hardest_keypoints(losses, weights.gt(0), kept)
    return (losses * chosen).sum(), chosen


def _cross_entropy(maps: Tensor, targets: Tensor, weights: Tensor, sharpness: float) -> Tensor:
    """The sum of cross entropies between softmax over cells and normalised target, weighted."""
    wanted = targets.flatten(2)
    wanted = wanted / wanted.sum(dim=-1, keepdim=True).clamp(min=1e-6)
    log_shares = F.log_softmax(sharpness * maps.float().flatten(2), dim=-1)
    return -((wanted * log_shares).sum(dim=-1) * weights).sum()
