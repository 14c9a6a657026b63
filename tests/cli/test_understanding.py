"""eval --explain, compare, rescore and view as commands, on poses of the shipped models."""

from __future__ import annotations

import json

import pytest
from commands import content, error_of, lines, posepipe


@pytest.fixture
def worse(work, tmp_path):
    """The same poses with every left shoulder where the right one is."""
    poses = content(work / "kps.json")
    for pose in poses:
        pose["keypoints"][15:17] = pose["keypoints"][18:20]
    path = tmp_path / "worse.json"
    path.write_text(json.dumps(poses))
    return path


def test_explain_names_the_error(work, worse, tmp_path):
    numbers = tmp_path / "numbers.json"
    labels = work / "annotations.json"
    result = posepipe("eval", worse, "--annotations", labels, "--explain", "--json", numbers)
    assert result.exit_code == 0, result.output
    assert "inversion" in result.stdout
    explained = json.loads(numbers.read_text())["explanation"]
    assert explained["per_keypoint"]["left_shoulder"]["inversion"] == 1
    assert explained["per_keypoint"]["right_shoulder"]["good"] == 1
    causes = {cause["name"]: cause for cause in explained["causes"]}
    assert causes["inversion"]["count"] == 2
    assert explained["causes"][-1]["progressive"] == pytest.approx(1)


def test_the_page_holds_its_plots_and_links_to_the_images(work, worse, tmp_path):
    pytest.importorskip("matplotlib")
    page = tmp_path / "page.html"
    options = ("--annotations", work / "annotations.json", "--html", page)
    result = posepipe("eval", worse, *options, "--view", "http://127.0.0.1:80/")
    assert result.exit_code == 0, result.output
    text = page.read_text()
    assert text.count("<svg") == 3
    for fragment in ("sort=oks", "sort=oks&amp;error=inversion", "sort=oks&amp;keypoint=5"):
        assert f'href="http://127.0.0.1:80/#{fragment}"' in text
    assert posepipe("eval", worse, *options, "--view", "http://127.0.0.1:80/").exit_code == 0
    assert page.read_text() == text
    assert "left_shoulder" in text
    assert posepipe("eval", worse, *options).exit_code == 0
    assert "#sort=oks" not in page.read_text()


def test_boxes_are_not_explained(work):
    labels = work / "annotations.json"
    result = posepipe("eval", work / "boxes.json", "--annotations", labels, "--explain")
    assert "only poses can be explained" in error_of(result)


def test_compare_says_by_how_much_and_where(work, worse, tmp_path):
    numbers = tmp_path / "changes.json"
    result = posepipe(
        *("compare", work / "kps.json", worse, "--annotations", work / "annotations.json"),
        *("--resamples", 20, "--json", numbers),
    )
    assert result.exit_code == 0, result.output
    [both] = json.loads(numbers.read_text())
    changes = {number["name"]: number for number in both["numbers"]}
    assert changes["AP"]["second"] < changes["AP"]["first"]
    assert changes["left_shoulder"]["second"] < changes["left_shoulder"]["first"]
    assert changes["right_shoulder"]["second"] == changes["right_shoulder"]["first"]
    assert {image["file_name"] for image in both["images"]} == {"a.jpg", "b.png"}
    assert "left_shoulder" in result.stdout
    assert f"posepipe view {worse} --before {work / 'kps.json'}" in result.stdout


def test_several_files_make_a_table(work, worse):
    results = (work / "kps.json", work / "kps.json", worse)
    options = ("--annotations", work / "annotations.json", "--resamples", 20)
    table = posepipe("compare", *results, *options).stdout.split("\n\n")[0].splitlines()
    assert [table[0].count(str(path)) for path in results] == [2, 2, 1]
    number, first, same, no_change, other, change = table[1].split()[:6]
    assert (number, first, no_change) == ("AP", same, "+0.00")
    assert float(change) == pytest.approx(float(other) - float(first), abs=0.11)
    assert change.startswith("-")


def test_the_same_poses_do_not_differ(work):
    both = (work / "kps.json", work / "kps.json", "--annotations", work / "annotations.json")
    result = posepipe("compare", *both, "--resamples", 20)
    assert result.exit_code == 0
    assert "real" not in result.stdout
    assert "Mean OKS changed in no image" in result.stdout


def test_rescoring_by_the_paper_s_rule_gives_the_same_file(work, tmp_path):
    again = tmp_path / "kps.json"
    assert posepipe("rescore", work / "kps.json", "-o", again).exit_code == 0
    for before, after in zip(content(work / "kps.json"), content(again), strict=True):
        assert after["score"] == pytest.approx(before["score"], abs=1e-5)
        assert after["keypoints"] == before["keypoints"]


@pytest.mark.parametrize("rule", ["box", "confident"])
def test_other_rules_give_other_scores(work, tmp_path, rule):
    again = tmp_path / "kps.json"
    assert posepipe("rescore", work / "kps.json", "-o", again, "--rule", rule).exit_code == 0
    for pose in content(again):
        confidences = [c for c in pose["keypoints"][2::3] if c > 0.2]
        mean = 1 if rule == "box" else sum(confidences) / max(1, len(confidences))
        assert pose["score"] == pytest.approx(pose["box_score"] * mean, abs=1e-4)


def test_duplicates_can_be_left_out_afterwards(work, tmp_path):
    doubled = tmp_path / "doubled.json"
    doubled.write_text(json.dumps([pose for pose in content(work / "kps.json") for _ in "12"]))
    output = tmp_path / "kps.json"
    assert posepipe("rescore", doubled, "-o", output, "--oks-nms", "0.9").exit_code == 0
    assert len(content(output)) <= len(content(work / "kps.json"))


def test_poses_without_box_scores_cannot_be_scored_anew(work, tmp_path):
    poses = content(work / "kps.json")
    for pose in poses:
        del pose["box_score"]
    other = tmp_path / "other.json"
    other.write_text(json.dumps(poses))
    result = posepipe("rescore", other, "-o", tmp_path / "kps.json")
    assert "without a box_score" in error_of(result)


def test_view_writes_a_page_of_all_images(work, tmp_path):
    page = tmp_path / "page"
    options = ("--annotations", work / "annotations.json", "--images", work / "pictures")
    result = posepipe("view", work / "kps.json", *options, "--export", page)
    assert result.exit_code == 0, result.output
    assert result.stdout == f"{page / 'index.html'}\n"
    assert len(list((page / "images").iterdir())) == 3  # the one with nobody in it, too
    index = (page / "index.js").read_text()
    assert '"name":"c.jpg"' in index
    assert posepipe("view", work / "boxes.json", "--export", tmp_path / "boxes").exit_code == 0


def test_view_of_another_set_is_refused(work, tmp_path):
    labels = json.loads((work / "annotations.json").read_text())
    for image in labels["images"]:
        image.update(id=image["id"] + 50, file_name=f"other-{image['file_name']}")
    labels["annotations"] = []
    other = tmp_path / "labels.json"
    other.write_text(json.dumps(labels))
    options = ("--annotations", other, "--export", tmp_path / "page")
    result = posepipe("view", work / "kps.json", *options)
    assert "different image sets" in error_of(result)


def test_view_says_what_is_missing(tmp_path):
    assert "nowhere.json" in "".join(lines(posepipe("view", tmp_path / "nowhere.json")))


def test_what_the_boxes_cost_is_told(work, worse):
    options = ("--annotations", work / "annotations.json", "--explain")
    result = posepipe("eval", worse, *options, "--true-boxes", work / "kps.json")
    assert result.exit_code == 0, result.output
    assert "In the labelled boxes AP is" in result.stdout


def test_view_sorts_by_what_has_changed(work, worse, tmp_path):
    both = ("view", worse, "--before", work / "kps.json", "--images", work / "pictures")
    page = tmp_path / "page"
    labels = work / "annotations.json"
    assert posepipe(*both, "--annotations", labels, "--export", page).exit_code == 0
    index = (page / "index.js").read_text()
    shown = json.loads(index[index.index("{") : index.rindex("}") + 1])
    assert "change" in shown["has"]
    assert all(image["change"] < 0 for image in shown["pictures"][:2])
    assert "--annotations" in error_of(posepipe(*both, "--export", tmp_path / "other"))
