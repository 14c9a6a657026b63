"""RTMDet: cells and boxes by hand, sizes, batches; the published network against its graph."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

from posepipe.curation.golden import verify
from posepipe.curation.importing.graphs import put_into, read_graph
from posepipe.curation.importing.model_folder import import_checkpoint
from posepipe.detection.candidates import Origin
from posepipe.detection.rtmdet import RTMDetDetector, RTMDetPreprocessing, padded_shape
from posepipe.detection.rtmdet_network import (
    OUTPUTS,
    STRIDES,
    RTMDet,
    RTMDetTable,
    cell_corners,
    decoded,
    flat,
)
from posepipe.errors import OptionError
from posepipe.networks.runtimes.base import Port, RuntimeNetwork
from posepipe.zoo.recipe import load_recipe
from posepipe.zoo.weights import read_state

SMALL = RTMDetTable(width=0.125, channels=16, norm=False, classes=3)
SHARED = Path(__file__).parents[2] / ".." / "shared"
GRAPH = SHARED / "weights" / "rtmdet_nano_person.json"


@pytest.fixture
def detector():
    """Makes the same small detector of two classes; it sees boxes in noise."""

    def make(dtype=torch.float32, **fields) -> RTMDetDetector:
        torch.manual_seed(1)
        network = RTMDet(SMALL)
        with torch.no_grad():  # random weights alone give equal scores and no boxes
            logits, _ = network.eval()(torch.randn(1, 3, 64, 96))
            for layer, level in zip(network.head.scores, logits, strict=True):
                layer.weight.div_(level.std())
                layer.bias.zero_()
            for layer in network.head.boxes:
                layer.bias.fill_(2.0)
        given = RTMDetPreprocessing(long_side=96)
        return RTMDetDetector(
            network, origin=Origin("", "", ""), preprocessing=given, dtype=dtype, **fields
        )

    return make


def test_a_cells_box_is_its_distances_from_its_corner():
    corners = cell_corners((64, 96))
    assert len(corners) == 8 * 12 + 4 * 6 + 2 * 3
    assert corners[8 * 12 + 7].tolist() == [16.0, 16.0]  # the second cell of the second row
    distances = torch.tensor([[[1.0, 2.0, 3.0, 4.0]]]).expand(1, len(corners), 4)
    assert decoded(distances, corners)[0, 8 * 12 + 7].tolist() == [15.0, 14.0, 19.0, 20.0]


def test_levels_are_laid_out_as_their_cells_are():
    size_hw = (64, 96)
    levels = []
    for stride in STRIDES:
        y, x = torch.meshgrid(
            torch.arange(size_hw[0] // stride), torch.arange(size_hw[1] // stride), indexing="ij"
        )
        levels.append(stride * torch.stack([x, y])[None].float())
    torch.testing.assert_close(flat(levels)[0], cell_corners(size_hw))


def test_boxes_come_back_in_the_pixels_of_the_given_image(detector, an_image):
    found = detector()
    ready = found.prepare(an_image(192, 128))
    assert ready.pixels.shape == (64, 96, 3)
    [candidates] = found([ready])
    assert len(candidates) > 20
    assert set(candidates.classes.tolist()) == {1, 2}
    with torch.inference_mode():
        pixels = torch.from_numpy(ready.pixels)[None].float() / 255
        given = RTMDetPreprocessing()
        images = (pixels - torch.tensor(given.mean)) / torch.tensor(given.std)
        logits, distances = found.network(images.permute(0, 3, 1, 2))
    scores = flat(logits)[0].sigmoid()
    cell, place = divmod(int(scores.argmax()), 2)
    best = decoded(flat(distances), cell_corners((64, 96)))[0, cell]
    top = int(candidates.scores.argmax())
    np.testing.assert_allclose(candidates.boxes_xyxy[top], 2 * best.numpy(), rtol=1e-4, atol=1e-3)
    assert candidates.classes[top] == place + 1


def test_a_batch_of_one_and_a_batch_of_many_give_the_same_boxes(detector, an_image):
    found = detector()
    sizes = [(96, 64), (64, 96), (96, 64), (75, 70), (40, 96)]
    ready = [found.prepare(an_image(*size, seed)) for seed, size in enumerate(sizes)]
    for together, alone in zip(found(ready), [found([one])[0] for one in ready], strict=True):
        assert len(alone) > 10
        np.testing.assert_allclose(together.scores, alone.scores, atol=1e-4)
        np.testing.assert_allclose(together.boxes_xyxy, alone.boxes_xyxy, atol=0.02)
        np.testing.assert_array_equal(together.classes, alone.classes)


def test_scale_changes_the_networks_input_and_not_the_boxes_pixels(detector, an_image):
    found = detector()
    ready = found.prepare(an_image(150, 100), scale=2.0)
    assert ready.pixels.shape == (128, 192, 3)
    [candidates] = found([ready])
    middles = (candidates.boxes_xyxy[:, :2] + candidates.boxes_xyxy[:, 2:]) / 2
    assert (middles.max(axis=0) < [170, 120]).all()


def test_only_boxes_that_score_more_than_the_recipe_says_are_handed_over(detector, an_image):
    image = an_image(96, 64)
    many = detector(min_score=0.05)
    [low] = many([many.prepare(image)])
    middle = float(np.median(low.scores))
    few = detector(min_score=middle)
    [high] = few([few.prepare(image)])
    assert 0 < len(high) < len(low)
    assert high.scores.min() > middle


def test_scores_are_sigmoids_of_logits_however_extreme():
    class Fixed(torch.nn.Module):
        def forward(self, images):
            sizes = [(images.shape[2] // stride, images.shape[3] // stride) for stride in STRIDES]
            logits = [torch.linspace(-120, 120, 2 * h * w).view(1, 2, h, w) for h, w in sizes]
            return logits, [torch.ones(1, 4, h, w) for h, w in sizes]

    image = np.zeros((64, 96, 3), np.uint8)
    for least in (0.0, 0.05, 0.9):
        detector = RTMDetDetector(
            Fixed(),
            origin=Origin("fixed", "", ""),
            preprocessing=RTMDetPreprocessing(long_side=96),
            min_score=least,
        )
        [found] = detector([detector.prepare(image)])
        with torch.inference_mode():
            scores = flat(Fixed()(torch.zeros(1, 3, 64, 96))[0])[0].sigmoid()
        wanted = scores[scores > max(least, 1e-37)].numpy()
        np.testing.assert_allclose(found.scores[found.scores > 1e-37], wanted, rtol=1e-5)
        assert (found.boxes_xyxy[:, 2:] - found.boxes_xyxy[:, :2] == 2).all()


def test_an_empty_batch_gives_nothing(detector):
    assert detector()([]) == []


def test_bf16_changes_scores_little(detector, an_image):
    image = an_image(96, 64)
    exact, fast = detector(), detector(dtype=torch.bfloat16)
    [precise], [rough] = exact([exact.prepare(image)]), fast([fast.prepare(image)])
    strongest = np.sort(precise.scores)[-20:], np.sort(rough.scores)[-20:]
    np.testing.assert_allclose(*strongest, atol=0.1)
    assert not np.array_equal(*strongest)


needs_graph = pytest.mark.skipif(not GRAPH.is_file(), reason=f"no {GRAPH.name}")


@needs_graph
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # the tool's
def test_the_published_network_says_what_its_exported_graph_says():
    tool = SHARED / "data" / "tools" / "graph.py"
    if not tool.is_file():
        pytest.skip(f"no {tool.name}")
    spec = importlib.util.spec_from_file_location("graph", tool)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    graph = module.Graph(str(GRAPH.with_suffix("")))
    network = RTMDet(RTMDetTable(norm=False)).eval()
    put_into(network, read_graph(GRAPH), GRAPH)  # which takes BGR still
    torch.manual_seed(0)
    images = torch.randn(1, 3, 96, 128)
    with torch.inference_mode():
        theirs = graph(images)
        logits, distances = network(images)
    for level, stride in enumerate(STRIDES):
        torch.testing.assert_close(
            logits[level], theirs[f"rtmdet_head.0.{level}"], rtol=1e-4, atol=1e-4
        )
        torch.testing.assert_close(
            distances[level], theirs[f"rtmdet_head.1.{level}"], rtol=1e-4, atol=1e-4 * stride
        )


@needs_graph
def test_the_shipped_weights_are_what_importing_the_published_ones_gives(tmp_path):
    made = import_checkpoint(GRAPH, tmp_path / "mine")
    assert made.title == "RTMDet-nano for persons"
    imported = load_recipe(tmp_path / "mine")
    shipped = read_state(load_recipe("person-detector-rtmdet-nano").weights_path)
    ours = read_state(imported.weights_path)
    assert shipped.keys() == ours.keys()
    assert all(torch.equal(shipped[key], ours[key]) for key in shipped)
    assert verify(imported).passed
    assert "rtmdet_nano_person.json" in (tmp_path / "mine" / "README.md").read_text()
    with pytest.raises(OptionError, match="is no CPN's checkpoint"):
        import_checkpoint(GRAPH, tmp_path / "other", batch_norm_eps=1e-3)


@pytest.mark.parametrize("size_hw", [(64, 96), (50, 96), (96, 31), (1, 1), (200, 300)])
def test_pixels_for_a_gpu_are_padded_as_they_wait(size_hw, monkeypatch) -> None:
    """There in pinned memory, which only a machine with a GPU has."""
    real = torch.empty
    monkeypatch.setattr(torch, "empty", lambda *size, pin_memory=False, **how: real(*size, **how))
    given = RTMDetPreprocessing(long_side=96, fill=114)
    detector = RTMDetDetector(RTMDet(SMALL), origin=Origin("", "", ""), preprocessing=given)
    image = np.random.default_rng(0).integers(0, 256, (*size_hw, 3), dtype=np.uint8)
    monkeypatch.setattr(detector, "_device", torch.device("cuda"))
    ready = [detector.prepare(image), detector.prepare(image[::-1])]
    monkeypatch.undo()
    wanted = np.full((2, *padded_shape(ready[0].pixels), 3), 114, np.uint8)
    for place, one in zip(wanted, ready, strict=True):
        height, width = one.pixels.shape[:2]
        place[:height, :width] = one.pixels
    assert torch.equal(detector.padded(ready), torch.from_numpy(wanted))
    assert all(one.pinned is not None for one in ready)
    on_host = [detector.prepare(image), detector.prepare(image[::-1])]
    assert all(one.pinned is None for one in on_host)
    assert torch.equal(detector.padded(on_host), torch.from_numpy(wanted))
    for here, there in zip(on_host, ready, strict=True):
        np.testing.assert_array_equal(here.pixels, there.pixels)


class Elsewhere(RuntimeNetwork):
    """Sees nobody, on a GPU or wherever it likes."""

    def __init__(self) -> None:
        images = [Port("", (None, None, None, 3))]
        super().__init__("a", version="b 1", inputs=images, outputs=OUTPUTS)

    def _start(self, name, parts, *, alone):
        [images] = parts
        assert images.shape == (1, 64, 96, 3)
        shapes = [(1, depth, 64 // s, 96 // s) for depth in (2, 4) for s in STRIDES]
        return [lambda: [np.full(shape, -99, np.float32) for shape in shapes]]


def test_what_another_library_runs_on_a_gpu_gets_its_pixels_from_the_host() -> None:
    """This machine needs no GPU for it: nothing goes there, nor waits in pinned memory."""
    given = RTMDetPreprocessing(long_side=96)
    detector = RTMDetDetector(
        Elsewhere(), origin=Origin("", "", ""), preprocessing=given, device=torch.device("cuda")
    )
    ready = detector.prepare(np.zeros((64, 96, 3), np.uint8))
    assert ready.pinned is None
    assert [len(found) for found in detector([ready])] == [0]
