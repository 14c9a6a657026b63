from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posepipe.networks.resources import (
    choose_batch_sizes,
    choose_workers,
    default_batch_sizes,
    default_workers,
    free_memory,
    usable_cores,
)

GIB = 2**30


def machine(root: Path, groups: str, **files: str) -> Path:
    """A file system that says which control groups this process is in, and what they allow."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(groups)
    for name, content in files.items():
        inner = name.replace("__", "/").replace("cpu_", "cpu.").replace("memory_", "memory.")
        path = root / "sys/fs/cgroup" / inner
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


@pytest.fixture
def eight(monkeypatch):
    """Eight cores, whatever the machine."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)


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


# --- memory


@pytest.mark.parametrize(
    ("groups", "files", "free"),
    [
        ("0::/\n", {}, 6 * GIB),
        ("0::/\n", {"memory_max": "max\n", "memory_current": f"{GIB}\n"}, 6 * GIB),
        ("0::/\n", {"memory_max": f"{4 * GIB}\n", "memory_current": f"{GIB}\n"}, 3 * GIB),
        ("0::/\n", {"memory_max": f"{9 * GIB}\n", "memory_current": f"{GIB}\n"}, 6 * GIB),
        ("0::/\n", {"memory_max": f"{GIB}\n", "memory_current": f"{2 * GIB}\n"}, 0),
        (
            "0::/pod\n",  # what is cached of files gives way
            {
                "pod__memory_max": f"{4 * GIB}",
                "pod__memory_current": f"{4 * GIB}",
                "pod__memory_stat": f"anon {GIB}\ninactive_file {3 * GIB}\n",
            },
            3 * GIB,
        ),
        (
            "4:memory:/a\n",
            {
                "memory__a__memory_limit_in_bytes": f"{2 * GIB}",
                "memory__a__memory_usage_in_bytes": f"{GIB}",
            },
            GIB,
        ),
    ],
)
def test_the_memory_is_what_system_and_control_groups_leave(
    tmp_path: Path, groups: str, files: dict[str, str], free: int
) -> None:
    root = machine(tmp_path, groups, **files)
    (root / "proc/meminfo").write_text(f"MemTotal: 9 kB\nMemAvailable: {6 * GIB // 1024} kB\n")
    assert free_memory(root) == free


def test_where_the_system_says_nothing_some_memory_is_assumed(tmp_path: Path) -> None:
    assert free_memory(tmp_path) == 8 * GIB


# --- what is chosen


@pytest.mark.parametrize(
    ("cores", "gib", "on_cpu", "workers"),
    [
        (2, 16, True, 2),
        (2, 16, False, 2),
        (4, 16, True, 2),
        (4, 16, False, 3),
        (8, 16, True, 4),
        (8, 16, False, 7),
        (16, 64, True, 8),
        (16, 64, False, 12),
        (128, 500, False, 12),
        (128, 500, True, 8),
        (1, 16, True, 2),
        (16, 3, True, 3),  # a small container
        (16, 0.5, False, 1),
    ],
)
def test_workers_suit_cores_memory_and_device(
    cores: int, gib: float, on_cpu: bool, workers: int
) -> None:
    assert choose_workers(cores, int(gib * GIB), networks_on_cpu=on_cpu) == workers


@given(st.integers(1, 512), st.integers(0, 2**42), st.booleans())
def test_more_of_the_machine_never_means_fewer_workers(cores: int, free: int, on_cpu: bool) -> None:
    chosen = choose_workers(cores, free, networks_on_cpu=on_cpu)
    assert 1 <= chosen <= 12
    assert choose_workers(cores + 1, free, networks_on_cpu=on_cpu) >= chosen
    assert choose_workers(cores, free + GIB, networks_on_cpu=on_cpu) >= chosen
    assert choose_workers(cores, free, networks_on_cpu=False) >= chosen


@pytest.mark.parametrize(
    ("kind", "gib", "sizes"),
    [
        ("cpu", 0, (4, 8)),
        ("mps", 0, (4, 64)),
        ("cuda", 4, (4, 32)),
        ("cuda", 7.6, (8, 64)),  # sold as 8 GB
        ("cuda", 15.8, (8, 64)),
        ("cuda", 22.1, (16, 128)),  # as 24 GB
        ("cuda", 79.2, (16, 128)),
    ],
)
def test_batches_suit_the_device(kind: str, gib: float, sizes: tuple[int, int]) -> None:
    chosen = choose_batch_sizes(kind, int(gib * GIB))
    assert (chosen.images, chosen.crops) == sizes
    with_mirror_images = choose_batch_sizes(kind, int(gib * GIB), flip=True)
    assert with_mirror_images.crops == (4 if kind == "cpu" else chosen.crops)


def test_this_machine_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    cores, free = usable_cores(), free_memory()
    assert default_workers("cpu") == choose_workers(cores, free, networks_on_cpu=True)
    assert default_batch_sizes(torch.device("cpu")) == choose_batch_sizes("cpu")
    properties = type("Properties", (), {"total_memory": 80 * GIB})
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    assert default_batch_sizes(torch.device("cuda:1")).crops == 128
