"""The shards of a run become the document that one run would have written, byte by byte."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from posepipe.core.boxes import Detections
from posepipe.core.poses import Poses
from posepipe.io.buckets import is_url
from posepipe.io.documents import Skipped, write_box_stream, write_pose_stream
from posepipe.io.images import ImageFile
from posepipe.io.locks import output_held
from posepipe.io.shards import Header, ShardEntry

T = TypeVar("T")


@dataclass(frozen=True)
class Merged:
    """What a document was made of.

    Attributes:
        images: how many were processed.
        people: how many were found in them.
        skipped: images that could not be processed.
    """

    images: int
    people: int
    skipped: tuple[Skipped, ...]


class Finished(Protocol):
    """All images of a run and what became of them."""

    header: Header

    def entries(self, kind: type[T]) -> Iterator[ShardEntry[T]]:
        """Every image in the order of the run; may be asked for again."""
        ...


def merge_shards(
    shards: Finished,
    output: str | Path,
    *,
    progress: Callable[[int], None] = lambda people: None,
) -> Merged:
    """Write the boxes.json or kps.json of the run that these are the shards of.

    No more than a few thousand images are in memory at a time.

    Args:
        shards: all of them, as `posepipe.io.shards.read_shards` gives them.
        output: the document to write.
        progress: called after every image with the number of people in it.

    Raises:
        DocumentError: a shard is damaged, the output cannot be written, or another process is
            writing it.
    """
    merge = _merge_boxes if shards.header.kind == "boxes" else _merge_poses
    with output_held(Path(output)):
        return merge(shards, Path(output), progress)


def _merge_poses(shards: Finished, output: Path, progress: Callable[[int], None]) -> Merged:
    root, tally = Path(shards.header.root), _Tally(progress)

    def people() -> Iterator[tuple[ImageFile, Poses]]:
        for entry in shards.entries(Poses):
            tally.count(entry)
            if entry.result is not None:
                yield entry.image(root), entry.result

    write_pose_stream(output, root=_stored(shards.header.root), people=people())
    return tally.merged


def _merge_boxes(shards: Finished, output: Path, progress: Callable[[int], None]) -> Merged:
    root, tally = Path(shards.header.root), _Tally(progress)

    def images() -> Iterator[tuple[ImageFile, tuple[int, int]]]:
        for entry in shards.entries(Detections):
            tally.count(entry)
            if entry.result is not None and entry.result.size_wh is not None:
                yield entry.image(root), entry.result.size_wh

    write_box_stream(
        output,
        root=_stored(shards.header.root),
        images=images(),
        detections=(e.result for e in shards.entries(Detections) if e.result is not None),
        skipped=tally.skipped,  # complete by the time that it is written
        made_by=shards.header.made_by,
        category=shards.header.category,
    )
    return tally.merged


def _stored(root: str) -> Path | str:
    """The root of a run, as documents are given it."""
    return root if is_url(root) else Path(root)


class _Tally:
    """Counts what is merged."""

    def __init__(self, progress: Callable[[int], None]) -> None:
        self.skipped: list[Skipped] = []
        self._images = self._people = 0
        self._progress = progress

    def count(self, entry: ShardEntry[Detections] | ShardEntry[Poses]) -> None:
        people = 0 if entry.result is None else len(entry.result)
        if entry.result is None:
            self.skipped.append(Skipped(entry.file_name, entry.skipped))
        else:
            self._images += 1
        self._people += people
        self._progress(people)

    @property
    def merged(self) -> Merged:
        return Merged(self._images, self._people, tuple(self.skipped))
