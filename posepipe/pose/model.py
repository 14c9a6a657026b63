"""A pose model: a network with everything its recipe says about input and output."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import torch
from torch import Tensor, nn

from posepipe.core.skeleton import Skeleton
from posepipe.errors import RecipeError
from posepipe.networks.devices import resolve_device, resolve_precision
from posepipe.pose.crops import PreprocessingTable, network_input
from posepipe.pose.heatmaps import DecodingTable, mirror_back
from posepipe.pose.networks.base import PoseNetwork
from posepipe.pose.networks.build import Head, build_network, network_table, with_head
from posepipe.zoo.recipe import Recipe, load_recipe
from posepipe.zoo.skeleton import recipe_skeleton
from posepipe.zoo.weights import find_weights, fit_state, read_state

# What of a pose model's recipe has a say in its poses.
_TABLES = ("skeleton", "network", "preprocessing", "decoding")


@dataclass(frozen=True, eq=False)
class PoseModel:
    """A pose network ready to run.

    Attributes:
        name: the recipe's.
        network: images (B, 3, H, W) to heatmaps (B, K, h, w), in evaluation mode, on `device`.
        preprocessing: how crops are made and normalised.
        decoding: how keypoints are read off heatmaps.
        skeleton: what the K keypoints are.
        device: where the network lies.
        dtype: the number format of its convolutions.
        weights_sha256: of the weights file; "" for random weights.
    """

    name: str
    network: nn.Module
    preprocessing: PreprocessingTable
    decoding: DecodingTable
    skeleton: Skeleton
    device: torch.device
    dtype: torch.dtype
    weights_sha256: str = ""

    @torch.inference_mode()
    def heatmaps(self, pixels: Tensor, *, flip: bool) -> Tensor:
        """Heatmaps (B, K, h, w) float32 on the model's device, of (B, h, w, 3) uint8 RGB crops.

        Args:
            pixels: crops of the model's input size, on any device; B = 0 is legal.
            flip: average with the heatmaps of the mirrored crops (CPN, section 4.1).
        """
        if len(pixels) == 0:
            width, height = self.preprocessing.input_size_wh
            stride = self.decoding.stride
            shape = (0, len(self.skeleton), height // stride, width // stride)
            return torch.zeros(shape, device=self.device)
        images = network_input(pixels.to(self.device, non_blocking=True), self.preprocessing)
        maps = self._run(images)
        if flip:
            mirrored = self._run(images.flip(-1).contiguous(memory_format=torch.channels_last))
            maps = (maps + mirror_back(mirrored, self.skeleton.mirrored)) / 2
        return maps

    def _run(self, images: Tensor) -> Tensor:
        lower = self.dtype != torch.float32
        with torch.autocast(self.device.type, dtype=self.dtype, enabled=lower):
            maps: Tensor = self.network(images)
        return maps.float()


def load_pose_model(
    name_or_path: str | Path,
    *,
    weights: str | Path | None = None,
    head: Head = "final",
    changes: Sequence[str] = (),
    device: str = "auto",
    precision: str = "auto",
) -> PoseModel:
    """A pose model of the zoo by its name, or of any model folder by its path, with its weights.

    Args:
        name_or_path: the model.
        weights: another weights file than the one beside the recipe.
        head: "global" leaves out a CPN's RefineNet; see `build_pose_network`.
        changes: fields of the recipe set anew, see `Recipe.with_changes`.
        device: see `posepipe.networks.devices.resolve_device`.
        precision: see `posepipe.networks.devices.resolve_precision`.

    Raises:
        RecipeError: no such model, or its recipe has a wrong field.
        WeightsError: its weights are missing, damaged or of another network.
        OptionError: the device, the precision or the head is not to be had here.
    """
    recipe = load_recipe(name_or_path).with_changes(changes, known=_TABLES)
    network = build_pose_network(recipe, head=head)
    path, digest = find_weights(recipe, weights)
    unused = ("refinenet.",) if head == "global" else ()
    fit_state(network, read_state(path), path, ignored=unused)
    return pose_model(recipe, network, device=device, precision=precision, weights_sha256=digest)


def pose_model(
    recipe: Recipe,
    network: nn.Module,
    *,
    device: str = "auto",
    precision: str = "auto",
    weights_sha256: str = "",
) -> PoseModel:
    """A pose model of a recipe and a network that is already built, with whatever weights it has.

    Raises:
        RecipeError: the recipe has a wrong field.
        OptionError: the device or precision is not to be had here.
    """
    where = resolve_device(device)
    network = network.to(where, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return PoseModel(
        name=recipe.name,
        network=network.eval().requires_grad_(False),
        preprocessing=recipe.table("preprocessing", PreprocessingTable),
        decoding=recipe.table("decoding", DecodingTable),
        skeleton=recipe_skeleton(recipe),
        device=where,
        dtype=resolve_precision(precision, where),
        weights_sha256=weights_sha256,
    )


def build_pose_network(recipe: Recipe, *, head: Head = "final") -> PoseNetwork:
    """The network of a pose recipe, with random weights.

    Args:
        recipe: the recipe; its ``[network] architecture`` says which network it is.
        head: "final" is the whole network; "global" is a CPN without its RefineNet, which predicts
            what GlobalNet predicts from P2.

    Raises:
        RecipeError: the recipe is not of a pose network, or has a wrong field.
        OptionError: the network has no such head.
    """
    if recipe.model.stage != "pose":
        raise RecipeError(
            f"model {recipe.name!r} is for {recipe.model.stage}, not for poses: "
            "`posepipe models` lists which is which"
        )
    table = with_head(network_table(recipe), head)
    network = build_network(table)
    stride = recipe.table("decoding", DecodingTable).stride
    if stride != network.stride:
        raise RecipeError(
            f"{recipe.name}: decoding.stride is {stride}, the network's heatmaps have stride "
            f"{network.stride}"
        )
    return network


def keys_of_keypoints(recipe: Recipe) -> set[str]:
    """The weights of a pose network whose shapes its number of keypoints decides: its heads.

    Raises:
        RecipeError: the recipe has a wrong field.
    """
    table = network_table(recipe)
    one_more = msgspec.structs.replace(table, keypoints=table.keypoints + 1)
    with torch.device("meta"):  # shapes alone
        shapes, others = (
            {key: weight.shape for key, weight in build_network(one).state_dict().items()}
            for one in (table, one_more)
        )
    return {key for key, shape in shapes.items() if others[key] != shape}
