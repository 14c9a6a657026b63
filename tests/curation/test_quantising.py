"""8-bit integers: fewer bytes, nearly the same heatmaps, what is missing said at once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from commands import posepipe
from torch import Tensor, nn

from posepipe.curation import quantising
from posepipe.curation.quantising import quantised
from posepipe.errors import MissingDependencyError, OptionError
from posepipe.networks.runtimes.export import Exportable, to_onnx

EXAMPLE = Path(__file__).parents[2] / "examples" / "astronaut.jpg"


class Small(nn.Module):
    """Convolutions of all kinds."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Conv2d(3, 16, 3, padding=1)
        self.depthwise = nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.middle = nn.Conv2d(16, 32, 1)
        self.last = nn.Conv2d(32, 2, 1)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 2, H, W) of (B, 3, H, W)."""
        features = self.depthwise(self.first(images).relu())
        return self.last(self.middle(features).relu()) * 2


@pytest.fixture(scope="module")
def inputs() -> list[np.ndarray]:
    random = np.random.default_rng(1)
    return [random.normal(size=(1, 3, 16, 16)).astype(np.float32) for _ in range(8)]


def test_all_but_the_sensitive_layers_become_integers(inputs) -> None:
    for library in ("nncf", "openvino", "onnx"):
        pytest.importorskip(library)
    import openvino

    network, small = Small().eval(), Exportable(Small().eval(), ("maps",), (16, 16))
    model = quantised(to_onnx(small), inputs)
    found = openvino.Core().compile_model(model, "CPU")(inputs[0])[0]
    with torch.no_grad():
        wanted = network(torch.from_numpy(inputs[0])).numpy()
    assert np.abs(found - wanted).max() < 0.05 * np.abs(wanted).max()
    integers = [
        op.get_output_shape(0)
        for op in model.get_ordered_ops()
        if op.get_type_name() == "Constant" and op.get_element_type().to_string() == "i8"
    ]
    assert [list(shape) for shape in integers] == [[32, 16, 1, 1]]  # the middle one


def test_too_few_images_are_refused(inputs) -> None:
    for library in ("nncf", "openvino"):
        pytest.importorskip(library)
    with pytest.raises(OptionError, match="3 people or images to calibrate with; at least 8"):
        quantised(b"", inputs[:3])


def test_what_is_missing_is_said_before_any_work(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(quantising, "find_spec", lambda _: None)
    with pytest.raises(
        MissingDependencyError, match=r"int8 needs nncf: pip install 'posepipe\[int8"
    ):
        quantised(b"", [])
    name, file = "person-detector-rtmdet-nano", tmp_path / "a.xml"
    for options in (["--int8"], ["--calibrate", str(EXAMPLE)]):
        result = posepipe("models", "export", name, "-o", file, *options)
        assert result.exit_code == 2
        assert "--int8 and --calibrate IMAGES go together" in result.stderr


def test_a_file_for_another_runtime_is_refused_before_images_are_looked_for(tmp_path) -> None:
    words = ["models", "export", "person-detector-rtmdet-nano", "-o", tmp_path / "a.onnx"]
    result = posepipe(*words, "--int8", "--calibrate", tmp_path / "nowhere")
    assert result.exit_code != 0
    assert "int8 is for OpenVINO: name a file that ends in .xml" in result.stderr
