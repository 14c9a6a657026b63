from __future__ import annotations

import os
from pathlib import Path

import cv2
import pytest
import torch

from posepipe.networks import threads
from posepipe.networks.threads import one_thread, usable_cores, use_threads


@pytest.fixture(autouse=True)
def _threads_as_before():
    of_torch, of_opencv = torch.get_num_threads(), cv2.getNumThreads()
    yield
    torch.set_num_threads(of_torch)
    cv2.setNumThreads(of_opencv)


def machine(root: Path, groups: str, **files: str) -> Path:
    """A file system that says which control groups this process is in, and what they allow."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(groups)
    for name, content in files.items():
        path = root / "sys/fs/cgroup" / name.replace("__", "/").replace("cpu_", "cpu.")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


@pytest.fixture
def eight(monkeypatch):
    """Eight cores, whatever the machine."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)


def test_torchs_work_beside_another_librarys_takes_one_thread() -> None:
    torch.set_num_threads(2)
    with one_thread(False):
        assert torch.get_num_threads() == 2
    with one_thread():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 2


V1 = "4:memory:/a\n3:cpu,cpuacct:/docker/x\n0::/\n"


@pytest.mark.parametrize(
    ("groups", "files", "cores"),
    [
        ("0::/\n", {}, 8),
        ("0::/\n", {"cpu_max": "max 100000\n"}, 8),
        ("0::/\n", {"cpu_max": "200000 100000\n"}, 2),
        ("0::/\n", {"cpu_max": "150000 100000\n"}, 2),
        ("0::/\n", {"cpu_max": "20000 100000\n"}, 1),
        ("0::/\n", {"cpu_max": "9900000 100000\n"}, 8),
        ("0::/pod/one\n", {"pod__one__cpu_max": "max 100000", "pod__cpu_max": "300000 100000"}, 3),
        (V1, {"cpu__cpu_cfs_quota_us": "-1\n", "cpu__cpu_cfs_period_us": "100000\n"}, 8),
        (V1, {"cpu__cpu_cfs_quota_us": "400000\n", "cpu__cpu_cfs_period_us": "100000\n"}, 4),
        (
            V1,
            {
                "cpu__docker__x__cpu_cfs_quota_us": "100000\n",
                "cpu__docker__x__cpu_cfs_period_us": "50000\n",
            },
            2,
        ),
        (V1, {"cpu__cpu_cfs_quota_us": "nonsense"}, 8),
    ],
)
def test_the_cores_are_those_that_the_control_groups_allow(
    tmp_path: Path, eight: None, groups: str, files: dict[str, str], cores: int
) -> None:
    assert usable_cores(machine(tmp_path, groups, **files)) == cores


def test_without_control_groups_the_affinity_decides(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 3, 5}, raising=False)
    assert usable_cores(tmp_path) == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert usable_cores(tmp_path) == 1


def test_never_more_threads_than_cores_compute(monkeypatch) -> None:
    monkeypatch.setattr(threads, "usable_cores", lambda: 3)
    torch.set_num_threads(2)
    assert (use_threads(), torch.get_num_threads()) == (2, 2)  # torch's own choice
    assert (use_threads(1), torch.get_num_threads(), cv2.getNumThreads()) == (1, 1, 1)
    assert (use_threads(64), torch.get_num_threads()) == (3, 3)
