"""Shards: the N parts of a run that several machines share, and the files that they write.

Shard k of N has every N-th image, beginning with the k-th: what is large or slow is spread evenly
whatever the order, and no two machines need to speak to each other. Its file is a header, then a
line for each of its images, whatever became of it (`posepipe.io.checked_lines`). With all N of
them the documents can be written that one run would have written.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Generic, Literal, Self, TypeVar

import msgspec

from posepipe.errors import DocumentError, OptionError
from posepipe.io.checked_lines import decode_line, encode_line
from posepipe.io.images import ImageFile, ImageSet
from posepipe.io.journal import SUFFIX, differences
from posepipe.io.jsonfiles import write_whole
from posepipe.io.records import MadeBy

FORMAT_VERSION = 1
_MOST_SHARDS = 100_000
_LINES_AT_ONCE = 4096
_MOST_NAMED = 10

T = TypeVar("T")
Kind = Literal["boxes", "poses"]


@dataclass(frozen=True)
class Shard:
    """One of several parts of a set of images.

    Attributes:
        number: which one, from 1.
        of: how many there are.

    Raises:
        OptionError: no such part.
    """

    number: int
    of: int

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.of <= _MOST_SHARDS:
            raise OptionError(
                f"shard {self.number}/{self.of}: write k/N with k from 1 to N, and N up to "
                f"{_MOST_SHARDS}"
            )

    @classmethod
    def parse(cls, text: str) -> Self:
        """The shard that "k/N" stands for.

        Raises:
            OptionError: it is not of this form, or k is not in 1…N.
        """
        found = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text)
        if found is None:
            raise OptionError(f"shard {text!r}: write k/N, like 1/8 for the first of eight")
        return cls(int(found[1]), int(found[2]))

    def part(self, images: ImageSet) -> ImageSet:
        """This shard's images, in their order and with their ids; there may be none."""
        return replace(images, images=images.images[self.number - 1 :: self.of])

    def path(self, output: Path) -> Path:
        """The file of this shard of a run that is to end in `output`.

        >>> Shard(2, 8).path(Path("out/kps.json")).name
        'kps.json.2-of-8'
        """
        return output.with_name(f"{output.name}.{self.number}-of-{self.of}")


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """The first line of a shard's file.

    Attributes:
        posepipe_shard: the format's version.
        number, of: which shard it is.
        kind: of the results.
        images: how many there are in all shards.
        root: the folder that file names are relative to, absolute.
        category: what was looked for.
        made_by: what determined the results.
        fingerprint: what all shards of a run have in common, `made_by` included.
    """

    posepipe_shard: int = FORMAT_VERSION
    number: int
    of: int
    kind: Kind
    images: int
    root: str
    category: str
    made_by: MadeBy
    fingerprint: dict[str, Any]

    @property
    def shard(self) -> Shard:
        """Which shard it is."""
        return Shard(self.number, self.of)


class ShardEntry(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """What became of one image.

    Attributes:
        position: its place among the images of all shards, from 0.
        image_id: its id.
        file_name: relative to the root.
        frame, seconds: of a frame of a video.
        result: None if it was skipped.
        skipped: why it was skipped, "" if it was not.
    """

    position: int
    image_id: int
    file_name: str
    frame: int | None = None
    seconds: float | None = None
    result: T | None = None
    skipped: str = ""

    def image(self, root: Path) -> ImageFile:
        """The image."""
        return ImageFile(
            self.image_id,
            root / self.file_name,
            self.file_name,
            frame=self.frame,
            seconds=self.seconds,
        )


def write_shard(path: Path, header: Header, entries: Iterable[ShardEntry[Any]]) -> None:
    """Write a shard's file, whole or not at all.

    Raises:
        DocumentError: it cannot be written.
    """
    write_whole(path, map(encode_line, [header, *entries]))


class Shards:
    """All shards of a run, found to belong together; their images are read when asked for.

    Attributes:
        header: the first shard's, which is that of all of them but for the number.
    """

    def __init__(self, files: Sequence[Path], header: Header) -> None:
        self._files = files
        self.header = header

    def entries(self, kind: type[T]) -> Iterator[ShardEntry[T]]:
        """Every image in the order of the whole run; may be asked for again.

        Args:
            kind: the type of the results.

        Raises:
            DocumentError: a file is damaged or ends too soon.
        """
        position, files = 0, [_Lines(path) for path in self._files]
        for file in files:
            file.take(1)  # the header
        at_once = max(1, _LINES_AT_ONCE // len(files))
        while position < self.header.images:
            parts = [file.take(at_once) for file in files]
            for place in range(at_once * len(files)):
                if position == self.header.images:
                    return
                part, file = parts[place % len(files)], files[place % len(files)]
                line = place // len(files)
                entry = None
                if line < len(part):
                    entry = decode_line(part[line], ShardEntry[kind])  # type: ignore[valid-type]  # a type known at run time only
                if entry is None or entry.position != position:
                    raise DocumentError(
                        f"{file.path} is damaged or ends too soon, at image {position + 1}: run "
                        "that shard again"
                    )
                yield entry
                position += 1


def read_shards(paths: Sequence[Path]) -> Shards:
    """The shards of a run, in any order.

    Raises:
        DocumentError: a file is no shard, some are missing or given twice, or they are of
            different runs; says which.
    """
    found: dict[int, tuple[Path, Header]] = {}
    for path in paths:
        header = _header(path)
        first_path, first = next(iter(found.values()), (path, header))
        _check_together(first_path, first, path, header)
        if header.number in found:
            raise DocumentError(
                f"shard {header.number} of {header.of} is there twice: {found[header.number][0]} "
                f"and {path}: leave one out"
            )
        found[header.number] = path, header
    if not found:
        raise DocumentError("no shards were named")
    path, header = next(iter(found.values()))
    missing = [number for number in range(1, header.of + 1) if number not in found]
    if missing:
        raise DocumentError(_say_missing(missing, path, header))
    return Shards([found[number][0] for number in range(1, header.of + 1)], found[1][1])


class _Lines:
    """The lines of a file, some at a time; it is open only while they are read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._offset = 0

    def take(self, count: int) -> list[bytes]:
        """The next lines without their line feeds; fewer at the end."""
        with self.path.open("rb") as file:
            file.seek(self._offset)
            lines = [line.rstrip(b"\n") for line in islice(file, count)]
            self._offset = file.tell()
        return lines


def _header(path: Path) -> Header:
    try:
        with path.open("rb") as file:
            line = file.readline().rstrip(b"\n")
    except FileNotFoundError:
        raise DocumentError(f"{path}: no such file: check the path") from None
    except OSError as error:
        raise DocumentError(f"{path} cannot be read: {error.strerror}") from None
    header = decode_line(line, Header)
    if header is None or header.posepipe_shard != FORMAT_VERSION:
        raise DocumentError(
            f"{path} is no shard of this version of posepipe: --shard k/N of detect, pose or run "
            "makes one"
        )
    return header


def _check_together(first_path: Path, first: Header, path: Path, header: Header) -> None:
    def traits(one: Header) -> Mapping[str, Any]:
        return {
            "number of shards": one.of,
            "kind": one.kind,
            "images": one.images,
            **one.fingerprint,
        }

    differing = differences(traits(first), traits(header))
    if differing:
        raise DocumentError(
            f"{first_path} and {path} are of different runs ({differing}): merge the shards of one"
        )


def _say_missing(missing: Sequence[int], path: Path, header: Header) -> str:
    """Which shards are missing, and which of them have begun as far as can be seen."""
    named = ", ".join(map(str, missing[:_MOST_NAMED]))
    more = f" and {len(missing) - _MOST_NAMED} more" if len(missing) > _MOST_NAMED else ""
    ending = f".{header.number}-of-{header.of}"
    text = f"of {header.of} shards these are missing: {named}{more}"
    if not path.name.endswith(ending):
        return text
    output = path.with_name(path.name.removesuffix(ending))
    begun = [
        str(number)
        for number in missing
        if (own := Shard(number, header.of).path(output)).with_name(own.name + SUFFIX).is_file()
    ]
    if begun:
        text += f"; unfinished, go on with --resume: {', '.join(begun[:_MOST_NAMED])}"
    return text
