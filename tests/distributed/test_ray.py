"""A real local cluster: the bytes of one process, whatever happens to the workers."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from builders import save_image
from commands import content, photo, posepipe

TESTS = Path(__file__).parents[1]

# A process of its own: Ray's threads and warnings are none of the suite's. One cluster for
# everything, since each takes seconds to start.
SCRIPT = """
import json, os, signal, sys
from pathlib import Path
from posepipe.distributed.cluster import Cluster, joined
with joined(Cluster()):
    import ray
    from click.testing import CliRunner
    from posepipe import PosepipeError, run_distributed
    from posepipe.cli.main import main
    from posepipe.distributed.ray_engine import Stages, run_on_ray
    from posepipe.errors import ImageError
    from posepipe.io.documents import made_by
    from posepipe.io.find_images import find_images
    from posepipe.runtime.runs import RunOptions, run_both
    from posepipe.scoring.rescore import rescored
    from stages import SomePeople, StickFigures

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

    cluster = Cluster(workers=2, cpus=0.5)
    told = {"address": ray.nodes()[0]["NodeManagerAddress"]}
    try:
        run_on_ray(make, images, options("ray.json", strict=True), cluster)
    except ImageError as error:
        told["strict"] = str(error)
    told["kept"] = (folder / "ray.json.parts").is_dir()
    counted = []
    again = options("ray.json", resume=True, progress=counted.append)
    merged = run_on_ray(make, images, again, cluster)
    run_both(SomePeople(), StickFigures(), images, options("one.json"), finish=rescored)
    told |= {
        "died": (folder / "died").exists(),
        "images": merged.images,
        "skipped": [skip.file_name for skip in merged.skipped],
        "counted": len(counted),
        "people": merged.people,
    }
    place = dict(device="cpu", precision="fp32", runtime="torch")
    try:
        run_distributed(folder / "photos", folder / "none.json", pose=folder / "none", **place)
    except PosepipeError as error:
        told["no model"] = [type(error).__name__, str(error)]
    for name, scheme, more in (
        ("alone.json", "", ""),
        ("command.json", "local://", "--engine ray --ray-workers 1"),  # read as a bucket is
    ):
        words = f"run {scheme}{folder}/photos -o {folder / name} --device cpu --precision fp32"
        done = CliRunner().invoke(main, [*words.split(), *more.split()])
        told[name] = [done.exit_code, done.stderr.replace("file://", "")]
told["left"] = sorted(path.name for path in folder.glob("*.parts"))
print(json.dumps(told))
"""


JOIN = """
from posepipe.distributed.cluster import Cluster, joined
with joined(Cluster(address="ray://127.0.0.1:{port}")): pass
"""


@pytest.mark.posix
@pytest.mark.slow
@pytest.mark.timeout(420)
@pytest.mark.skipif(find_spec("ray") is None, reason="needs ray: posepipe[ray]")
def test_a_cluster_gives_the_bytes_of_one_process_though_a_worker_dies(tmp_path: Path) -> None:
    for n in range(1, 61):
        save_image(tmp_path / f"images/{n}.png", 20 + n, 30)
    bad = tmp_path / "images" / "7.png"
    bad.write_bytes(b"no image")
    photo(tmp_path / "photos" / "a.jpg")
    (tmp_path / "photos" / "b.jpg").write_bytes(b"no image")
    photo(tmp_path / "photos" / "c.jpg", source="grace_hopper.jpg")
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(TESTS)},
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert told.pop("strict").startswith(f"{bad} is not an image")
    kind, reason = told.pop("no model")
    assert kind == "RecipeError"
    assert str(tmp_path / "none") in reason
    assert told.pop("command.json") == told["alone.json"]
    assert told.pop("alone.json")[0] == 0
    assert told == {
        "address": "127.0.0.1",
        "died": True,
        "images": 59,
        "skipped": ["7.png"],
        "counted": 60,
        "people": 59,
        "kept": True,
        "left": [],
    }

    assert (tmp_path / "ray.json").read_bytes() == (tmp_path / "one.json").read_bytes()
    by_url, by_path = (
        [{**entry, "image_root": ""} for entry in content(tmp_path / name)]
        for name in ("command.json", "alone.json")
    )
    assert by_url == by_path


def test_what_is_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("posepipe.distributed.cluster.find_spec", lambda name: None)
    result = posepipe("run", tmp_path, "-o", tmp_path / "kps.json", "--engine", "ray")
    assert result.exit_code == 1
    assert "pip install 'posepipe[ray]'" in result.stderr


@pytest.mark.skipif(find_spec("ray") is None, reason="needs ray: posepipe[ray]")
def test_an_address_without_a_cluster_is_said_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]  # nobody's, once this is closed
    done = subprocess.run(
        [sys.executable, "-c", JOIN.format(port=port)],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 1
    assert f"no Ray cluster answers at 'ray://127.0.0.1:{port}'" in done.stderr.splitlines()[-1]


def test_shards_and_clusters_exclude_each_other(tmp_path: Path) -> None:
    both = ("--engine", "ray", "--shard", "1/2")
    result = posepipe("run", tmp_path, "-o", tmp_path / "kps.json", *both)
    assert result.exit_code == 1
    assert "use one of them" in result.stderr
