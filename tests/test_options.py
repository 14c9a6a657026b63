"""Options of both stages: what is refused, and when, and what is put on record."""

from __future__ import annotations

import pytest

from posepipe.errors import OptionError, PosepipeError, RecipeError
from posepipe.options import (
    DEFAULT_POSE_MODEL,
    DetectionOptions,
    PoseOptions,
)
from posepipe.pipeline import Pipeline
from posepipe.pose.model import load_pose_model


def test_options_that_are_fields_of_the_recipe_and_other_changes_are_of_one_kind():
    assert DetectionOptions().recipe_changes == PoseOptions().recipe_changes == ()
    detection = DetectionOptions(nms="hard", nms_threshold=0.3, top_k=7, min_score=0.0)
    assert detection.recipe_changes == (
        *('suppression.method="hard"', "suppression.threshold=0.3"),
        *("suppression.top_k=7", "people.min_score=0.0"),
    )
    pose = PoseOptions(flip=False, blur_kernel=7, changes=("decoding.blur_kernel=9",))
    stage = Pipeline(pose=pose).pose_stage
    assert (stage.decoding.flip, stage.decoding.blur_kernel) == (False, 9)  # the last one counts
    assert load_pose_model(DEFAULT_POSE_MODEL).decoding.flip


def test_what_was_set_anew_is_on_record():
    changes = ("preprocessing.long_side=96", "suppression.sigma=0.4")
    stage = Pipeline(DetectionOptions(changes=changes))
    settings = stage.made_by("detect").settings
    assert settings["set"] == list(changes)
    assert settings["suppression"]["sigma"] == 0.4
    assert "set" not in Pipeline().made_by("detect").settings


@pytest.mark.parametrize("options", [{"nms_threshold": 2.0}, {"nms_sigma": 0.0}, {"top_k": 0}])
def test_suppression_out_of_range_is_refused(options):
    (name,) = (path.partition("=")[0] for path in DetectionOptions(**options).recipe_changes)
    with pytest.raises(RecipeError, match=f"with --set {name}"):
        Pipeline(DetectionOptions(**options)).load()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (DetectionOptions(models=("no-such-model",)), "no model 'no-such-model'; there are"),
        (DetectionOptions(models=("cpn-resnet50-256x192",)), "cpn-resnet50-256x192"),
        (PoseOptions(models=("no-such-model",)), "no model 'no-such-model'; there are"),
        (PoseOptions(models=("fasterrcnn-resnet50-fpn",)), "for detection, not for poses"),
        (PoseOptions(blur_kernel=4), "blur_kernel must be odd"),
    ],
)
def test_options_that_do_not_work_are_refused_in_one_line(options, message):
    with pytest.raises(PosepipeError, match=message) as caught:
        Pipeline(**{options_for(options): options}).load()
    assert "\n" not in str(caught.value)


def options_for(options):
    return "detection" if isinstance(options, DetectionOptions) else "pose"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DetectionOptions(models=()), "at least one model"),
        (lambda: DetectionOptions(models=("a", "b"), weights="c.pth"), "a single model"),
        (lambda: DetectionOptions(models="a"), "in a tuple; got 'a'"),
        (lambda: PoseOptions(models=()), "at least one model"),
        (lambda: PoseOptions(oks_nms=2), r"must lie in \[0, 1\], got 2"),
        (lambda: Pipeline(device="tpu"), "no device 'tpu'"),
        (lambda: Pipeline(precision="fp8"), "no precision 'fp8'"),
    ],
)
def test_what_can_be_known_before_loading_is_refused_before_loading(make, message):
    with pytest.raises(OptionError, match=message):
        make()


def test_an_unknown_runtime_is_refused_before_any_model_is_loaded() -> None:
    with pytest.raises(OptionError, match="no runtime 'tensorrt': use one of auto, torch"):
        Pipeline(runtime="tensorrt")
