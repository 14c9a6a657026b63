"""Exported graphs: whatever their operations are called, the convolutions find their places."""

from __future__ import annotations

import gc
import importlib.util
import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from posepipe.curation.importing.graphs import put_into, read_graph
from posepipe.errors import WeightsError
from posepipe.pose.model import load_pose_model
from posepipe.pose.networks.plain import PlainHeatmaps, PlainTable

SHARED = Path(__file__).parents[3] / "../shared"
TINYPOSE = SHARED / "weights/tinypose_256x192"


class Network(nn.Module):
    """Two paths of the same shapes, which only the order of the operands tells apart."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Conv2d(4, 2, 1)
        self.right = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4))
        self.left = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4))

    def forward(self, images: Tensor) -> Tensor:
        result: Tensor = self.last(self.left(images).relu() - self.right(images))
        return result


def operation(name: str, op: str, *ins: str, pad: int = 0) -> dict[str, Any]:
    sizes = {"strides": [1, 1], "pads": [pad, pad], "dil": [1, 1]} if op == "Convolution" else {}
    return {"name": name, "op": op, "ins": [[one, 0] for one in ins], **sizes}


@pytest.fixture
def graph(tmp_path: Path) -> tuple[Path, dict[str, Tensor]]:
    plan = [
        operation("x", "Parameter"),
        operation("b", "Convolution", "x", "$wb", pad=1),  # the right path comes first here
        operation("b+", "Add", "b", "$bb"),
        operation("a", "Convolution", "x", "$wa", pad=1),
        operation("a+", "Add", "a", "$ba"),
        operation("r", "Relu", "a+"),
        operation("s", "Subtract", "r", "b+"),
        operation("c", "Convolution", "s", "$wc"),
        operation("c+", "Add", "c", "$bc"),
        operation("unused", "Relu", "x"),
    ]
    constants = {
        **{f"w{name}": torch.randn(4, 3, 3, 3) for name in "ab"},
        **{f"b{name}": torch.randn(1, 4, 1, 1) for name in "ab"},
        "wc": torch.randn(2, 4, 1, 1),
        "bc": torch.randn(1, 2, 1, 1),
    }
    (tmp_path / "g.json").write_text(json.dumps({"plan": plan, "outputs": ["c+"]}))
    save_file(constants, tmp_path / "g.safetensors")
    return tmp_path / "g.json", constants


@torch.inference_mode()
def test_a_network_computes_what_the_graph_computes(
    graph: tuple[Path, dict[str, Tensor]],
) -> None:
    path, k = graph
    network = Network()
    put_into(network, read_graph(path), path)
    images = torch.randn(2, 3, 6, 5)
    left = nn.functional.conv2d(images, k["wa"], k["ba"].flatten(), padding=1).relu()
    right = nn.functional.conv2d(images, k["wb"], k["bb"].flatten(), padding=1)
    expected = nn.functional.conv2d(left - right, k["wc"], k["bc"].flatten())
    assert torch.allclose(network.eval()(images), expected, atol=1e-5)


def test_another_network_is_refused_by_the_first_convolution_that_differs(
    graph: tuple[Path, dict[str, Tensor]],
) -> None:
    path, _ = graph
    other = Network()
    other.right[0] = nn.Conv2d(3, 4, 3, padding=1, stride=2, bias=False)
    with pytest.raises(WeightsError, match=r"'b' has shape, stride.*right\.0 has"):
        put_into(other, read_graph(path), path)
    with pytest.raises(WeightsError, match="it has 2 convolutions, not 3"):
        put_into(Network(), read_graph(path)[:2], path)


def test_files_that_are_no_graph_are_one_line(tmp_path: Path) -> None:
    path = tmp_path / "g.json"
    with pytest.raises(WeightsError, match=r"g.json cannot be read"):
        read_graph(path)
    for content in (b'{"plan": \xff}', b'{"x": ' + b"[" * 100_000, b"", b'{"x": "\xff"}'):
        path.write_bytes(content)
        with pytest.raises(WeightsError, match="is not the plan of a graph"):
            read_graph(path)
    path.write_text('{"plan": 3}')
    with pytest.raises(WeightsError, match="is not the plan of a graph"):
        read_graph(path)
    plan = [operation("c", "Convolution", "missing", "$w")]
    path.write_text(json.dumps({"plan": plan, "outputs": ["c"]}))
    save_file({"w": torch.zeros(1, 1, 1, 1)}, tmp_path / "g.safetensors")
    with pytest.raises(WeightsError, match="there is no 'missing' in it"):
        read_graph(path)
    for circle in (["c"], ["c", "b"], ["c", "b", "a"]):
        plan = [
            operation(name, "Relu", after)
            for name, after in zip(circle, circle[1:] + circle[:1], strict=True)
        ]
        path.write_text(json.dumps({"plan": plan, "outputs": ["c"]}))
        with pytest.raises(WeightsError, match="'c' needs its own result"):
            read_graph(path)


@torch.inference_mode()
def test_tinypose_says_what_its_graph_says_and_so_does_the_model_that_ships() -> None:
    runner = SHARED / "data/tools/graph.py"
    if not runner.is_file() or not TINYPOSE.with_suffix(".json").is_file():
        pytest.skip(f"no {runner} or {TINYPOSE}: the exported graph is not here")
    spec = importlib.util.spec_from_file_location("graph", runner)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    images = torch.randn(1, 3, 128, 96)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # it leaves its file open
        expected = module.Graph(str(TINYPOSE))(images)
        gc.collect()
    network = PlainHeatmaps(PlainTable())
    put_into(network, read_graph(TINYPOSE), TINYPOSE)
    assert torch.allclose(network.eval()(images), expected, atol=1e-5)
    shipped = load_pose_model("pp-tinypose-256x192", device="cpu", precision="fp32")
    assert torch.allclose(shipped.network(images), expected, atol=2e-3)
    stored = load_file(TINYPOSE.with_suffix(".safetensors"))
    assert sum(tensor.numel() for tensor in stored.values()) == 1_300_177
