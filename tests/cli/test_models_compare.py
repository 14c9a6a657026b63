from __future__ import annotations

from collections.abc import Callable

import pytest
from commands import content, error_of, posepipe

from posepipe.options import PoseOptions
from posepipe.pipeline import Pipeline
from posepipe.zoo.recipe import load_recipe

SHIPPED = "cpn-litehrnet-256x192"


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Runs the command on some models; on all it is tested in tests/curation/test_paper.py."""

    def run(names: list[str], *options: str) -> list[str]:
        recipes = [load_recipe(name) for name in names]
        monkeypatch.setattr("posepipe.zoo.recipe.list_experiments", lambda: recipes)
        result = posepipe("models", "compare", *options)
        assert (result.exit_code, result.stderr) == (0, "")
        return result.stdout.splitlines()

    return run


def test_rows_stand_under_their_tables(compared):
    names = ["cpn-resnet50-256x192", "hourglass-1-256x192", "resnet50-dilated-res345-256x192"]
    said = [line.split()[0:2] for line in compared(names)[2:]]
    # By AP; what has none comes last.
    assert said[:4] == [["table", "3"], [names[1], "12.2"], [names[0], "104.5"], [names[2], "91.8"]]
    others = [[["table", str(table)], [names[0], "104.5"]] for table in range(4, 9)]
    assert said[4:] == [line for pair in others for line in pair]


def test_no_models_are_a_head_without_rows(compared):
    assert len(compared([])) == 2


def test_a_row_has_ours_the_papers_and_the_difference_in_per_cent(compared):
    line = compared(["cpn-star-resnet50-256x192"])[3]
    _, ours_mb, papers_mb, off_mb, _, ours, papers, off, _, ap = line.split()
    assert (papers_mb, papers, ap) == ("102", "6.20", "68.6")
    assert float(off_mb) == pytest.approx(100 * (float(ours_mb) / 102 - 1), abs=0.1)
    assert float(off) == pytest.approx(100 * (float(ours) / 6.20 - 1), abs=0.15)
    assert off_mb[0] == off[0] == "+"


def test_what_the_paper_does_not_say_is_a_dash(compared):
    line = compared(["cpn-m6-resnet50-256x192"])[3]
    assert line.split() == ["cpn-m6-resnet50-256x192", "104.5", "–", "6.42", "–", "68.8"]


def test_resnets_can_be_counted_as_the_paper_does(compared):
    plain, moved = (
        compared(["resnet50-256x192"], *options)[3].split()
        for options in ((), ("--stride-in-1x1",))
    )
    assert plain[5:8] == ["3.75", "3.54", "+6.0"]
    assert moved[5:8] == ["3.54", "3.54", "+0.1"]


def test_what_a_recipe_inherits_is_shown(tmp_path):
    result = posepipe("models", "show", "cpn-c2-resnet50-256x192", "--cost")
    assert result.exit_code == 0
    for text in ("extends cpn-resnet50-256x192", 'backbone = "resnet50"', "refine_bottlenecks"):
        assert text in result.stdout
    assert "multiply-adds 5.24 G" in result.stdout


def test_a_recipe_that_extends_nobody_is_shown_as_it_was_written():
    written = (load_recipe(SHIPPED).folder / "recipe.toml").read_text()
    assert posepipe("models", "show", SHIPPED).stdout.startswith(written)


def test_the_head_global_gives_other_poses(person, tmp_path):
    whole, fast = tmp_path / "whole.json", tmp_path / "fast.json"
    assert posepipe("pose", person, "-o", whole).exit_code == 0
    assert posepipe("pose", person, "-o", fast, "--head", "global").exit_code == 0
    (one,), (other,) = content(whole), content(fast)
    assert one["keypoints"] != other["keypoints"]
    assert one["box_xyxy"] == other["box_xyxy"]


def test_a_run_cannot_be_resumed_with_another_head():
    options = [PoseOptions(head=head) for head in ("final", "global")]
    whole, fast = (Pipeline(pose=each, device="cpu").made_by("pose") for each in options)
    assert whole.settings["head"] == "final"
    assert whole != fast


def test_a_model_without_globalnet_has_no_head_global(person, tmp_path):
    line = error_of(
        posepipe(
            *("pose", person, "-o", tmp_path / "kps.json"),
            *("--model", "hourglass-1-256x192", "--head", "global"),
        )
    )
    assert line == "the head 'global' is a CPN's; this network is a 'hourglass'"
