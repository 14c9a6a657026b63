"""The one place that knows all pose networks: from a recipe's ``[network]`` to a network."""

from __future__ import annotations

from typing import Literal, get_args

import msgspec

from posepipe.errors import OptionError, RecipeError
from posepipe.pose.networks.base import PoseNetwork, PoseNetworkTable
from posepipe.pose.networks.cpn import CPN, CPNTable, GlobalNetOnly, GlobalNetTable
from posepipe.pose.networks.hourglass import HourglassTable, StackedHourglass
from posepipe.pose.networks.keypoint_rcnn import KeypointRCNNTable, NativeKeypointRCNNTable
from posepipe.pose.networks.onnx import OnnxTable
from posepipe.pose.networks.plain import PlainHeatmaps, PlainTable
from posepipe.pose.networks.resnet import DilatedResNet, ResNetTable
from posepipe.zoo.recipe import Recipe, Table
from posepipe.zoo.skeleton import recipe_skeleton
from posepipe.zoo.sources import zoo_folder

Head = Literal["final", "global"]
TABLES: dict[str, type[PoseNetworkTable]] = {
    "cpn": CPNTable,
    "globalnet": GlobalNetTable,
    "hourglass": HourglassTable,
    "plain": PlainTable,
    "resnet": ResNetTable,
}


WHOLE_IMAGES: dict[str, type[Table]] = {
    "torchvision": KeypointRCNNTable,
    "detectron2_native": NativeKeypointRCNNTable,
}
"""Backends whose networks look at whole images, and not at crops."""

BACKENDS: dict[str, type[Table]] = {"onnx": OnnxTable, **WHOLE_IMAGES}
"""Whose networks a recipe's ``[network] backend`` can name, besides those of this package."""


def backend_of(recipe: Recipe) -> str:
    """What runs a pose recipe's network: a name of `BACKENDS`, or "" for those of this package.

    Raises:
        RecipeError: the recipe is not for poses, or names another backend.
    """
    if recipe.model.stage != "pose":
        head = f"{recipe.name}-pose"  # of detectron2's Keypoint R-CNNs
        remedy = (
            f"model {head} is its keypoint head"
            if (zoo_folder() / head).is_dir()
            else "`posepipe models` lists which is which"
        )
        raise RecipeError(
            f"model {recipe.name!r} is for {recipe.model.stage}, not for poses: {remedy}"
        )
    given = recipe.tables.get("network", {})
    name = given.get("backend", "") if isinstance(given, dict) else ""
    if name and name not in BACKENDS:
        raise RecipeError(
            f"{recipe.place}, [network]: no backend {name!r}; there are: {', '.join(BACKENDS)}"
        )
    return str(name)


def network_table(recipe: Recipe) -> PoseNetworkTable:
    """The table ``[network]`` of a pose recipe, as its ``architecture`` ("cpn" by default) has it.

    Its number of keypoints is the skeleton's.

    Raises:
        RecipeError: no such architecture, a field is unknown, missing or of the wrong type, or
            ``keypoints`` contradicts the skeleton.
    """
    given = recipe.tables.get("network", {})
    name = given.get("architecture", "cpn") if isinstance(given, dict) else "cpn"
    if not isinstance(name, str) or name not in TABLES:
        raise RecipeError(
            f"{recipe.place}, [network]: no architecture {name!r}; there are: {', '.join(TABLES)}"
        )
    table, skeleton = recipe.table("network", TABLES[name]), recipe_skeleton(recipe)
    if "keypoints" in given and table.keypoints != len(skeleton):
        raise RecipeError(
            f"{recipe.place}: network.keypoints is {table.keypoints}, but the "
            f"skeleton {skeleton.name!r} has {len(skeleton)}: leave network.keypoints out"
        )
    return msgspec.structs.replace(table, keypoints=len(skeleton))


def build_network(table: PoseNetworkTable) -> PoseNetwork:
    """The network of a table, with random weights.

    Raises:
        RecipeError, MissingDependencyError: see `build_backbone`.
        TypeError: a table that belongs to no architecture.
    """
    match table:
        case CPNTable():
            return CPN(table)
        case GlobalNetTable():
            return GlobalNetOnly(table)
        case HourglassTable():
            return StackedHourglass(table)
        case PlainTable():
            return PlainHeatmaps(table)
        case ResNetTable():
            return DilatedResNet(table)
    raise TypeError(f"no network has a {type(table).__name__}")


def with_head(table: PoseNetworkTable, head: Head) -> PoseNetworkTable:
    """The table of the network that ends with a given head.

    Args:
        table: the whole network's.
        head: "final" is the whole network; "global" is a CPN without its RefineNet.

    Raises:
        OptionError: no such head, or the network has no GlobalNet.
    """
    if head not in get_args(Head):
        raise OptionError(f"no head {head!r}; there are: {', '.join(get_args(Head))}")
    if head == "final" or isinstance(table, GlobalNetTable):
        return table
    if not isinstance(table, CPNTable):
        architecture = next(name for name, kind in TABLES.items() if isinstance(table, kind))
        raise OptionError(f"the head 'global' is a CPN's; this network is a {architecture!r}")
    shared = {
        name: getattr(table, name)
        for name in GlobalNetTable.__struct_fields__
        if name != "architecture"
    }
    return msgspec.convert(shared, GlobalNetTable)
