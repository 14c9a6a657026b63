"""`posepipe models fetch`, and models that are fetched because a command names them."""

from __future__ import annotations

import hashlib
import io
import json
import re
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from commands import blank, content, error_of, lines, photo, posepipe, start
from fileserver import FileServer, file_server
from torchvision.models import get_model

from posepipe.zoo import sources
from posepipe.zoo.cache import CachedWeights
from posepipe.zoo.recipe import Recipe, load_recipe

SMALLEST = "fasterrcnn-mobilenet-v3-large-320-fpn"


@pytest.fixture(scope="module")
def published() -> bytes:
    """A file as torchvision publishes it for its smallest detector, with random weights."""
    torch.manual_seed(0)
    network = get_model(SMALLEST.replace("-", "_"), weights=None, weights_backbone=None)
    with torch.no_grad():
        network.roi_heads.box_predictor.cls_score.bias[1] = 9  # all that it sees is a person
    buffer = io.BytesIO()
    torch.save(network.state_dict(), buffer)
    return buffer.getvalue()


@pytest.fixture
def server() -> Iterator[FileServer]:
    with file_server() as files:
        yield files


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("POSEPIPE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("POSEPIPE_PINS", str(tmp_path / "pins.txt"))
    monkeypatch.delenv("POSEPIPE_OFFLINE")
    return tmp_path / "cache"


@pytest.fixture
def zoo(
    server: FileServer, published: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Recipe:
    """A zoo of torchvision's smallest detector alone, its file on the server under its own name."""
    text = (load_recipe(SMALLEST).folder / "recipe.toml").read_text(encoding="utf-8")
    text = text.replace("https://download.pytorch.org", server.url)
    prefix = hashlib.sha256(published).hexdigest()[:8]
    text = re.sub(r'sha256_prefix = ".*"', f'sha256_prefix = "{prefix}"', text)
    folder = tmp_path / "zoo" / SMALLEST
    folder.mkdir(parents=True)
    (folder / "recipe.toml").write_text(text, encoding="utf-8")
    monkeypatch.setattr(sources, "zoo_folder", lambda: tmp_path / "zoo")
    recipe = load_recipe(SMALLEST)
    server.files[recipe.weights.urls[0].removeprefix(server.url)] = published
    return recipe


def weights_folder(tmp_path: Path, server: FileServer, payload: bytes) -> Path:
    """A model folder whose weights, of no sense to any network, the server has."""
    folder = tmp_path / "small"
    folder.mkdir()
    (folder / "recipe.toml").write_text(
        '[model]\nstage = "pose"\nsummary = "a test"\nlicence = "weights: free"\n'
        f'[weights]\nurls = ["{server.url}/w.pth"]\n'
    )
    server.files["/w.pth"] = payload
    return folder


def test_a_model_named_to_detect_is_fetched_once_and_runs(
    zoo: Recipe, server: FileServer, tmp_path: Path, cache: Path, published: bytes
) -> None:
    photo(tmp_path / "pictures" / "a.jpg", 120)
    output = tmp_path / "boxes.json"
    command = ("detect", tmp_path / "pictures", "-o", output, "--model", SMALLEST)
    first = posepipe(*command)
    assert first.exit_code == 0, first.output
    announced = lines(first)[0]
    assert announced.startswith(f"posepipe: fetching {SMALLEST}/fasterrcnn_mobilenet_v3_large_320")
    assert f", {len(published) / 1e6:.0f} MB (weights: none named" in announced
    assert content(output)["annotations"]
    assert content(output)["info"]["models"][0]["weights_sha256"] == (
        hashlib.sha256(published).hexdigest()
    )
    again = posepipe(*command, "--offline")
    assert (again.exit_code, again.stderr) == (0, "")
    assert len(server.requests) == 1


def test_the_listing_tells_states_and_licences(zoo: Recipe) -> None:
    _, group, line, *_ = posepipe("models").stdout.splitlines()
    assert group.startswith("fetched on first use")
    row = ["detection", "78", "22.8", "boxes", "none", "named"]
    assert line.split() == [SMALLEST, *row]
    shown = posepipe("models", "show", SMALLEST).stdout
    assert f"can be fetched (78 MB): posepipe models fetch {SMALLEST}" in shown
    fetched = posepipe("models", "fetch", SMALLEST)
    digest, path = fetched.stdout.split()
    assert hashlib.sha256(Path(path).read_bytes()).hexdigest() == digest
    assert "\nfetched before\n" in posepipe("models").stdout
    (entry,) = json.loads(posepipe("models", "--json").stdout)
    assert (entry["name"], entry["state"], entry["weights"]) == (SMALLEST, "cached", path)
    assert entry["licence"] == zoo.model.licence
    assert entry["reported"]["box_ap"] == 22.8
    assert path in posepipe("models", "show", SMALLEST).stdout


def test_a_wrong_file_on_a_mirror_is_passed_over_and_one_everywhere_refused(
    zoo: Recipe, server: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    cached = CachedWeights(zoo)
    mirrored = f"/mirror/{cached.key}"
    server.files[mirrored] = b"not these numbers"
    monkeypatch.setenv("POSEPIPE_MIRROR", f"{server.url}/mirror")
    good = posepipe("models", "fetch", SMALLEST)
    assert good.exit_code == 0
    assert "damaged there, or another file: its SHA-256 is" in lines(good)[1]
    cached.path.unlink()
    for path in list(server.files):
        server.files[path] = b"not these numbers"
    bad = posepipe("models", "fetch", SMALLEST)
    assert (bad.exit_code, bad.stdout) == (1, "")
    assert f"{zoo.weights.file_name} cannot be fetched" in lines(bad)[-1]
    assert not cached.path.exists()


@pytest.mark.parametrize("command", ["detect", "run"])
def test_offline_a_model_that_is_not_here_is_one_line(
    command: str, zoo: Recipe, server: FileServer, tmp_path: Path
) -> None:
    blank(tmp_path / "pictures" / "a.jpg")
    option = "--model" if command == "detect" else "--detector"
    result = posepipe(
        *(command, tmp_path / "pictures", "-o", tmp_path / "o.json", option, SMALLEST, "--offline")
    )
    assert "is not in the cache and nothing may be fetched" in error_of(result)
    assert "is not in the cache" in lines(posepipe("models", "fetch", "--all", "--offline"))[0]
    assert server.requests == []


def test_a_model_of_the_other_stage_is_not_fetched(
    zoo: Recipe, server: FileServer, person: Path, tmp_path: Path
) -> None:
    result = posepipe("pose", person, "-o", tmp_path / "kps.json", "--model", SMALLEST)
    assert "is for detection, not for poses" in error_of(result)
    assert server.requests == []


def test_a_model_whose_library_is_absent_is_not_fetched(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POSEPIPE_MIRROR", server.url)
    monkeypatch.setattr("posepipe.detection.backends.find_spec", lambda _: None)
    monkeypatch.setitem(sys.modules, "detectron2", None)
    blank(tmp_path / "pictures" / "a.jpg")
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "recipe.toml").write_text(
        '[model]\nstage = "detection"\nsummary = "a test"\n'
        '[detector]\nbackend = "detectron2"\nconfig = "a.yaml"\n'
        '[weights]\nurls = ["https://example.org/w.pkl"]\n'
    )
    model = tmp_path / "theirs"
    result = posepipe("detect", tmp_path / "pictures", "-o", tmp_path / "b.json", "--model", model)
    assert "needs detectron2, which is not installed" in error_of(result)
    assert server.requests == []


def test_an_onnx_network_is_not_fetched_without_onnxruntime(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POSEPIPE_MIRROR", server.url)
    for module in ("cli.fetching", "networks.runtimes.registry"):
        monkeypatch.setattr(f"posepipe.{module}.find_spec", lambda _: None)
    blank(tmp_path / "pictures" / "a.jpg")
    boxes = tmp_path / "b.json"
    assert posepipe("detect", tmp_path / "pictures", "-o", boxes).exit_code == 0
    result = posepipe("pose", boxes, "-o", tmp_path / "k.json", "--model", "rtmpose-t-256x192")
    assert "needs onnxruntime: pip install 'posepipe[onnxruntime]'" in error_of(result)
    assert server.requests == []


def test_several_are_fetched_even_if_one_cannot_be(server: FileServer, tmp_path: Path) -> None:
    good = weights_folder(tmp_path, server, b"numbers")
    result = posepipe("models", "fetch", "cpn-resnet50-256x192", good)
    assert result.exit_code == 1
    assert "'cpn-resnet50-256x192' comes without weights" in lines(result)[0]
    digest = hashlib.sha256(b"numbers").hexdigest()
    assert result.stdout == f"{digest}  {CachedWeights(load_recipe(good)).path}\n"


def test_what_comes_with_a_model_is_checked_and_not_pinned(tmp_path: Path) -> None:
    name = "cpn-litehrnet-256x192"
    result = posepipe("models", "fetch", name)
    assert result.stdout.split()[0] == load_recipe(name).model.weights_sha256
    assert "nothing to pin" in lines(posepipe("models", "fetch", name, "--pin"))[0]
    assert not (tmp_path / "pins.txt").exists()


def test_a_pin_is_written_where_it_is_said(server: FileServer, tmp_path: Path) -> None:
    folder = weights_folder(tmp_path, server, b"numbers")
    result = posepipe("models", "fetch", folder, "--pin")
    assert lines(result)[-1] == f"posepipe: pinned in {tmp_path / 'pins.txt'}"
    digest = hashlib.sha256(b"numbers").hexdigest()
    assert (
        tmp_path / "pins.txt"
    ).read_text() == f"{digest}  {CachedWeights(load_recipe(folder)).key}\n"


@pytest.mark.posix
def test_an_interrupted_fetch_keeps_its_part_and_goes_on(
    server: FileServer, tmp_path: Path
) -> None:
    payload = b"numbers" * 30_000
    folder = weights_folder(tmp_path, server, payload)
    cached = CachedWeights(load_recipe(folder))
    part = cached.part
    server.faults = ["stall"]
    process = start("models", "fetch", folder)
    limit = time.monotonic() + 20
    while not (part.exists() and part.stat().st_size) and time.monotonic() < limit:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=20)
    assert (process.returncode, output) == (130, "")
    assert errors.splitlines()[-1] == (
        f"posepipe: interrupted; what has arrived is kept in {part}: the same command goes on "
        "from it"
    )
    assert part.stat().st_size == len(payload) // 2
    assert posepipe("models", "fetch", folder).exit_code == 0
    assert server.ranges == [None, f"bytes={len(payload) // 2}-"]
    assert cached.path.read_bytes() == payload
