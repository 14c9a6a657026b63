"""A real local cluster: the bytes of one process, whatever happens to the workers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from builders import save_picture
from commands import photo, posepipe, start

needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="needs ray: posepipe[ray]")
TESTS = Path(__file__).parents[1]

# A process of its own: Ray's threads and warnings are none of the suite's.
SCRIPT = """
import json, os, signal, sys
from pathlib import Path
import ray
from stages import SomePeople, StickFigures
from posepipe.distributed.ray_engine import Cluster, Stages, run_on_ray
from posepipe.errors import ImageError
from posepipe.io.documents import made_by
from posepipe.io.find_images import find_images
from posepipe.runtime.runs import RunOptions, run_both
from posepipe.scoring.rescore import rescored

folder = Path(sys.argv[1])
images = find_images([folder / "images"])
made = made_by("run")

class Mortal(SomePeople):
    def prepare(self, image):
        marker = folder / "died"
        if image.id == 30 and not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().prepare(image)

def make():
    return Stages(Mortal(), StickFigures(), rescored, made)

def options(name, **changes):
    return RunOptions(output=folder / name, made_by=made, **changes)

ray.init(num_cpus=3, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
cluster = Cluster(workers=2, cpus=1, together=4)
counted = []
merged = run_on_ray(make, images, options("ray.json", progress=counted.append), cluster)
run_both(SomePeople(), StickFigures(), images, options("one.json"), finish=rescored)
told = {
    "died": (folder / "died").exists(),
    "images": merged.pictures,
    "skipped": [skip.file_name for skip in merged.skipped],
    "counted": len(counted),
    "people": [merged.people, sum(counted)],
}
try:
    run_on_ray(make, images, options("strict.json", strict=True), cluster)
except ImageError as error:
    told["strict"] = str(error)
told["kept"] = (folder / "strict.json.parts").is_dir()
resumed = []
run_on_ray(make, images, options("strict.json", resume=True, progress=resumed.append), cluster)
told["resumed"] = len(resumed)
told["left"] = sorted(path.name for path in folder.glob("*.parts"))
print(json.dumps(told))
"""


@needs_ray
def test_a_cluster_gives_the_bytes_of_one_process_though_a_worker_dies(tmp_path: Path) -> None:
    for n in range(1, 61):
        save_picture(tmp_path / f"images/{n}.png", 20 + n, 30)
    (tmp_path / "images/7.png").write_bytes(b"no image")
    environment = {**os.environ, "PYTHONPATH": str(TESTS), "RAY_USAGE_STATS_ENABLED": "0"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path)],
        capture_output=True,
        text=True,
        env=environment,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told.pop("strict").startswith(f"{tmp_path / 'images' / '7.png'} is not an image")
    assert told == {
        "died": True,
        "images": 59,
        "skipped": ["7.png"],
        "counted": 60,
        "people": [59, 59],
        "kept": True,
        "resumed": 60,
        "left": [],
    }
    one = (tmp_path / "one.json").read_bytes()
    assert (tmp_path / "ray.json").read_bytes() == one
    assert (tmp_path / "strict.json").read_bytes() == one


@needs_ray
def test_the_command_does_what_it_does_without_a_cluster(tmp_path: Path) -> None:
    photo(tmp_path / "images" / "a.jpg")
    (tmp_path / "images" / "b.jpg").write_bytes(b"no image")
    photo(tmp_path / "images" / "c.jpg", source="grace_hopper.jpg")
    common = ("run", tmp_path / "images", "--device", "cpu", "--precision", "fp32")
    one = posepipe(*common, "-o", tmp_path / "one.json")
    process = start(*common, "-o", tmp_path / "ray.json", "--engine", "ray", "--ray-workers", 1)
    _, said = process.communicate(timeout=200)
    own = [line for line in said.splitlines() if line.startswith("posepipe: ")]
    assert (process.returncode, own) == (0, one.stderr.splitlines())  # Ray has its own to say
    assert (tmp_path / "ray.json").read_bytes() == (tmp_path / "one.json").read_bytes()


def test_what_is_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("posepipe.cli.ray.find_spec", lambda name: None)
    result = posepipe("run", tmp_path, "-o", tmp_path / "kps.json", "--engine", "ray")
    assert result.exit_code == 1
    assert "pip install 'posepipe[ray]'" in result.stderr


def test_shards_and_clusters_exclude_each_other(tmp_path: Path) -> None:
    both = ("--engine", "ray", "--shard", "1/2")
    result = posepipe("run", tmp_path, "-o", tmp_path / "kps.json", *both)
    assert result.exit_code == 1
    assert "use one of them" in result.stderr
