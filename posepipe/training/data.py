"""The data sets of a run: every annotation file read once, unusable images left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from posepipe.core.skeleton import COCO_PERSON, Skeleton
from posepipe.io.coco import Annotations, CocoFile, Instances, read_coco
from posepipe.zoo.bounds import Number
from posepipe.zoo.recipe import Table

SetKey = tuple[str, str]


class DataTable(Table, frozen=True):
    """An entry of the recipe's list ``[[training.data]]`` or ``[[training.validate]]``.

    Attributes:
        annotations: a COCO keypoint file.
        images: the folder of its images.
        weight: sampling weight relative to the other data sets.
    """

    annotations: str
    images: str
    weight: Number = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.weight < float("inf"):
            raise ValueError(f"weight must be a number of 0 or more, got {self.weight}")


def set_names(tables: Sequence[DataTable]) -> list[str]:
    """What sets are called: their annotation files' names, numbered where two have the same.

    >>> set_names([DataTable(annotations=f"{x}/people.json", images=x) for x in "ab"])
    ['people_1', 'people_2']
    """
    names = [Path(table.annotations).stem for table in tables]
    return [
        name if names.count(name) == 1 else f"{name}_{place}"
        for place, name in enumerate(names, start=1)
    ]


class DataSets:
    """What the annotation files of a run's sets say.

    Attributes:
        skeleton: of what is learnt; its category counts.
        keypoints: whether they are learnt, too; False for detectors.
        left_out: by annotation file and folder, ids of images that cannot be used.
    """

    def __init__(
        self,
        skeleton: Skeleton = COCO_PERSON,
        *,
        keypoints: bool = True,
        left_out: Mapping[SetKey, frozenset[int]] | None = None,
    ) -> None:
        self.skeleton = skeleton
        self.keypoints = keypoints
        self.left_out: dict[SetKey, frozenset[int]] = dict(left_out or {})
        self._files: dict[str, CocoFile] = {}
        self._people: dict[str, Annotations] = {}

    def file(self, table: DataTable) -> CocoFile:
        """A set's annotation file.

        Raises:
            DocumentError: it is missing or not an annotation file.
        """
        if table.annotations not in self._files:
            self._files[table.annotations] = read_coco(Path(table.annotations))
        return self._files[table.annotations]

    def all_people(self, table: DataTable) -> Annotations:
        """The people of a set's file, whether or not their images can be used.

        Raises:
            DocumentError: the file is missing or not an annotation file.
        """
        if table.annotations not in self._people:
            self._people[table.annotations] = self.file(table).people(
                skeleton=self.skeleton, keypoints=self.keypoints
            )
        return self._people[table.annotations]

    def people(self, table: DataTable) -> Annotations:
        """The people in the images of a set that can be used.

        Raises:
            DocumentError: the file is missing or not an annotation file.
        """
        annotations = self.all_people(table)
        out = self.left_out.get(key_of(table), frozenset())
        if not out:
            return annotations
        kept = tuple(image for image in annotations.images if image.id not in out)
        return replace(annotations, images=kept)

    def instances(self, table: DataTable) -> Instances:
        """The things of all categories in the images of a set that can be used.

        Raises:
            DocumentError: the file is missing or not an annotation file.
        """
        instances = self.file(table).instances()
        out = self.left_out.get(key_of(table), frozenset())
        kept = tuple(image for image in instances.images if image.id not in out)
        return replace(instances, images=kept)


def key_of(table: DataTable) -> SetKey:
    """What tells one set from another."""
    return table.annotations, table.images
