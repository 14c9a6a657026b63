"""What a wrong value is said to be: in our words, with what the field takes."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
import pytest

from posepipe.io.reasons import reason

Share = Annotated[float, msgspec.Meta(ge=0, lt=1)]


class Inner(msgspec.Struct, forbid_unknown_fields=True):
    levels: Literal["l2", "none"] = "l2"
    times: Annotated[int, msgspec.Meta(ge=1)] = 1


class Outer(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    flip: bool = False
    share: Share | None = None
    pair: tuple[int, int] = (1, 2)
    digits: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]*$")] = ""
    urls: Annotated[tuple[str, ...], msgspec.Meta(max_length=1)] = ()
    inner: Inner | None = None
    more: tuple[Inner, ...] = ()

    def __post_init__(self) -> None:
        if self.name == "wrong":
            raise ValueError("a name of its own is needed")


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (5, "it takes a table, got a whole number"),
        ({}, "it lacks the field 'name'"),
        ({"name": 5}, "name takes a text, got a whole number"),
        ({"flp": True}, "there is no field 'flp': did you mean 'flip'?"),
        ({"flip": "no"}, "flip takes true or false, got a text"),
        ({"flip": [1]}, "flip takes true or false, got a list"),
        ({"share": "much"}, "share takes a number, got a text"),
        ({"share": -1}, "share takes a number of at least 0.0"),
        ({"share": 1}, "share takes a number of less than 1.0"),
        ({"pair": [1, 2.5]}, "pair[1] takes a whole number, got a fraction"),
        ({"pair": [1]}, "pair takes a list of length 2, got 1"),
        ({"digits": "xy"}, "digits takes a text that matches ^[0-9a-f]*$"),
        ({"urls": ["a", "b"]}, "urls takes a list of length <= 1"),
        ({"inner": None, "flip": None}, "flip takes true or false, got nothing"),
        ({"inner": {"m": 1}}, "there is no field 'm' in inner: there are levels, times"),
        ({"inner": {"levels": "L2"}}, "inner.levels takes one of l2, none, got 'L2'"),
        ({"more": [{"times": 0}]}, "more[0].times takes a whole number of at least 1"),
        ({"name": "wrong"}, "a name of its own is needed"),
    ],
)
def test_the_field_is_named_with_what_it_takes(value: Any, says: str) -> None:
    given = {"name": "a", **value} if isinstance(value, dict) and value else value
    with pytest.raises(msgspec.ValidationError) as caught:
        msgspec.convert(given, Outer)
    found = reason(caught.value, Outer)
    assert found == says
    assert "`" not in found
