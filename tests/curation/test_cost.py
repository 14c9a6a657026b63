"""What models cost."""

from __future__ import annotations

import pytest

from posepipe.curation.cost import model_cost
from posepipe.zoo.recipe import Recipe, load_recipe

# The paper's networks against its tables: test_paper.py.


@pytest.mark.parametrize(
    ("name", "most_multiply_adds_g"),
    [("cpn-litehrnet-256x192", 3.0), ("cpn-litehrnet-small-256x192", 0.5)],
)
def test_the_shipped_pose_models_are_compact(name, most_multiply_adds_g):
    cost = model_cost(load_recipe(name))
    assert cost.input_wh == (192, 256)
    assert 2 < cost.parameters_mb < 32  # 16 MB in half precision
    assert 0.1 < cost.multiply_adds_g < most_multiply_adds_g


def test_the_shipped_detector_is_compact():
    cost = model_cost(load_recipe("person-detector-rtmdet-nano"))
    width, height = cost.input_wh
    assert width * 3 == height * 4
    assert 2 < cost.parameters_mb < 8  # half of it in half precision
    assert 0.4 < cost.multiply_adds_g < 1


def test_a_model_of_detectron2_is_not_looked_into(tmp_path):
    tables = {
        "model": {"stage": "detection", "summary": ""},
        "detector": {"backend": "detectron2"},
    }
    assert model_cost(Recipe("d2", tmp_path, tables)) is None


def test_multiply_adds_are_counted_for_one_crop_and_grow_with_its_area(tmp_path):
    def cost(size_wh):
        tables = {
            "model": {"stage": "pose", "summary": ""},
            "network": {"backbone": "mobilenet_v2", "channels": 16},
            "preprocessing": {"input_size_wh": size_wh},
        }
        return model_cost(Recipe("small", tmp_path, tables))

    small, large = cost([64, 64]), cost([128, 128])
    assert large.multiply_adds_g == pytest.approx(4 * small.multiply_adds_g)
    assert large.parameters_mb == small.parameters_mb
