"""The one place that knows all codecs: from a recipe's ``[decoding]`` to a codec."""

from __future__ import annotations

from typing import TypeAlias

from posepipe.errors import RecipeError
from posepipe.pose.codecs.argmax import ArgmaxCodec, ArgmaxTable
from posepipe.pose.codecs.base import Codec
from posepipe.pose.codecs.cpn import CPNCodec
from posepipe.pose.codecs.simcc import SimCCCodec, SimCCTable
from posepipe.pose.heatmaps import DecodingTable
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


def codec_of(table: AnyDecodingTable) -> Codec:
    """The codec of a table."""
    match table:
        case ArgmaxTable():
            return ArgmaxCodec(table)
        case SimCCTable():
            return SimCCCodec(table)
        case DecodingTable():
            return CPNCodec(table)
