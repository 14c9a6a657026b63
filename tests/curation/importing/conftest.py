"""The golden networks of both public CPN code bases, and small stand-ins."""

from __future__ import annotations

import pytest
from code_bases import Arrays, pytorch_arrays, tensorflow_arrays

from posepipe.pose.networks.cpn import CPN, CPNTable


@pytest.fixture(scope="session")
def generation_c() -> Arrays:
    """The golden pytorch-cpn network: keys with "module.", counters included."""
    return pytorch_arrays("cpn50_256x192_seed1", "keys_CPN50.json", 1)


@pytest.fixture(scope="session")
def generation_a() -> Arrays:
    """The same of the first generation, without counters, as torch 0.4 wrote it."""
    arrays = pytorch_arrays("cpn50_256x192_generation_a_seed5", "keys_CPN50_generation_a.json", 5)
    return {name: array for name, array in arrays.items() if "num_batches" not in name}


@pytest.fixture(scope="session")
def tf_res50() -> Arrays:
    """The golden tf-cpn network."""
    return tensorflow_arrays("res50_256x192_seed6", "variables_res50.json", 6)


@pytest.fixture(scope="session")
def network() -> CPN:
    """A network whose names and shapes are those of pytorch-cpn's generation (c) on ResNet-50."""
    return CPN(CPNTable(backbone="resnet50"))
