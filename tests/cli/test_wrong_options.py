"""Options that cannot be are explained in one line."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from commands import (
    error_of,
    posepipe,
)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--model", "absent"], "no model 'absent'; there are: "),
        (["--model", "{tmp}/absent"], "no model folder"),
        (["--model", "{tmp}/pictures"], "has no recipe.toml"),
        (["--model", "cpn-litehrnet-256x192"], "is for the pose stage"),
        (["--model", "fasterrcnn-resnet50-fpn"], "is not in the cache and nothing may be fetched"),
        (["--model", "detectron2", "--config", "a.yaml"], "needs --weights"),
        (["--model", "detectron2", "--weights", "{tmp}/a.pkl"], "needs --config"),
        (["--config", "a.yaml"], "--config belongs to --model detectron2"),
        (["--weights", "{tmp}/absent.pth"], "no weights file"),
        (["--weights", "{tmp}/pictures/a.jpg"], "is not a weights file that can be read"),
        (["--device", "tpu"], "no device 'tpu': use auto, cpu"),
        (["--device", "cuda:99"], "'cuda:99' asked for"),
        (["--scales", "1,large"], "--scales takes numbers like 0.8,1,1.25"),
        (["--scales", ""], "--scales takes numbers"),
        (["--scales", "0"], "scales[0] takes a number of at least 0.1"),
        (["--scales", "nan"], "scales takes a list, got a text"),
        (["--nms-sigma", "-1"], "with --set suppression.sigma=-1.0, [suppression]: "),
        (["--set", "suppression.sigma=-1"], "with --set suppression.sigma=-1, [suppression]: "),
        (["--set", "decoding.flip=false"], "there is no table 'decoding' to set here: use one of"),
        (["--set", "suppression.sgima=1"], "there is no field 'sgima'"),
        (["--set", "sigma"], "write TABLE.FIELD=VALUE"),
    ],
)
def test_options_of_detection_that_cannot_be_are_explained(
    options: list[str], says: str, person: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out.json"
    options = [option.format(tmp=tmp_path) for option in options]
    result = posepipe("detect", person.parent / "pictures", "-o", output, *options)
    assert says in error_of(result)
    assert not list(tmp_path.glob("out.json*"))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--model", "absent"], "no model 'absent'"),
        (["--model", "person-detector-rtmdet-nano"], "is for detection, not for poses"),
        (["--model", "cpn-resnet50-256x192"], "comes without weights: name a file"),
        (["--device", "gpu"], "no device 'gpu'"),
        (["--precision", "fp16", "--device", "cpu"], "fp16 needs a GPU"),
        (["--blur-kernel", "4"], "blur_kernel must be odd, got 4"),
        (["--set", "decoding.blur_kernel=4"], "blur_kernel must be odd, got 4"),
        (["--set", "suppression.sigma=1"], "there is no table 'suppression' to set here"),
        (["--set", "training.batch=2"], "there is no table 'training' to set here"),
        (["--set", "decoding.flip=perhaps"], "flip takes true or false, got a text"),
        (["--blur-kernel", "-1"], "blur_kernel takes a whole number of at least 1"),
    ],
)
def test_options_of_pose_that_cannot_be_are_explained(
    options: list[str], says: str, person: Path, tmp_path: Path
) -> None:
    result = posepipe("pose", person, "-o", tmp_path / "out.json", *options)
    assert says in error_of(result)
    assert not list(tmp_path.glob("out.json*"))


def test_a_model_of_detectron2_says_how_to_get_it(
    person: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "detectron2", None)  # as where it is absent
    (tmp_path / "weights.pkl").touch()
    result = posepipe(
        *("detect", person.parent / "pictures", "-o", tmp_path / "out.json"),
        *("--model", "detectron2", "--config", "COCO-Detection/faster_rcnn_R_50_FPN_3x.yaml"),
        *("--weights", tmp_path / "weights.pkl"),
    )
    assert "needs detectron2, which is not installed: get its source" in error_of(result)
