"""boxes.json, kps.json and other programs' lists as nouns; and labelled boxes in their place."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from operator import and_
from pathlib import Path

import msgspec
import numpy as np
from msgspec import structs

from posepipe.core.poses import Poses
from posepipe.core.skeleton import COCO_PERSON, PERSON, Skeleton
from posepipe.errors import DocumentError, ImageError, OptionError
from posepipe.io.categories import PERSON_ID, keypoint_names
from posepipe.io.checking import check_boxes, usable_poses
from posepipe.io.coco import Annotations, image_files, labelled_boxes, read_coco
from posepipe.io.findings import mostly_lost, noted, refuse_fatal
from posepipe.io.identity import identify, is_person
from posepipe.io.images import ImageFile, ImageSet, coco_id
from posepipe.io.reasons import reason
from posepipe.io.records import (
    BoxesDocument,
    KeypointsDocument,
    MadeBy,
)
from posepipe.io.result_list import ResultEntry, ResultFile, numbers_for, read_results
from posepipe.io.sizes import compare_sizes, sizes_of

WHAT_BOXES = "a boxes.json or a COCO detection list"


def read_boxes(
    source: str | Path | ResultFile,
    *,
    images: str | Path | None = None,
    annotations: str | Path | Annotations | None = None,
    skeleton: Skeleton | None = None,
) -> BoxesDocument:
    """The people of a boxes.json, or of a plain COCO detection list; the content tells which.

    Boxes that are not valid are left out and listed in `problems` (see `check_boxes`).

    Args:
        source: the JSON file, or what was read of it.
        images: the folder of the images; needed for a list, and for a boxes.json whose images
            have moved.
        annotations: for a list: an annotation file that has the images' names and the ids of
            categories. All of its images are taken. Without it, those in the list are, by their
            COCO file names.
        skeleton: whose category is wanted; None takes people, or what a boxes.json is of.

    Raises:
        DocumentError: neither of the two, most of its boxes cannot be used, or none is of a person;
            a boxes.json of another category; says what is wrong and where.
        ImageError: no such folder.
        OptionError: a list without `images`, or one whose images are not named as COCO's, without
            `annotations`; or a boxes.json with `annotations`.
    """
    results = source if isinstance(source, ResultFile) else read_results(source)
    refuse_fatal(results.findings)
    path = results.path
    if any(entry.keypoints is not None for entry in results.entries):
        raise DocumentError(
            f"{path} holds keypoints, not boxes: it is a result already; score it with "
            "`posepipe eval`"
        )
    for place, entry in enumerate(results.entries):
        if entry.bbox is None or entry.score is None:
            lacks = "bbox" if entry.bbox is None else "score"
            raise DocumentError(f"{path} is not {WHAT_BOXES}: [{place}] has no {lacks}")
    if results.is_list:
        return _detection_list(results, images, annotations, skeleton or COCO_PERSON)
    category = results.category or PERSON
    if skeleton is not None and skeleton.category != category:
        raise DocumentError(
            f"{path} has boxes of {category!r}, but the model is for {skeleton.category!r}: detect "
            "with a model of that category, or give labelled boxes with --ground-truth"
        )
    if annotations is not None:
        raise OptionError(f"{path} has file names of its own: leave out --annotations")
    _refuse_nobody(results, None)
    root = _existing_folder(images) if images else _root_of(results.image_root, path)
    sizes_wh = {image.id: image.size_wh for image in results.images if image.has_size}
    listed = (
        ImageFile(
            image.id,
            root / image.file_name,
            image.file_name,
            frame=image.frame,
            seconds=image.seconds,
        )
        for image in results.images
    )
    image_set = ImageSet(root, tuple(listed))
    document = _boxes_document(results, results.entries, image_set, sizes_wh, None)
    made = _origin(results)
    return replace(document, skipped=results.skipped, made_by=made, category=category)


def labelled_document(
    annotations: Annotations, folder: str | Path, *, skeleton: Skeleton = COCO_PERSON
) -> BoxesDocument:
    """The labelled boxes of an annotation file in place of a detector's, with score 1.

    People without a labelled keypoint are left out, as COCO's evaluation does; but where nobody has
    any, the labels are of boxes, and all of them are taken. Images of another size than their
    labels are for have a `problem`.

    Args:
        annotations: the labels.
        folder: where the images lie.
        skeleton: of the labels.

    Raises:
        DocumentError: a fatal finding, or people none of whom has a box to look in.
        ImageError: no such folder.
    """
    where = str(annotations.path)
    sizes = compare_sizes(image_files(annotations, folder), annotations.images, where)
    people = annotations.people
    counted = [entry.iscrowd == 0 for entry in people.entries]
    labelled: list[bool] = np.any(people.visibility > 0, axis=1).tolist()
    everybody = not any(map(and_, counted, labelled))
    unlabelled = [
        f"annotation {entry.id}"
        for entry, counts, has_some in zip(people.entries, counted, labelled, strict=True)
        if counts and not has_some
    ]
    then = "nobody has any: all boxes are taken" if everybody else "left out"
    findings = [
        *annotations.findings,
        *keypoint_names(annotations.person_categories, skeleton, where, fatal=False),
        *noted(where, "people without labelled keypoints", unlabelled, sum(counted), then),
        *sizes.findings,
    ]
    refuse_fatal(findings)
    boxes = labelled_boxes(annotations, everybody=everybody)
    if len(people) and not any(map(len, boxes)):
        raise DocumentError(
            f"{where}: nobody's pose can be estimated: of {len(people)} labelled people "
            f"{len(people) - sum(counted)} are crowd regions and {sum(counted)} have boxes without "
            "area"
        )
    return BoxesDocument(
        images=sizes.images,
        detections=tuple(
            replace(found, size_wh=sizes.sizes_wh.get(found.image_id)) for found in boxes
        ),
        findings=tuple(findings),
        category=skeleton.category,
    )


def read_keypoints(
    source: str | Path | ResultFile,
    *,
    images: str | Path | None = None,
    skeleton: Skeleton = COCO_PERSON,
) -> KeypointsDocument:
    """The poses of a kps.json, or of another program's COCO keypoint results.

    Another program's results may lack file names: then they are taken to be COCO's; boxes: the
    extent of the keypoints is used; box scores: the poses' own are.
    Where all poses have the same category, it is a person's, whatever its id. Entries that are no
    poses (`usable_poses`) are left out, which is a finding.

    Args:
        source: the JSON file, or what was read of it.
        images: the folder of the images, where the file does not name it or they have moved.
        skeleton: what the keypoints are, where the file does not say so.

    Raises:
        DocumentError: not such a list, most entries are no poses of the skeleton, or poses of
            several skeletons in an image.
        ImageError: no such folder.
    """
    results = source if isinstance(source, ResultFile) else read_results(source)
    refuse_fatal(results.findings)
    path = results.path
    if results.holds_boxes:
        raise DocumentError(
            f"{path} holds boxes: keypoint results are a list of poses; boxes become one with "
            "`posepipe pose`"
        )
    folder = _existing_folder(images) if images else None
    results = usable_poses(results, skeleton)
    of_people, others = _people_of(results)
    by_image: dict[int | str, list[ResultEntry]] = {}
    skeletons: dict[int | str, Skeleton] = {}
    for entry in of_people:
        own = entry.skeleton or skeleton
        of_image = skeletons.setdefault(entry.image_id, own)
        if of_image != own:
            raise DocumentError(
                f"{path}: image {entry.image_id} has poses of several skeletons "
                f"({of_image.name}, {own.name}): keep them in separate files"
            )
        by_image.setdefault(entry.image_id, []).append(entry)
    files = []
    poses = []
    numbers = numbers_for(by_image)
    for key, people in by_image.items():
        name = people[0].file_name or (key if isinstance(key, str) else coco_file_name(key))
        root = folder or _root_of(people[0].image_root, path)
        frame, seconds = people[0].frame, people[0].seconds
        files.append(ImageFile(numbers[key], root / name, name, frame=frame, seconds=seconds))
        poses.append(_poses(numbers[key], people, skeletons[key]))
    first_root = next((people[0].image_root for people in by_image.values()), None)
    return KeypointsDocument(
        images=ImageSet(folder or _root_of(first_root, path), tuple(files)),
        poses=tuple(poses),
        other_categories=others,
        findings=results.findings,
    )


def coco_file_name(image_id: int) -> str:
    """The name of an image of COCO 2017.

    >>> coco_file_name(1490)
    '000000001490.jpg'
    """
    return f"{image_id:012d}.jpg"


def _detection_list(
    results: ResultFile,
    images: str | Path | None,
    annotations: str | Path | Annotations | None,
    skeleton: Skeleton,
) -> BoxesDocument:
    path = results.path
    if images is None:
        raise OptionError(
            f"{path} is a plain detection list: name the folder of its images with --images DIR"
        )
    if annotations is None:
        _refuse_nobody(results, None)
        numbers = numbers_for(entry.image_id for entry in results.entries)
        names = {number: key for key, number in numbers.items() if isinstance(key, str)}
        image_set = _listed_images(numbers.values(), names, images, path)
        entries = tuple(structs.replace(e, image_id=numbers[e.image_id]) for e in results.entries)
        return _boxes_document(results, entries, image_set, sizes_of(image_set), None)
    if not isinstance(annotations, Annotations):
        annotations = read_coco(annotations).people(skeleton=skeleton)
    refuse_fatal(annotations.findings)
    _refuse_nobody(results, annotations)
    where = str(annotations.path)
    sizes = compare_sizes(image_files(annotations, images), annotations.images, where)
    found = identify(results, annotations)
    entries = tuple(
        structs.replace(entry, image_id=found.ids.get((entry.image_id, None), entry.image_id))
        for entry in results.entries
    )
    document = _boxes_document(results, entries, sizes.images, sizes.sizes_wh, annotations)
    findings = (*annotations.findings, *sizes.findings, *found.findings, *document.findings)
    refuse_fatal(findings)
    return replace(document, findings=findings, category=skeleton.category)


def _boxes_document(
    results: ResultFile,
    entries: Sequence[ResultEntry],
    images: ImageSet,
    sizes_wh: Mapping[int, tuple[int, int]],
    annotations: Annotations | None,
) -> BoxesDocument:
    checked = check_boxes(
        entries,
        {image.id: image.file_name for image in images},
        sizes_wh,
        is_person=_persons(results, annotations),
    )
    of_people = len(entries) - checked.other_categories
    if mostly_lost(len(checked.problems), of_people):
        raise DocumentError(
            f"{results.path}: {len(checked.problems)} of {of_people} boxes cannot be used, such as "
            f"{checked.problems[0]}"
        )
    return BoxesDocument(
        images=images,
        detections=checked.detections,
        problems=checked.problems,
        other_categories=checked.other_categories,
        findings=results.findings,
    )


def _persons(results: ResultFile, annotations: Annotations | None) -> Callable[[ResultEntry], bool]:
    by_posepipe = results.by_posepipe
    return lambda entry: by_posepipe or is_person(entry, annotations)


def _refuse_nobody(results: ResultFile, annotations: Annotations | None) -> None:
    """Check that some of the boxes are of people, or there are none at all."""
    entries = results.entries
    if not entries or any(map(_persons(results, annotations), entries)):
        return
    ids = {entry.category_id for entry in entries if entry.category_id is not None}
    persons = annotations.person_ids if annotations else {PERSON_ID}
    given, wanted = (", ".join(map(str, sorted(some)[:5])) for some in (ids, persons))
    raise DocumentError(
        f"{results.path}: no box of {len(entries)} is of a person: their category_id is {given}, a "
        f"person's is {wanted}: name the annotation file that has these categories with "
        "--annotations, or change them"
    )


def _listed_images(
    ids: Iterable[int], names: Mapping[int, str], folder: str | Path, path: Path
) -> ImageSet:
    """The images of a list by their COCO ids, or by names in place of ids."""
    root = _existing_folder(folder)
    carried = {coco_id(file.name): file.name for file in sorted(root.iterdir())}
    found = {i: names.get(i) or carried.get(i) or coco_file_name(i) for i in sorted(set(ids))}
    missing = [i for i, name in found.items() if i not in carried and not (root / name).exists()]
    if mostly_lost(len(missing), len(found)):
        raise OptionError(
            f"{path}: {len(missing)} of {len(found)} images are not in {root} by their ids' COCO "
            f"names, such as {found[missing[0]]}: name the annotation file that has their names "
            "with --annotations"
        )
    return ImageSet(root, tuple(ImageFile(i, root / name, name) for i, name in found.items()))


def _people_of(results: ResultFile) -> tuple[list[ResultEntry], int]:
    """The poses of people, and how many others there are."""
    alike = len({entry.category_id for entry in results.entries}) <= 1 or results.by_posepipe
    people = [entry for entry in results.entries if alike or is_person(entry, None)]
    return people, len(results.entries) - len(people)


def _existing_folder(folder: str | Path) -> Path:
    root = Path(folder)
    if not root.is_dir():
        raise ImageError(f"{root}: no such folder of images: check the path")
    return root


def _root_of(stored: str | None, document: Path) -> Path:
    return document.parent / (stored or "")


def _origin(results: ResultFile) -> MadeBy | None:
    if not results.by_posepipe:
        return None
    try:
        return msgspec.convert(results.info, MadeBy)
    except msgspec.ValidationError as error:
        raise DocumentError(
            f"{results.path} is not {WHAT_BOXES}: in `info` {reason(error, MadeBy)}"
        ) from None


def _poses(image_id: int, people: Sequence[ResultEntry], skeleton: Skeleton) -> Poses:
    keypoints = np.array([person.keypoints for person in people]).reshape(len(people), -1, 3)
    boxes = [
        person.box_xyxy or (*points.min(axis=0), *points.max(axis=0))
        for person, points in zip(people, keypoints[..., :2], strict=True)
    ]
    box_scores = [p.score if p.box_score is None else p.box_score for p in people]
    followed = any(person.track_id is not None for person in people)
    track_ids = [-1 if person.track_id is None else person.track_id for person in people]
    return Poses(
        image_id,
        keypoints,
        np.array([person.score for person in people]),
        np.array(boxes),
        np.array(box_scores),
        skeleton,
        np.array(track_ids, np.int64) if followed else None,
    )
