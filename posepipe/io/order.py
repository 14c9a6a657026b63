"""What lists of images name, in which order images come, and how they are numbered."""

from __future__ import annotations

import re
from collections.abc import Sequence

from posepipe.io.images import coco_id


def listed(text: str) -> list[str]:
    """What a list names, a line each; empty lines and those that begin with # do not count."""
    lines = (line.strip() for line in text.splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def natural_order(file_name: str) -> tuple[list[tuple[int, str]], str]:
    """A sorting key by which "frame9" comes before "frame10"."""
    parts = re.split(r"([0-9]+)", file_name)
    numbered = [(int(part), "") if n % 2 else (0, part.lower()) for n, part in enumerate(parts)]
    return numbered, file_name


def ids_of(file_names: Sequence[str]) -> list[int]:
    """COCO's ids where every name carries one and they differ, else 1…n."""
    carried = [coco_id(name) for name in file_names]
    ids = [number for number in carried if number is not None]
    if len(set(ids)) == len(file_names):
        return ids
    return list(range(1, len(file_names) + 1))
