"""Files made wrong: bytes that are lost, changed or doubled, values that nobody would write.

Everything follows from a seed and a number, so that a failing input can be made again.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from typing import Any

import numpy as np
import tomli_w

DEEP = 5000  # nested lists; far beyond what Python's recursion takes
HUGE = "HUGE-NUMBER"  # stands for a number of so many digits, which Python itself refuses to write
DIGITS = "9" * 5000

ODD_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2, 17, -(2**31), 2**31, 2**53 + 1, 2**63, 2**64, 10**30, HUGE),
    *(0.5, -0.0, 1e-320, 1e9, 1e18, -1e18, 1e308, float("nan"), float("inf"), float("-inf")),
    *("", " ", "0", "1", "1e9", "nan", "person", "\x00", "a\x00b.jpg", "\ud800", "\x1b[2J", "\n"),
    *("../../etc/passwd", "/", ".", "..", "~", "C:\\a.jpg", "http://127.0.0.1/a.jpg", "x" * 5000),
    *("é" * 300, "\u202egpj.exe", "000000000001.jpg", "-1", "1" * 400),
    *([], {}, [[]], [{}], [None], [0] * 51, [1.5] * 4, [-1] * 4, [float("nan")] * 4, [1e308] * 4),
    *({"a": 1}, {"counts": "x", "size": [1, 1]}, {"": {}}, [1] * 3000, "DEEP-LIST", "DEEP-TABLE"),
)


def odd_value(random: np.random.Generator) -> Any:
    """A value that does not belong where it is put, or only just."""
    return ODD_VALUES[int(random.integers(len(ODD_VALUES)))]


def places_in(tree: Any) -> list[tuple[Any, Any]]:
    """Every container of a tree with each of its keys."""
    found: list[tuple[Any, Any]] = []
    waiting = [tree]
    while waiting:
        one = waiting.pop()
        keys = one if isinstance(one, dict) else range(len(one))
        found += [(one, key) for key in keys]
        waiting += [one[key] for key in keys if isinstance(one[key], dict | list)]
    return found


def changed_tree(tree: Any, random: np.random.Generator) -> Any:
    """A tree with one to four of its values, or keys, made odd, taken away, doubled or swapped."""
    root = {"": tree}
    for _ in range(int(random.integers(1, 5))):
        places = places_in(root)
        holder, key = places[int(random.integers(len(places)))]
        other, other_key = places[int(random.integers(len(places)))]
        match int(random.integers(7)):
            case 0 | 1 | 2:
                holder[key] = odd_value(random)
            case 3 if holder is not root:
                del holder[key]
            case 4 if isinstance(holder, list):
                holder.insert(key, holder[key])
            case 5 if isinstance(holder, dict) and holder is not root:
                holder[str(odd_value(random))] = holder.pop(key)
            case _ if not isinstance(other[other_key], dict | list):
                holder[key] = other[other_key]
    return root[""]


def as_json(tree: Any) -> bytes:
    """JSON as Python writes it, NaN included; lone surrogates as they are in file names."""
    text = json.dumps(tree, ensure_ascii=False)
    text = text.replace(f'"{HUGE}"', DIGITS)
    text = text.replace('"DEEP-LIST"', "[" * DEEP + "]" * DEEP)
    text = text.replace('"DEEP-TABLE"', '{"a":' * DEEP + "1" + "}" * DEEP)
    return text.encode("utf-8", "surrogatepass")


def as_toml(tree: Any) -> bytes:
    """TOML of a tree, where there is such; values that TOML lacks are left out."""
    text = tomli_w.dumps(_without_none(tree if isinstance(tree, dict) else {"a": tree}))
    text = text.replace(f'"{HUGE}"', DIGITS).replace('"DEEP-LIST"', "[" * DEEP + "]" * DEEP)
    text = text.replace('"DEEP-TABLE"', "{a=" * DEEP + "1" + "}" * DEEP)
    return text.encode("utf-8", "surrogatepass")


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_none(one) for key, one in value.items() if one is not None}
    if isinstance(value, list):
        return [_without_none(one) for one in value if one is not None]
    return value


def changed_bytes(content: bytes, random: np.random.Generator) -> bytes:
    """Bytes of which one to four stretches are flipped, zeroed, cut out, doubled or made up."""
    changed = bytearray(content)
    for _ in range(int(random.integers(1, 5))):
        start = int(random.integers(len(changed) + 1))
        end = min(len(changed), start + int(2 ** random.integers(0, 10)))
        match int(random.integers(7)):
            case 0 if start < len(changed):
                changed[start] ^= 1 << int(random.integers(8))
            case 1 if start < len(changed):
                changed[start] = int(random.integers(256))
            case 2:
                changed[start:end] = bytes(end - start)
            case 3:
                del changed[start:end]
            case 4:
                changed[start:start] = changed[start:end]
            case 5:
                changed[start:end] = random.bytes(end - start)
            case _:
                del changed[start:]
    return bytes(changed)


def mutants(samples: list[bytes], count: int, *, seed: int = 0) -> Iterator[bytes]:
    """So many wrong versions of some files; of JSON and TOML half are whole ones of odd values."""
    for number in range(count):
        random = np.random.default_rng([seed, number])
        sample = samples[number % len(samples)]
        kind = int(random.integers(2))
        for read, write in ((json.loads, as_json), (_toml, as_toml)) if kind else ():
            try:
                tree = read(sample)
            except (ValueError, RecursionError):
                continue
            try:
                yield write(changed_tree(tree, random))
            except (TypeError, ValueError, AttributeError):  # TOML has no such value
                yield changed_bytes(sample, random)
            break
        else:
            yield changed_bytes(sample, random)


def _toml(content: bytes) -> Any:
    return tomllib.loads(content.decode())
