from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from builders import annotation_file, image_entry, save_json
from commands import boxes_file, content, lines, photo, posepipe
from PIL import Image

from posepipe.zoo.recipe import list_experiments, list_recipes


def test_people_in_photographs_get_boxes_and_poses(work: Path) -> None:
    boxes, people = content(work / "boxes.json"), content(work / "kps.json")
    assert [image["file_name"] for image in boxes["images"]] == ["a.jpg", "b.png", "c.jpg"]
    assert {box["image_id"] for box in boxes["annotations"]} == {1, 2}
    assert [(p["image_id"], p["file_name"]) for p in people] == [
        (box["image_id"], boxes["images"][box["image_id"] - 1]["file_name"])
        for box in boxes["annotations"]
    ]
    assert all(len(p["keypoints"]) == 51 and "bbox" not in p for p in people)


def test_a_run_in_one_go_equals_one_stage_after_the_other(work: Path, tmp_path: Path) -> None:
    result = posepipe(
        "run", work / "pictures", "-o", tmp_path / "kps.json", "--min-score", "0.5", "--strict"
    )
    assert lines(result) == []
    assert result.exit_code == 0
    # The root is stored relative to the document, and this document lies elsewhere.
    for one, two in zip(content(tmp_path / "kps.json"), content(work / "kps.json"), strict=True):
        assert one | {"image_root": ""} == two | {"image_root": ""}


def test_a_coco_set_is_found_in_the_data_root(
    work: Path, detector: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "000000001490.jpg"
    photo(tmp_path / "coco" / "val2017" / name)
    labels = tmp_path / "coco" / "annotations" / "person_keypoints_val2017.json"
    annotation_file(labels, [], [image_entry(1490, width=200, height=200)])
    command = ("detect", "--split", "minival", "--model", detector, "-o")
    result = posepipe(*command, tmp_path / "given.json", "--data", tmp_path / "coco")
    assert (result.exit_code, result.stderr) == (0, "")
    monkeypatch.setenv("POSEPIPE_DATA", str(tmp_path / "coco"))
    assert posepipe(*command, tmp_path / "set.json").exit_code == 0
    assert content(tmp_path / "given.json") == content(tmp_path / "set.json")
    images = content(tmp_path / "set.json")["images"]
    assert [(image["id"], image["file_name"]) for image in images] == [(1490, name)]


def test_inputs_may_be_patterns_files_and_lists(detector: Path, tmp_path: Path) -> None:
    photo(tmp_path / "in" / "a.jpg", 64)
    photo(tmp_path / "in" / "deep" / "b.jpg", 64)
    (tmp_path / "list.txt").write_text("in/a.jpg\nin/deep/b.jpg\n", encoding="utf-8")
    named = {}
    for number, inputs in enumerate(
        ([tmp_path / "in", "--recursive"], [f"{tmp_path}/in/**/*.jpg"], [tmp_path / "list.txt"])
    ):
        output = tmp_path / f"{number}.json"
        result = posepipe("detect", *inputs, "-o", output, "--model", detector)
        assert result.exit_code == 0
        named[number] = {image["file_name"].split("/")[-1] for image in content(output)["images"]}
    assert list(named.values()) == 3 * [{"a.jpg", "b.jpg"}]


def test_a_plain_detection_list_gives_the_same_poses(work: Path, tmp_path: Path) -> None:
    boxes = content(work / "boxes.json")
    names = {image["id"]: image["file_name"] for image in boxes["images"]}
    people = [box for box in boxes["annotations"] if names[box["image_id"]] == "a.jpg"]
    plain = [
        {key: box[key] for key in ("image_id", "category_id", "bbox", "score")} for box in people
    ]
    save_json(tmp_path / "list.json", plain)
    labels = annotation_file(tmp_path / "names.json", [], boxes["images"])
    result = posepipe(
        *("pose", tmp_path / "list.json", "-o", tmp_path / "kps.json"),
        *("--images", work / "pictures", "--annotations", labels),
    )
    assert (result.exit_code, result.stderr) == (0, "")
    wanted = [p["keypoints"] for p in content(work / "kps.json") if p["file_name"] == "a.jpg"]
    found = [person["keypoints"] for person in content(tmp_path / "kps.json")]
    np.testing.assert_allclose(found, wanted, atol=0.02)  # other people share the batch


def test_labelled_boxes_may_take_the_detectors_place(work: Path, tmp_path: Path) -> None:
    result = posepipe(
        *("pose", "--ground-truth", work / "annotations.json", "--images", work / "pictures"),
        *("-o", tmp_path / "kps.json"),
    )
    assert (result.exit_code, result.stderr) == (0, "")
    assert [person["image_id"] for person in content(tmp_path / "kps.json")] == [1, 2]
    assert {person["box_score"] for person in content(tmp_path / "kps.json")} == {1.0}


def test_poses_are_scored(work: Path, tmp_path: Path) -> None:
    result = posepipe(
        *("eval", work / "kps.json", "--annotations", work / "annotations.json"),
        *("--json", tmp_path / "score.json"),
    )
    assert result.exit_code == 0
    assert "AP.75" in result.stdout
    assert "ankle " in result.stdout
    assert all(line.startswith("posepipe: warning: ") for line in lines(result))
    card = content(tmp_path / "score.json")
    assert card["ar"] == 1.0  # the labels are poses of this very file
    assert (card["images"], card["people"]) == (3, 2)


def test_boxes_are_scored(work: Path) -> None:
    result = posepipe("eval", work / "boxes.json", "--annotations", work / "annotations.json")
    assert result.exit_code == 0
    assert "AP S" in result.stdout


def test_a_split_is_scored_without_its_images(work: Path, tmp_path: Path) -> None:
    labels = tmp_path / "coco" / "annotations" / "person_keypoints_val2017.json"
    labels.parent.mkdir(parents=True)
    shutil.copy(work / "annotations.json", labels)
    options = ("--split", "minival", "--data", tmp_path / "coco", "--no-per-keypoint")
    result = posepipe("eval", work / "kps.json", *options)
    assert result.exit_code == 0
    assert "minival" in result.stdout
    assert "ankle " not in result.stdout


@pytest.mark.parametrize("results", ["kps.json", "boxes.json"])
def test_images_are_drawn_and_named_on_stdout(results: str, work: Path, tmp_path: Path) -> None:
    result = posepipe("draw", work / results, "-o", tmp_path / "drawn", "--min-score", "0")
    assert (result.exit_code, result.stderr) == (0, "")
    drawn = [Path(line) for line in result.stdout.splitlines()]
    with_people = ["a.jpg", "b.png"] if results == "kps.json" else ["a.jpg", "b.png", "c.jpg"]
    assert [path.name for path in drawn] == with_people
    for path in drawn[:2]:
        before = np.asarray(Image.open(work / "pictures" / path.name).convert("RGB"))
        after = np.asarray(Image.open(path))
        assert after.shape == before.shape
        assert np.abs(after.astype(int) - before).max() > 100


def test_images_that_differ_in_their_ending_are_drawn_apart(tmp_path: Path) -> None:
    names = ["a.bmp", "a.png"]
    for name in names:
        photo(tmp_path / "pictures" / name, 40)
    images = [
        {"id": n, "file_name": name, "width": 40, "height": 40} for n, name in enumerate(names, 1)
    ]
    boxes = boxes_file(tmp_path / "boxes.json", [1, 1, 9, 9], images=images)
    result = posepipe("draw", boxes, "-o", tmp_path / "drawn")
    assert [Path(line).name for line in result.stdout.splitlines()] == ["a.bmp.png", "a.png"]


def test_a_name_that_leads_elsewhere_is_drawn_inside_the_folder(tmp_path: Path) -> None:
    photo(tmp_path / "secret" / "a.png", 40)
    (tmp_path / "pictures").mkdir()
    name = "../secret/a.png"
    images = [{"id": 1, "file_name": name, "width": 40, "height": 40}]
    boxes = boxes_file(tmp_path / "boxes.json", [1, 1, 9, 9], images=images)
    result = posepipe("draw", boxes, "-o", tmp_path / "out" / "drawn")
    assert result.exit_code == 0
    assert result.stdout.split() == [str(tmp_path / "out" / "drawn" / "secret" / "a.png")]


def test_the_models_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    result = posepipe("models")
    assert (result.exit_code, result.stderr) == (0, "")
    said = result.stdout.splitlines()
    listed = {line.split()[0]: line.split()[1] for line in said[1:] if line.startswith("  ")}
    assert listed == {recipe.name: recipe.model.stage for recipe in list_recipes()}
    assert max(map(len, said)) <= 100
    column = said[0].index("licence")
    assert all(line[column - 2 : column] == "  " for line in said[1:] if line.startswith("  "))
    groups = [line for line in said[1:-2] if not line.startswith("  ")]
    assert groups[0] == "ready"
    assert any(re.fullmatch(r"  cpn-litehrnet-256x192 +pose .* Apache-2.0", line) for line in said)


def test_the_papers_networks_are_listed_on_request() -> None:
    result = posepipe("models", "--paper")
    assert (result.exit_code, result.stderr) == (0, "")
    said = result.stdout.splitlines()
    listed = {line.split()[0]: line.split()[1] for line in said[1:] if line.startswith("  ")}
    assert list(listed) == [recipe.name for recipe in list_experiments()]
    assert listed["cpn-resnet50-256x192"] == "69.4"
    assert max(map(len, said)) <= 100


@pytest.mark.parametrize("name", ["cpn-litehrnet-256x192", "person-detector-rtmdet-nano"])
def test_a_model_is_shown_with_its_cost(name: str) -> None:
    result = posepipe("models", "show", name, "--cost")
    assert (result.exit_code, result.stderr) == (0, "")
    assert "[network]" in result.stdout
    for figure in ("weights ", "parameters ", "multiply-adds "):
        (line,) = (line for line in result.stdout.splitlines() if line.startswith(figure))
        assert any(character.isdigit() for character in line)


def test_switches_of_the_decoding_change_the_poses(person: Path, tmp_path: Path) -> None:
    found = {}
    for name, switches in {
        "recipe": [],
        "plain": ["--no-flip", "--blur-kernel", "1", "--no-quarter-offset"],
        "box score": ["--no-rescore"],
    }.items():
        result = posepipe("pose", person, "-o", tmp_path / "kps.json", *switches)
        assert (result.exit_code, result.stderr) == (0, "")
        (found[name],) = json.loads((tmp_path / "kps.json").read_bytes())
    assert found["recipe"]["keypoints"] != found["plain"]["keypoints"]
    assert found["recipe"]["keypoints"] == found["box score"]["keypoints"]
    assert found["box score"]["score"] == 0.9 > found["recipe"]["score"]
