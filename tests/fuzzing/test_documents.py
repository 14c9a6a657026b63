"""Documents, lists, annotations, journals and records: wrong ones by the hundred.

``POSEPIPE_FUZZ=10000 python -m pytest tests/fuzzing`` gives each reader so many.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import (
    annotation,
    annotation_file,
    detections,
    image_entry,
    poses,
    save_image,
    save_json,
)
from fuzzing.harness import INPUTS, check_reader, outcome_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from posepipe.core.boxes import Detections
from posepipe.core.skeleton import COCO_PERSON
from posepipe.errors import ImageError
from posepipe.io.coco import read_annotations, read_coco, read_instances
from posepipe.io.documents import (
    BoxesDocument,
    KeypointsDocument,
    labelled_document,
    made_by,
    read_boxes,
    read_keypoints,
    write_boxes,
    write_keypoints,
)
from posepipe.io.find_images import find_images
from posepipe.io.images import ImageSet
from posepipe.io.journal import Entry, Journal
from posepipe.scoring.evaluation import evaluate, evaluate_boxes
from posepipe.training.data import DataSets, DataTable
from posepipe.training.datacheck import check_data
from posepipe.training.metrics import MetricsLog
from posepipe.training.run_folder import RunFolder, RunRecord, sitting

NAMES = tuple(f"{n:012d}.jpg" for n in (1, 2, 3))


@dataclass(frozen=True, eq=False)
class Found:
    size_wh: tuple[int, int]
    detections: Detections


@pytest.fixture
def images(tmp_path: Path) -> ImageSet:
    """Three images, as files."""
    for name in NAMES:
        save_image(tmp_path / "pictures" / name, 100, 80)
    return find_images([tmp_path / "pictures"])


@pytest.fixture
def boxes_json(images: ImageSet, tmp_path: Path) -> Path:
    corners = [[1, 2, 30, 40], [5, 5, 60, 70]]
    people = tuple(detections(n, corners[: n % 3], size_wh=(100, 80)) for n in (1, 2, 3))
    document = BoxesDocument(images, people, made_by=made_by("detect"))
    write_boxes(tmp_path / "boxes.json", document)
    return tmp_path / "boxes.json"


@pytest.fixture
def kps_json(images: ImageSet, tmp_path: Path) -> Path:
    document = KeypointsDocument(images, (poses(1, 2), poses(2, 0), poses(3, 1)))
    write_keypoints(tmp_path / "kps.json", document)
    return tmp_path / "kps.json"


@pytest.fixture
def labels(images: ImageSet, tmp_path: Path) -> Path:
    """People in three images, one of them a crowd, with the fields of COCO's own files."""
    entries = [
        annotation(1, 1),
        annotation(2, 1, bbox=[5.5, 6.5, 40, 50], area=700.5, num_keypoints=17),
        annotation(3, 3, iscrowd=1, segmentation={"counts": [1, 2], "size": [80, 100]}),
        annotation(4, 2, keypoints=[0] * 51, num_keypoints=0),
    ]
    person = {
        "id": 1,
        "name": "person",
        "keypoints": list(COCO_PERSON.keypoints),
        "skeleton": [[16, 14]],
    }
    listed = [image_entry(n, date_captured="2013-11-14", license=1) for n in (1, 2, 3)]
    return annotation_file(
        tmp_path / "people.json", entries, listed, categories=[person], info={"year": 2017}
    )


def detection_list(path: Path) -> Path:
    entries = [
        {"image_id": n, "category_id": 1, "bbox": [1, 2, 30, 40], "score": 0.9} for n in (1, 2, 3)
    ]
    return save_json(path, entries)


def mangled(path: Path) -> Path:
    """Where wrong versions of a file go, beside it."""
    return path.with_name(f"wrong-{path.name}")


def test_boxes_files(boxes_json: Path) -> None:
    def read(path: Path) -> None:
        document = read_boxes(path)
        for image in document.images:
            with suppress(ImageError):
                image.read()

    tally = check_reader(read, [boxes_json.read_bytes()], mangled(boxes_json))
    assert min(tally.outcomes["read"], tally.outcomes["refused"]) > 0


def test_detection_lists(boxes_json: Path, labels: Path, images: ImageSet) -> None:
    sample = detection_list(labels.with_name("list.json"))

    def read(path: Path) -> None:
        read_boxes(path, images=images.root)
        read_boxes(path, images=images.root, annotations=labels)
        evaluate_boxes(path, labels)

    check_reader(read, [sample.read_bytes()], mangled(sample))


def test_keypoint_results(kps_json: Path, labels: Path) -> None:
    plain = [
        {key: entry[key] for key in ("image_id", "category_id", "keypoints", "score")}
        for entry in json.loads(kps_json.read_bytes())
    ]

    def read(path: Path) -> None:
        read_keypoints(path)
        evaluate(path, labels)

    samples = [kps_json.read_bytes(), json.dumps(plain).encode()]
    check_reader(read, samples, mangled(kps_json))


def check(path: Path) -> None:
    """What training does before it begins."""
    table = DataTable(annotations=str(path), images=str(path.parent))
    check_data([table], [], data=DataSets())


def test_annotations(labels: Path, kps_json: Path, images: ImageSet) -> None:
    def read(path: Path) -> None:
        read_coco(path).people()
        read_instances(path)
        check(path)
        annotations = read_annotations(path)
        labelled_document(annotations, images.root)
        evaluate(kps_json, annotations)

    check_reader(read, [labels.read_bytes()], mangled(labels))


def test_journals(tmp_path: Path) -> None:
    output, fingerprint = tmp_path / "boxes.json", {"models": ["abc"], "settings": {"nms": 0.5}}
    with Journal[Found].start(output, fingerprint) as journal:
        for n in (1, 2, 3, 4):
            found = Found((100, 80), detections(n, np.arange(4 * (n % 3)).reshape(-1, 4)))
            journal.append(Entry(n, found))
    sample = journal.path.read_bytes()
    sound: dict[int, str] = {}

    def resume(path: Path) -> None:
        with Journal.resume(output, fingerprint, Found) as journal:
            found = {number: repr(entry) for number, entry in journal.finished.items()}
        if not sound:
            sound.update(found)
        assert found.items() <= sound.items()

    resume(journal.path)
    check_reader(resume, [sample], journal.path, inputs=3 * INPUTS)


def test_run_folders(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.write_record(RunRecord("a", 0, [], {}, [sitting(0, processes=1, device="cpu")]))
    record = tmp_path / "run.json"
    check_reader(lambda _: run.read_record(), [record.read_bytes()], record)
    metrics = tmp_path / "metrics.csv"

    def read_rows(_: Path) -> None:
        MetricsLog(tmp_path, samples=8, measured=8).close()

    sample = b"samples,minutes,set/AP\n4,0.1,0.5\n8,0.2,0.6\n16,0.4,0.7\n"
    check_reader(read_rows, [sample], metrics)


def test_lists_of_images(images: ImageSet, tmp_path: Path) -> None:
    lists = tmp_path / "pictures.txt"
    sample = b"# a list\npictures/000000000001.jpg\n\npictures/*.jpg\n./images\n"
    check_reader(lambda path: find_images([path]), [sample], lists)


# --- any JSON at all

NUMBERS = st.one_of(st.integers(), st.floats(), st.booleans())
FIELDS = """
images annotations categories id image_id category_id bbox score keypoints
file_name width height area iscrowd num_keypoints segmentation name info image_root
skipped box_xyxy box_score posepipe_journal
"""
KEYS = st.sampled_from(re.findall(r"\w+", FIELDS))
JSON = st.recursive(
    st.one_of(st.none(), NUMBERS, st.text(max_size=8), st.sampled_from(NAMES)),
    lambda inside: st.one_of(
        st.lists(inside, max_size=6),
        st.lists(NUMBERS, min_size=4, max_size=4),
        st.lists(NUMBERS, min_size=51, max_size=51),
        st.dictionaries(KEYS | st.text(max_size=3), inside, max_size=6),
    ),
    max_leaves=20,
)
ENTRIES = st.lists(st.dictionaries(KEYS, JSON, max_size=8), max_size=4)
DOCUMENTS = st.one_of(JSON, ENTRIES, st.dictionaries(KEYS, JSON | ENTRIES, min_size=3, max_size=8))

READERS: dict[str, Callable[[Path], Any]] = {
    "boxes": read_boxes,
    "list": lambda path: read_boxes(path, images=path.parent),
    "keypoints": read_keypoints,
    "annotations": read_annotations,
    "instances": read_instances,
    "labels": check,
    "scores": lambda path: evaluate(path, path),
    "box scores": lambda path: evaluate_boxes(path, path),
}


@settings(
    max_examples=max(20, INPUTS // 4),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(value=DOCUMENTS)
def test_any_json_is_read_or_refused_by_all(value: Any, tmp_path: Path) -> None:
    path = tmp_path / "any.json"
    path.write_bytes(json.dumps(value).encode("utf-8", "surrogatepass"))
    for name, read in READERS.items():
        outcome_of(read, path, f"{name}: {value!r}")
