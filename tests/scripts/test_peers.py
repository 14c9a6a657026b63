"""Others' ways to run a network do the work that they are timed for."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

import peers  # noqa: E402

from posepipe.core.boxes import Detections  # noqa: E402
from posepipe.io.find_images import find_images  # noqa: E402
from posepipe.pose.model import exportable, load_pose_model  # noqa: E402
from posepipe.zoo.recipe import load_recipe  # noqa: E402

MODEL = "cpn-litehrnet-small-256x192"


def test_a_heatmaps_keypoint_is_a_quarter_of_a_cell_towards_the_second() -> None:
    heatmap = np.zeros((64, 48), np.float32)
    heatmap[20, 30], heatmap[20, 31] = 1.0, 0.9
    x, y = peers._decoded(heatmap)
    assert (x, y) == pytest.approx((30.25, 20))


@pytest.mark.slow
def test_all_people_are_done() -> None:
    [image] = find_images([ROOT / "examples" / "astronaut.jpg"])
    people = Detections(1, [[20, 10, 480, 500], [100, 20, 330, 300]], [0.9, 0.8])
    model = load_pose_model(MODEL, device="cpu", precision="fp32", runtime="torch")
    assert peers.ancestors([(image, people)], model.network, model.preprocessing) == 2
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    from posepipe.networks.runtimes.export import to_onnx

    content = to_onnx(exportable(load_recipe(MODEL), model.network))
    session = onnxruntime.InferenceSession(content)
    assert peers.one_box_at_a_time([(image, people)], session, model.preprocessing) == 2
