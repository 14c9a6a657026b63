"""What holds for every test: no network, nothing of the user's own cache, one thread a process.

Networks run in torch, whatever else is installed, unless a test names another runtime.

Where pytest-xdist is installed, a run of the whole suite is shared by several processes.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Examples may take their time on a busy machine.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")

# Tests are many and small: processes with a thread each finish them soonest, and their sums do not
# depend on the machine. Set before anything imports torch; `import torch` alone takes seconds.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["POSEPIPE_RUNTIME"] = "torch"
MOST_PROCESSES = 4


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """As `-n` of pytest-xdist, unless it was given, tests were named, or there is a debugger."""
    if hasattr(config, "workerinput"):  # already one of those processes
        return
    named = _names_tests(config)
    given = getattr(config.option, "numprocesses", 0) is not None  # without xdist: 0
    if given or named or config.option.usepdb or config.option.collectonly:
        return
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    config.option.numprocesses = min(cores, MOST_PROCESSES)
    config.option.dist = "worksteal"  # each begins with neighbours, which share fixtures


def pytest_configure(config: pytest.Config) -> None:
    """Leave the slow tests out, in each of the processes, unless they are named or asked for."""
    if not _names_tests(config) and not config.option.markexpr:
        config.option.markexpr = "not slow"


def _names_tests(config: pytest.Config) -> bool:
    return config.args_source is not pytest.Config.ArgsSource.TESTPATHS


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """On Windows, leave out what is about signals, terminals and files of POSIX systems."""
    if sys.platform == "win32":
        for item in items:
            if item.get_closest_marker("posix"):
                item.add_marker(pytest.mark.skip(reason="Windows has none of this"))


@pytest.fixture(autouse=True)
def _no_cache_and_no_network(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path_factory.getbasetemp()
    monkeypatch.setenv("POSEPIPE_CACHE", str(Path(folder) / "no-cache"))
    monkeypatch.setenv("POSEPIPE_PINS", str(Path(folder) / "no-pins.txt"))
    monkeypatch.setenv("POSEPIPE_OFFLINE", "1")
    monkeypatch.delenv("POSEPIPE_MIRROR", raising=False)
    monkeypatch.setenv("no_proxy", "*")


TINY_RECIPE = """
[model]
stage = "pose"
summary = "a tiny CPN for tests"
licence = "none: for tests"

[network]
backbone = "mobilenet_v2"
channels = 16
shortcut = "identity"

[preprocessing]
input_size_wh = [64, 64]

[decoding]
blur_kernel = 5

[training]
samples = 24
batch = 4
optimiser = "adamw"
learning_rate = 1e-3
average = 0.9
workers = 0
head_scale = 0.1
validate_every = 12
augment = {flip = 0.5, rotation = 0.5, half_body = 0}
"""


@pytest.fixture
def tiny_recipe(tmp_path: Path) -> Path:
    """A model folder without weights: a CPN that learns in seconds."""
    return write_tiny_recipe(tmp_path)


@pytest.fixture(scope="module")
def tiny_recipe_of_module(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, for all tests of a module."""
    return write_tiny_recipe(tmp_path_factory.mktemp("models"))


def write_tiny_recipe(parent: Path) -> Path:
    folder = parent / "tiny"
    folder.mkdir()
    (folder / "recipe.toml").write_text(TINY_RECIPE, encoding="utf-8")
    return folder
