"""What --compile says of the networks of a command."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from posepipe.cli.stage_options import compile_if_wanted
from posepipe.errors import OptionError
from posepipe.networks import compiling
from posepipe.pose.stage import PoseStage


class OfCommands:
    """A pipeline that writes down what is compiled."""

    device = "cpu"

    def __init__(self, pose_stage: object, *, fails: bool = False) -> None:
        self.pose_stage, self.fails = pose_stage, fails
        self.compiled: list[str] = []

    def compile(self, command: str) -> None:
        self.compiled.append(command)
        if self.fails:
            raise OptionError("no compiler")


def stage(*, flip: bool) -> PoseStage:
    one = object.__new__(PoseStage)
    one.decoding = SimpleNamespace(flip=flip)
    return one


@pytest.fixture(autouse=True)
def pays_from_ten_images(monkeypatch) -> None:
    monkeypatch.setattr(compiling, "pays", lambda device, images: images >= 10)


@pytest.mark.parametrize(
    ("wanted", "command", "images", "flip", "compiled"),
    [
        ("auto", "run", 10, True, ["pose"]),
        ("auto", "pose", 10, True, ["pose"]),
        ("auto", "run", 9, True, []),
        ("auto", "run", 10, False, []),
        ("auto", "detect", 10, True, []),
        ("on", "run", 1, False, ["run"]),
        ("on", "detect", 1, False, ["detect"]),
        ("off", "run", 10, True, []),
    ],
)
def test_what_is_compiled(wanted, command, images, flip, compiled) -> None:
    pipeline = OfCommands(stage(flip=flip))
    compile_if_wanted(pipeline, {"compile": wanted}, command, images=images)
    assert pipeline.compiled == compiled


def test_networks_for_whole_images_are_compiled_by_nobody() -> None:
    pipeline = OfCommands(object())
    compile_if_wanted(pipeline, {"compile": "auto"}, "run", images=10)
    assert pipeline.compiled == []


def test_where_nobody_asked_for_it_a_failure_is_a_warning(capsys) -> None:
    compile_if_wanted(
        OfCommands(stage(flip=True), fails=True), {"compile": "auto"}, "run", images=10
    )
    assert "warning: no compiler" in capsys.readouterr().err
    with pytest.raises(OptionError, match="no compiler"):
        compile_if_wanted(
            OfCommands(stage(flip=True), fails=True), {"compile": "on"}, "run", images=10
        )
