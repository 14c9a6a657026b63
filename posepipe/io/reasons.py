"""Why a value from a file does not fit, in our own words in place of msgspec's."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from typing import Any

import msgspec

_KINDS: Mapping[str, str] = {
    "array": "a list",
    "bool": "true or false",
    "float": "a number",
    "int": "a whole number",
    "null": "nothing",
    "object": "a table",
    "str": "a text",
}
_BOUNDS: Mapping[str, str] = {
    ">=": "at least",
    "<=": "at most",
    ">": "more than",
    "<": "less than",
}
_EXPECTED = re.compile(r"Expected (`[^`]+`) (>=|<=|>|<) ([\d.e+-]+)")
_OF_KIND = re.compile(r"Expected (`[^`]+`), got `(\w+)`")
_LENGTH = re.compile(r"Expected (`[^`]+`) of (?:length|at (?:least|most) length) (.*)")
_PATTERN = re.compile(r"Expected (`[^`]+`) matching regex '(.*)'")
_UNKNOWN = re.compile(r"Object contains unknown field `(.*)`", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(\w+)`")
_NO_CHOICE = re.compile(r"Invalid enum value (.*)", re.DOTALL)
_PLACE = re.compile(r"(?P<what>.*) - at `\$\.?(?P<path>[^`]*)`", re.DOTALL)


def reason(error: msgspec.ValidationError, kind: Any) -> str:
    """What is wrong with which field, and what it takes.

    Args:
        error: of decoding or converting to `kind`.
        kind: the type that was wanted.
    """
    located = _PLACE.fullmatch(str(error))
    what, path = (located["what"], located["path"]) if located else (str(error), "")
    subject = path or "it"
    if found := _OF_KIND.match(what):
        given = "a fraction" if found[2] == "float" else _KINDS.get(found[2], found[2])
        return f"{subject} takes {_named(found[1])}, got {given}"
    if found := _EXPECTED.match(what):
        return f"{subject} takes {_named(found[1])} of {_BOUNDS[found[2]]} {found[3]}"
    if found := _LENGTH.match(what):
        return f"{subject} takes {_named(found[1])} of length {found[2]}"
    if found := _PATTERN.match(what):
        return f"{subject} takes {_named(found[1])} that matches {found[2]}"
    if found := _UNKNOWN.match(what):
        where = f" in {path}" if path else ""
        return f"there is no field {found[1]!r}{where}{_like(found[1], _fields(_at(kind, path)))}"
    if found := _MISSING.match(what):
        return f"{path or 'it'} lacks the field {found[1]!r}"
    if found := _NO_CHOICE.match(what):
        values = ", ".join(map(str, getattr(_at(kind, path), "values", ())))
        return f"{subject} takes one of {values}, got {found[1]}"
    return f"{path}: {what}" if path else what


def _named(kinds: str) -> str:
    """Types as msgspec lists them, "`int | null`", without the null of optional ones."""
    names = [one for one in kinds.strip("`").split(" | ") if one != "null"] or ["null"]
    return " or ".join(_KINDS.get(one, one) for one in names)


def _like(name: str, known: list[str]) -> str:
    """A question where a known name is nearly the same, else the known names, if they are few."""
    near = difflib.get_close_matches(name, known, n=1)
    if near:
        return f": did you mean {near[0]!r}?"
    return f": there are {', '.join(known)}" if 0 < len(known) <= 12 else ""


def _at(kind: Any, path: str) -> Any:
    """Msgspec's description of the type at a place like "loss.levels" or "heads[2].kind"."""
    info: Any = msgspec.inspect.type_info(kind)
    for name in re.findall(r"[\w]+|\[[^]]*\]", path):
        if name.startswith("["):
            items = getattr(info, "item_types", None)
            own = getattr(info, "item_type", getattr(info, "value_type", None))
            info = items[0] if items else own
        else:
            fields = {field.encode_name: field.type for field in getattr(info, "fields", ())}
            info = fields.get(name)
        parts = getattr(info, "types", ())  # of a union: what is not null
        info = next((one for one in parts if not isinstance(one, msgspec.inspect.NoneType)), info)
    return info


def _fields(info: Any) -> list[str]:
    return [field.encode_name for field in getattr(info, "fields", ())]
