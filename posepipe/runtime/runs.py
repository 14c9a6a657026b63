"""Runs over a set of images that end in a document, and survive an interruption.

Every finished image goes into a journal beside the output. The document is written when all are
done; an interrupted run leaves the journal behind, and a resumed one goes on from it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from posepipe.core.boxes import Detections
from posepipe.core.poses import Poses
from posepipe.core.skeleton import PERSON
from posepipe.io.documents import (
    BoxesDocument,
    KeypointsDocument,
    MadeBy,
    Skipped,
    write_boxes,
    write_keypoints,
)
from posepipe.io.images import ImageFile, ImageSet
from posepipe.io.journal import Entry, Journal, inputs_digest
from posepipe.io.shards import Header, Kind, Shard, ShardEntry, write_shard
from posepipe.runtime.both import run_through_both
from posepipe.runtime.local import Outcome, run
from posepipe.runtime.stage import Stage

Out = TypeVar("Out", bound=Sized)

DetectionStage = Stage[ImageFile, Any, Detections]
PoseStage = Stage[tuple[ImageFile, Detections], Any, Poses]
PeopleFound = Callable[[int], None]
"""Called after every finished image with how many people were found in it."""


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How a run behaves, whatever its stage.

    Attributes:
        output: the file to write.
        made_by: what determines the result, for the journal's fingerprint and boxes.json.
        resume: go on from the journal that an interrupted run left.
        strict: end at the first image that cannot be processed, instead of listing it.
        workers: threads that read and prepare images; None: see `posepipe.runtime.local.run`.
        progress: called after every image.
        warn: called with one line for everything of an interrupted run that is lost.
        shard: of a run that several machines share, the part to do: then `output` is that shard's
            file (`posepipe.io.shards`).
    """

    output: Path
    made_by: MadeBy
    resume: bool = False
    strict: bool = False
    workers: int | None = None
    progress: PeopleFound = lambda people: None
    warn: Callable[[str], None] = lambda line: None
    shard: Shard | None = None

    def fingerprint(self, images: ImageSet, extra: str = "") -> dict[str, Any]:
        """What an interrupted run must have had in common with one that goes on from it."""
        made: dict[str, Any] = msgspec.to_builtins(self.made_by)
        return {**made, "inputs": inputs_digest(images), "boxes": extra}

    def header(
        self,
        images: ImageSet,
        kind: Kind,
        *,
        shard: Shard = Shard(1, 1),  # noqa: B008  # frozen
        category: str = PERSON,
        boxes_digest: str = "",
    ) -> Header:
        """What a file of results says of its run; of all images unless a shard is named."""
        return Header(
            number=shard.number,
            of=shard.of,
            kind=kind,
            images=len(images),
            root=images.url or str(images.root.resolve()),
            category=category,
            made_by=self.made_by,
            fingerprint=self.fingerprint(images, boxes_digest),
        )

    def part(self, images: ImageSet) -> ImageSet:
        """The images to do: all, or those of the shard."""
        return images if self.shard is None else self.shard.part(images)


def run_detection(
    stage: DetectionStage, images: ImageSet, options: RunOptions, *, category: str = PERSON
) -> BoxesDocument:
    """Detect in every image and write boxes.json.

    Args:
        stage: the detection stage.
        images: the images.
        options: see `RunOptions`.
        category: what the stage finds.

    Raises:
        PosepipeError: the output or its journal cannot be written; in strict mode, the first
            image that cannot be read.
    """
    mine = options.part(images)
    with _journal(images, options, Detections) as journal:
        outcomes = run(stage, _not_in(journal, mine), workers=options.workers)
        entries = _collect(outcomes, journal, options)
        kept, results = _done(mine, entries)
        document = BoxesDocument(
            images=kept,
            detections=results,
            skipped=_skipped(mine, entries),
            made_by=options.made_by,
            category=category,
        )
        if options.shard is None:
            write_boxes(options.output, document)
        else:
            _write_shard(images, entries, options, options.shard, "boxes", category=category)
        journal.finish()
    return document


def run_poses(
    stage: PoseStage,
    boxes: BoxesDocument,
    options: RunOptions,
    *,
    finish: Callable[[Poses], Poses],
    boxes_digest: str,
) -> tuple[KeypointsDocument, tuple[Skipped, ...]]:
    """Estimate the poses in every image's boxes and write kps.json.

    Args:
        stage: the pose stage.
        boxes: where the people are.
        options: see `RunOptions`.
        finish: scoring: from the stage's poses to those that are written.
        boxes_digest: tells one boxes file from another, for `resume`.

    Returns:
        What was written, and which images could not be read.

    Raises:
        PosepipeError: the output or its journal cannot be written; in strict mode, the first
            image that cannot be read.
    """
    detections = {found.image_id: found for found in boxes.detections}

    with _journal(boxes.images, options, Poses, boxes_digest) as journal:
        mine = options.part(boxes.images)
        todo = ((image, detections[image.id]) for image in _not_in(journal, mine))
        outcomes = (
            Outcome(outcome.item[0], outcome.result, outcome.error)
            for outcome in run(stage, todo, workers=options.workers)
        )
        entries = _collect(_scored(outcomes, finish), journal, options)
        return _write_poses(boxes.images, entries, journal, options, boxes_digest)


def run_both(
    detection: DetectionStage,
    pose: PoseStage,
    images: ImageSet,
    options: RunOptions,
    *,
    finish: Callable[[Poses], Poses],
) -> tuple[KeypointsDocument, tuple[Skipped, ...]]:
    """Detect and estimate poses in one go; the same numbers as one after the other.

    Args:
        detection: the detection stage.
        pose: the pose stage.
        images: the images.
        options: see `RunOptions`.
        finish: scoring: from the stage's poses to those that are written.

    Returns:
        What was written, and which images could not be read.

    Raises:
        PosepipeError: as `run_poses`.
    """
    with _journal(images, options, Poses) as journal:
        todo = _not_in(journal, options.part(images))
        outcomes = run_through_both(detection, pose, todo, workers=options.workers)
        entries = _collect(_scored(outcomes, finish), journal, options)
        return _write_poses(images, entries, journal, options)


def _scored(
    outcomes: Iterable[Outcome[ImageFile, Poses]], finish: Callable[[Poses], Poses]
) -> Iterator[Outcome[ImageFile, Poses]]:
    for outcome in outcomes:
        poses = None if outcome.result is None else finish(outcome.result)
        yield Outcome(outcome.item, poses, outcome.error)


def _journal(
    images: ImageSet, options: RunOptions, kind: type[Out], boxes_digest: str = ""
) -> Journal[Out]:
    fingerprint = options.fingerprint(images, boxes_digest)
    if options.shard is not None:
        fingerprint["shard"] = f"{options.shard.number}/{options.shard.of}"
    return Journal.begin(
        options.output, fingerprint, kind, resume=options.resume, warn=options.warn
    )


def _not_in(journal: Journal[Any], images: ImageSet) -> Iterator[ImageFile]:
    return (image for image in images if image.id not in journal.finished)


def _collect(
    outcomes: Iterable[Outcome[ImageFile, Out]], journal: Journal[Out], options: RunOptions
) -> Mapping[int, Entry[Out]]:
    """Write every outcome into the journal as it comes; all entries, earlier ones included."""
    entries = dict(journal.finished)
    for _ in entries:
        options.progress(0)  # done before; nobody new
    for outcome in outcomes:
        if outcome.error is not None and options.strict:
            remedy = "(--strict stops here: mend it, then go on with --resume)"
            raise type(outcome.error)(f"{outcome.error} {remedy}")
        reason = "" if outcome.error is None else str(outcome.error)
        entry = Entry(outcome.item.id, outcome.result, reason)
        journal.append(entry)
        entries[entry.image_id] = entry
        options.progress(len(outcome.result or ()))
    return entries


def _done(images: ImageSet, entries: Mapping[int, Entry[Out]]) -> tuple[ImageSet, tuple[Out, ...]]:
    """The images that were processed, and their results, in the images' order."""
    kept, results = [], []
    for image in images:
        result = entries[image.id].result
        if result is not None:
            kept.append(image)
            results.append(result)
    return ImageSet(images.root, tuple(kept), url=images.url), tuple(results)


def _skipped(images: ImageSet, entries: Mapping[int, Entry[Any]]) -> tuple[Skipped, ...]:
    return tuple(
        Skipped(image.file_name, entries[image.id].skipped)
        for image in images
        if entries[image.id].result is None
    )


def _write_poses(
    images: ImageSet,
    entries: Mapping[int, Entry[Poses]],
    journal: Journal[Poses],
    options: RunOptions,
    boxes_digest: str = "",
) -> tuple[KeypointsDocument, tuple[Skipped, ...]]:
    mine = options.part(images)
    document = KeypointsDocument(*_done(mine, entries))
    if options.shard is None:
        write_keypoints(options.output, document)
    else:
        _write_shard(images, entries, options, options.shard, "poses", boxes_digest=boxes_digest)
    journal.finish()
    return document, _skipped(mine, entries)


def _write_shard(
    images: ImageSet,
    entries: Mapping[int, Entry[Any]],
    options: RunOptions,
    shard: Shard,
    kind: Kind,
    *,
    category: str = PERSON,
    boxes_digest: str = "",
) -> None:
    header = options.header(images, kind, shard=shard, category=category, boxes_digest=boxes_digest)
    positions = range(shard.number - 1, len(images), shard.of)
    lines = (
        ShardEntry(
            position=position,
            image_id=image.id,
            file_name=image.file_name,
            frame=image.frame,
            seconds=image.seconds,
            result=entries[image.id].result,
            skipped=entries[image.id].skipped,
        )
        for position, image in zip(positions, options.part(images), strict=True)
    )
    write_shard(options.output, header, lines)
