"""Small pose models: a CPN of random weights, and a network that sees colours as keypoints."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from posepipe.pose.model import PoseModel, pose_model
from posepipe.pose.networks.cpn import CPN, CPNTable
from posepipe.zoo.recipe import Recipe

SMALL_CPN = CPNTable(backbone="mobilenet_v2", channels=16)


class ColourNetwork(nn.Module):
    """Heatmaps of stride 4 that are bright where a crop is: keypoint 0 red, 1 green, 2 blue, ….

    Its answers are known, so that what happens before and after it can be tested.
    """

    def forward(self, images: Tensor) -> Tensor:
        """(B, 17, h / 4, w / 4) of (B, 3, h, w) images in [0, 1]."""
        colours = F.avg_pool2d(images, 4)
        return torch.cat([colours] * 6, dim=1)[:, :17].contiguous()


@pytest.fixture(scope="session")
def random_cpn() -> CPN:
    """A small CPN with random weights whose answers depend on the image, in evaluation mode.

    Made once: nothing that a test may do with a model changes its network's numbers.
    """
    torch.manual_seed(3)
    network = CPN(SMALL_CPN)
    network.train()
    with torch.no_grad():  # a few batches give every batch normalisation statistics that fit
        for _ in range(6):
            network(torch.randn(4, 3, 64, 64))
    return network.eval()


@pytest.fixture
def make_model(tmp_path) -> Callable[..., PoseModel]:
    """Makes a pose model of any network; named tables of the recipe may be changed."""

    def make(
        network: nn.Module, name: str = "small", *, decoding=None, **preprocessing: object
    ) -> PoseModel:
        tables = {
            "model": {"stage": "pose", "summary": "a small one for tests"},
            "preprocessing": {
                "input_size_wh": [64, 64],
                "margins_xy": [0.0, 0.0],
                "fill": [0, 0, 0],
                "mean": [0.0, 0.0, 0.0],
                "std": [255.0, 255.0, 255.0],
                **preprocessing,
            },
            "decoding": {"blur_kernel": 1, "flip": False, **(decoding or {})},
        }
        recipe = Recipe(name, tmp_path / name, tables)
        return pose_model(recipe, network, device="cpu", precision="fp32")

    return make


@pytest.fixture
def colour_network() -> ColourNetwork:
    """See `ColourNetwork`."""
    return ColourNetwork()
