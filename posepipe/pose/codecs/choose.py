"""The one place that knows all codecs: from a recipe's ``[decoding]`` to a codec."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from posepipe.errors import RecipeError
from posepipe.pose.codecs.argmax import ArgmaxCodec, ArgmaxTable
from posepipe.pose.codecs.base import Codec
from posepipe.pose.codecs.cpn import CPNCodec
from posepipe.pose.codecs.simcc import SimCCCodec, SimCCTable
from posepipe.pose.heatmaps import Cells, DecodingTable
from posepipe.zoo.recipe import Recipe

AnyDecodingTable: TypeAlias = DecodingTable | ArgmaxTable | SimCCTable
CODECS: dict[str, type[AnyDecodingTable]] = {
    "cpn": DecodingTable,
    "argmax": ArgmaxTable,
    "dark": ArgmaxTable,
    "simcc": SimCCTable,
}


def decoding_table(recipe: Recipe) -> AnyDecodingTable:
    """The table ``[decoding]`` of a pose recipe, as its ``codec`` ("cpn" by default) has it.

    Raises:
        RecipeError: no such codec, or a field is unknown or of the wrong type.
    """
    given = recipe.tables.get("decoding", {})
    name = given.get("codec", "cpn") if isinstance(given, dict) else "cpn"
    if not isinstance(name, str) or name not in CODECS:
        raise RecipeError(
            f"{recipe.place}, [decoding]: no codec {name!r}; there are: {', '.join(CODECS)}"
        )
    return recipe.table("decoding", CODECS[name])


@dataclass(frozen=True)
class HeatmapGrid:
    """What a network's heatmaps are like, for networks that learn to make them.

    Attributes:
        stride: crop pixels per cell.
        cells: where they lie, see `Cells`.
        amplitude: the peak of a keypoint that is certain.
    """

    stride: int
    cells: Cells
    amplitude: float


def heatmap_grid(table: AnyDecodingTable) -> HeatmapGrid | None:
    """What the heatmaps that a codec reads are like; None where it reads something else."""
    match table:
        case DecodingTable():
            return HeatmapGrid(table.stride, "squares", table.amplitude)
        case ArgmaxTable():
            return HeatmapGrid(table.stride, table.cells, 1.0)
    return None


def codec_of(table: AnyDecodingTable) -> Codec:
    """The codec of a table."""
    match table:
        case ArgmaxTable():
            return ArgmaxCodec(table)
        case SimCCTable():
            return SimCCCodec(table)
        case DecodingTable():
            return CPNCodec(table)
