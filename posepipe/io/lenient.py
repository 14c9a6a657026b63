"""Values as programs write them into JSON: read where their meaning is plain.

Annotation tools write 1.0, true, "1" or null where COCO has 1, and NaN where a number is missing.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import TypeGuard

ID_RANGE = range(-(2**63), 2**63)  # of numpy's int64

_WHOLE = re.compile(r"\s*([+-]?[0-9]{1,25})(?:\.0*)?\s*")


def whole(value: object) -> int | None:
    """The whole number that a value means; None if it means none.

    >>> [whole(value) for value in (3, 3.0, "3", "3.0", True)]
    [3, 3, 3, 3, 1]
    >>> [whole(value) for value in (3.5, "three", None, float("nan"), float("inf"), 1e308)]
    [None, None, None, None, None, None]
    """
    match value:
        case bool() | int():
            return int(value)
        case float():  # of larger ones nobody knows which whole number was meant
            return int(value) if value.is_integer() and abs(value) < 2**63 else None
        case str():
            match = _WHOLE.fullmatch(value)
            return int(match[1]) if match else None
    return None


def number(value: object) -> float | None:
    """The number that a value means, NaN for null; None if it means none.

    >>> [number(value) for value in (3, "3.5", True)]
    [3.0, 3.5, 1.0]
    >>> number(None), number("three"), number([1])
    (nan, None, None)
    """
    if value is None:
        return math.nan
    if not isinstance(value, bool | int | float | str):
        return None
    try:
        return float(value)
    except OverflowError:  # a whole number beyond what a float holds
        return math.inf
    except ValueError:
        return None


def numbers(value: object, count: int | None = None) -> tuple[float, ...] | None:
    """The numbers of a list, nested lists written out; None if it is anything else.

    >>> numbers([[1, "2", 2], [3.5, 4, True]])
    (1.0, 2.0, 2.0, 3.5, 4.0, 1.0)
    >>> numbers([1, 2, 3], count=4), numbers("1234"), numbers([1, "x"])
    (None, None, None)
    """
    if not _is_list(value):
        return None
    found: list[float] = []
    for item in value:
        if _is_list(item):
            inner = numbers(item)
            if inner is None:
                return None
            found += inner
        elif (one := number(item)) is not None:
            found.append(one)
        else:
            return None
    return tuple(found) if count in (None, len(found)) else None


def identifier(value: object) -> int | str | None:
    """An id: a whole number that fits into 64 bits, else its text; None for null and the like.

    >>> identifier(5), identifier(5.0), identifier("000005"), identifier("cam0_5")
    (5, 5, 5, 'cam0_5')
    >>> identifier(2**63), identifier(None), identifier([5])
    ('9223372036854775808', None, None)
    """
    meant = whole(value)
    if meant is not None and meant in ID_RANGE:
        return meant
    if meant is not None:
        return str(meant)
    if isinstance(value, str) and value:
        return value
    return None


def shown(value: object) -> str:
    """A value for a message: as JSON has it, cut short.

    >>> shown(None), shown("ab"), shown([1.5] * 100)
    ('null', '"ab"', '[1.5, 1.5, 1.5, 1.5, 1.5, 1.5, 1.5, 1.5…')
    """
    match value:
        case None:
            text = "null"
        case bool():
            text = str(value).lower()
        case str():
            text = f'"{value}"'
        case _:
            text = repr(value)
    text = " ".join(text.split())
    return text if len(text) <= 40 else text[:39] + "…"


def _is_list(value: object) -> TypeGuard[Sequence[object]]:
    return isinstance(value, list | tuple)
