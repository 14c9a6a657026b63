"""The paper's table 1 in one go: each row is what the commands give for its NMS alone."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from builders import annotation, annotation_file, image_entry
from click.testing import CliRunner
from commands import content, photo, posepipe, smaller_detector

from posepipe.core.suppression import Suppression
from posepipe.detection.candidates import Candidates
from posepipe.errors import OptionError

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).parents[2] / "scripts" / "ablate_nms.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("ablate_nms", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["ablate_nms"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def labelled(tmp_path: Path) -> tuple[Path, Path]:
    """Two photographs and labels of their people."""
    photo(tmp_path / "pictures" / "a.jpg")
    photo(tmp_path / "pictures" / "b.jpg", source="grace_hopper.jpg")
    boxes = {1: [30, 5, 130, 190], 2: [10, 10, 140, 180]}
    labels = [annotation(i, i, bbox=box, area=12000.0) for i, box in boxes.items()]
    images = [image_entry(1, file_name="a.jpg"), image_entry(2, file_name="b.jpg")]
    return tmp_path / "pictures", annotation_file(tmp_path / "labels.json", labels, images)


def test_every_row_has_the_numbers_of_the_three_commands(
    script: ModuleType, labelled: tuple[Path, Path], tmp_path: Path
) -> None:
    images, labels = labelled
    model = smaller_detector(tmp_path / "quick-detector", 96)
    common = ["--model", str(model), "--min-score", "0.2"]
    out = tmp_path / "rows.json"
    kinds = ["--nms", "hard:0.3", "--nms", "soft_gaussian"]
    given = ["--images", str(images), "--annotations", str(labels), "--json", str(out)]
    result = CliRunner().invoke(script.main, [*common, *given, *kinds])
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("| NMS | AP all | AP person | AR person | OKS AP |\n")
    assert "No AP over all classes: the annotations have one category alone." in result.stdout
    rows = content(out)["rows"]
    assert [row["nms"] for row in rows] == ["hard:0.3", "soft_gaussian"]
    options = {"hard:0.3": ["--nms", "hard", "--nms-threshold", "0.3"]}
    for row in rows:
        boxes, poses, card = (tmp_path / f"{name}.json" for name in ("boxes", "kps", "card"))
        for command in (
            ["detect", images, "-o", boxes, *common, *options.get(row["nms"], [])],
            ["pose", boxes, "-o", poses],
            ["eval", poses, "--annotations", labels, "--json", card, "--no-per-keypoint"],
        ):
            assert posepipe(*command).exit_code == 0
        assert row["oks_ap"] == pytest.approx(content(card)["ap"], abs=1e-6)
        assert posepipe("eval", boxes, "--annotations", labels, "--json", card).exit_code == 0
        assert row["ap_person"] == content(card)["ap"] > 0
        assert row["ar_person"] == content(card)["ar"]
        assert row["ap_all"] is None


def test_all_classes_count_if_annotations_and_detector_have_several(
    script: ModuleType, tmp_path: Path
) -> None:
    dogs = {"id": 18, "name": "dog"}
    labels = [annotation(1, 1), annotation(2, 1, category_id=18, bbox=[50, 0, 20, 20], area=400)]
    file = annotation_file(
        tmp_path / "all.json", labels, categories=[{"id": 1, "name": "person"}, dogs]
    )
    truth = script.read_labels(file)
    boxes = [[10, 20, 40, 60], [50, 0, 70, 20]]
    image = type("Image", (), {"id": 1})()
    for classes, ap in (([1, 18], 1.0), ([1, 1], 0.5), ([1, 44], 0.5)):
        seen = [script.Seen(image, (100, 80), Candidates(boxes, [0.9, 0.8], classes))]
        found = script.ap_of_all_classes(seen, Suppression(), truth)
        assert found == pytest.approx(ap, abs=0.01)
        alone = "the detector knows no class but person"
        assert script.why_not_all_classes(seen, truth) == (alone if classes == [1, 1] else "")
    nothing = [script.Seen(image, (100, 80), Candidates.none())]
    assert script.ap_of_all_classes(nothing, Suppression(), truth) == 0.0


def test_a_row_is_told_by_a_word_and_a_number(script: ModuleType) -> None:
    base = Suppression(top_k=7)
    hard = script.suppression_of("hard:0.6", base)
    assert (hard.method, hard.threshold, hard.top_k) == ("hard", 0.6, 7)
    soft = script.suppression_of("soft_gaussian:0.3", base)
    assert (soft.method, soft.sigma, soft.threshold) == ("soft_gaussian", 0.3, base.threshold)
    assert script.suppression_of("none", base).method == "none"
    for wrong in ("medium", "hard:2", "hard:much"):
        with pytest.raises(OptionError, match=f"--nms {wrong}: "):
            script.suppression_of(wrong, base)


def test_a_mistake_is_one_line(script: ModuleType, labelled: tuple[Path, Path]) -> None:
    images, labels = labelled
    (images / "b.jpg").write_bytes(b"")
    given = ["--images", str(images), "--annotations", str(labels)]
    for arguments, says in (([], "name a --split"), (given, "b.jpg")):
        result = CliRunner().invoke(script.main, arguments)
        assert result.exit_code == 1
        (line,) = result.stderr.splitlines()
        assert line.startswith("ablate_nms: ")
        assert says in line


def test_boxes_that_two_rows_share_are_looked_at_once(script: ModuleType) -> None:
    from builders import detections

    first = detections(1, [[0, 0, 2, 2], [1, 1, 3, 3]])
    second = detections(1, [[1, 1, 3, 3], [5, 5, 6, 6]])
    nobody = detections(1, [])
    boxes, places = script.without_repeats([first, second, nobody])
    assert len(boxes) == 3
    for answer, place in zip([first, second, nobody], places, strict=True):
        np.testing.assert_array_equal(boxes.boxes_xyxy[place], answer.boxes_xyxy)


def test_the_numbers_are_json(script: ModuleType) -> None:
    row = script.Row("none", Suppression(method="none"), None, 0.5, 0.25, None)
    assert list(script.markdown([row]))[-1] == "| none | – | 50.0 | 25.0 | – |"
    assert json.loads(script.msgspec.json.encode(row))["suppression"]["method"] == "none"
