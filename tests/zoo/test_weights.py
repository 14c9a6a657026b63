from __future__ import annotations

import argparse
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from posepipe.errors import WeightsError
from posepipe.networks.precision import run_in_precision
from posepipe.zoo.recipe import Recipe
from posepipe.zoo.weights import find_weights, fit_state, read_state, read_torch

ARRAYS = {"0.weight": np.arange(6, dtype=np.float32).reshape(2, 3), "0.bias": np.ones(2, "f4")}
STATE = {key: torch.from_numpy(array) for key, array in ARRAYS.items()}


class Bomb:
    def __reduce__(self):
        return os.mkdir, (str(self.crater),)

    def __init__(self, crater: Path) -> None:
        self.crater = crater


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 2))


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".pkl"])
def test_all_three_kinds_of_files_give_the_same_weights(
    suffix: str, wrapped: bool, tmp_path: Path
) -> None:
    file = tmp_path / f"weights{suffix}"
    if suffix == ".safetensors":
        save_file(STATE, file)
    elif suffix == ".pth":
        torch.save({"model": STATE, "epoch": 3} if wrapped else STATE, file)
    else:
        content = {"model": ARRAYS, "__author__": "someone"} if wrapped else ARRAYS
        file.write_bytes(pickle.dumps(content))
    read = read_state(file)
    assert list(read) == sorted(STATE) if suffix == ".safetensors" else list(STATE)
    assert all(torch.equal(read[key], STATE[key]) for key in STATE)


@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_arrays_are_read_from_every_age_of_pickle(protocol: int, tmp_path: Path) -> None:
    arrays = {"a": np.arange(5), "b": np.zeros((0, 4), "f2"), "c": np.array(2.5)}
    file = tmp_path / "weights.pkl"
    file.write_bytes(pickle.dumps(arrays, protocol=protocol))
    for key, tensor in read_state(file).items():
        np.testing.assert_array_equal(tensor, arrays[key])
        assert tensor.shape == arrays[key].shape


@pytest.mark.parametrize("suffix", [".pth", ".pkl"])
def test_code_in_a_weights_file_is_refused_and_never_run(suffix: str, tmp_path: Path) -> None:
    file, crater = tmp_path / f"weights{suffix}", tmp_path / "crater"
    content = {"model": {"0.weight": Bomb(crater)}}
    if suffix == ".pth":
        torch.save(content, file)
    else:
        file.write_bytes(pickle.dumps(content))
    with pytest.raises(WeightsError) as caught:
        read_state(file)
    assert not crater.exists()
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("w.safetensors", b"", "damaged"),
        ("w.pth", b"not a zip", "cannot be read|damaged"),
        ("w.pkl", pickle.dumps(ARRAYS)[:-20], "cannot be read|damaged"),
        ("w.pkl", pickle.dumps([1, 2]), "holds a list"),
        ("w.pkl", pickle.dumps({"a": "text"}), "'a' is a str"),
        ("w.pkl", pickle.dumps({"a": np.array([None])}), "values of type 'O8', not numbers"),
        ("w.onnx", b"", "use one of"),
    ],
)
def test_a_file_that_holds_no_weights_gives_one_line(
    name: str, content: bytes, says: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(WeightsError, match=says) as caught:
        read_state(tmp_path / name)
    assert name in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_a_truncated_safetensors_file_is_damaged(tmp_path: Path) -> None:
    file = tmp_path / "weights.safetensors"
    save_file(STATE, file)
    file.write_bytes(file.read_bytes()[:-4])
    with pytest.raises(WeightsError, match="damaged"):
        read_state(file)


def test_half_precision_weights_become_the_networks_own() -> None:
    receiver = network()
    fit_state(receiver, {key: tensor.half() for key, tensor in STATE.items()}, Path("w.pth"))
    assert receiver[0].weight.dtype == torch.float32
    assert torch.equal(receiver[0].weight, STATE["0.weight"])


@pytest.mark.parametrize(
    ("state", "says"),
    [
        ({}, "no '0.weight'"),
        ({"0.weight": STATE["0.weight"]}, "no '0.bias'"),
        (STATE | {"0.weight": torch.zeros(3, 2)}, r"'0.weight' has shape \(3, 2\), \(2, 3\)"),
        (STATE | {"1.weight": torch.zeros(1)}, "'1.weight' is unknown"),
    ],
)
def test_the_first_key_that_does_not_fit_is_named(state, says: str) -> None:
    with pytest.raises(WeightsError, match=says):
        fit_state(network(), state, Path("w.pth"))


def test_unused_heads_and_training_counters_may_differ() -> None:
    receiver = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    state = dict(receiver.state_dict()) | STATE
    del state["1.num_batches_tracked"]
    fit_state(receiver, state | {"mask.weight": torch.ones(1)}, Path("w"), ignored=["mask."])
    assert torch.equal(receiver[0].weight, STATE["0.weight"])


@pytest.mark.parametrize("name", ["weights.safetensors", "weights.pth", "weights.pkl"])
def test_weights_beside_the_recipe_are_found_and_checked(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"weights")
    tables = {"model": {"stage": "detection", "summary": ""}}
    path, digest = find_weights(Recipe("a", tmp_path, tables))
    assert (path, len(digest)) == (tmp_path / name, 64)
    tables["model"]["weights_sha256"] = "0" * 64
    with pytest.raises(WeightsError, match="SHA-256"):
        find_weights(Recipe("a", tmp_path, tables))
    assert find_weights(Recipe("a", tmp_path, tables), path) == (path, digest)


def test_absent_weights_are_asked_for(tmp_path: Path) -> None:
    recipe = Recipe("a", tmp_path, {"model": {"stage": "detection", "summary": ""}})
    with pytest.raises(WeightsError, match="comes without weights: name a file"):
        find_weights(recipe)
    with pytest.raises(WeightsError, match="no weights file"):
        find_weights(recipe, tmp_path / "absent.pth")


def test_lower_precision_stays_inside_the_modules_that_have_it() -> None:
    torch.manual_seed(0)
    fast, exact = nn.Linear(64, 64), nn.Linear(64, 64)
    exact.load_state_dict(fast.state_dict())
    run_in_precision([exact], torch.float32)
    assert "forward" not in vars(exact)
    run_in_precision([fast], torch.bfloat16)
    numbers = torch.randn(8, 64)
    assert fast(numbers).dtype == torch.float32
    assert 0 < (fast(numbers) - exact(numbers)).abs().max() < 0.05


@pytest.mark.parametrize(
    "prefix", ["module.", "module.module.", "model.", "model.module.", "_orig_mod."]
)
def test_what_wrappers_put_before_every_key_is_left_out(tmp_path: Path, prefix: str) -> None:
    network = nn.Linear(2, 3)
    wrapped = {prefix + key: value for key, value in network.state_dict().items()}
    torch.save({"model": wrapped}, tmp_path / "a.pth")
    assert list(read_state(tmp_path / "a.pth")) == ["weight", "bias"]
    mixed = {**wrapped, "bias": torch.zeros(3)}
    torch.save(mixed, tmp_path / "b.pth")
    assert list(read_state(tmp_path / "b.pth")) == list(mixed)


def test_a_checkpoint_may_note_numbers_arrays_and_options_beside_its_weights(
    tmp_path: Path,
) -> None:
    content = {
        "state_dict": {"weight": torch.ones(2)},
        "best": np.float64(0.69),
        "epoch": np.int64(40),
        "history": np.array([[0.5, 0.25]], np.float32),
        "args": argparse.Namespace(lr=1e-3, names=["a"]),
    }
    torch.save(content, tmp_path / "a.pth")
    read = read_torch(tmp_path / "a.pth")
    assert read["best"] == 0.69
    assert read["epoch"] == 40
    assert read["history"].array.tolist() == [[0.5, 0.25]]
    assert read["state_dict"]["weight"].tolist() == [1, 1]


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_compressed_archive_is_refused_before_it_is_taken_apart(
    method: int, tmp_path: Path
) -> None:
    torch.save({"weight": torch.ones(2)}, tmp_path / "a.pth")
    with (
        zipfile.ZipFile(tmp_path / "a.pth") as archive,
        zipfile.ZipFile(tmp_path / "b.pth", "w", method) as compressed,
    ):
        for name in archive.namelist():
            compressed.writestr(name, archive.read(name))
    with pytest.raises(WeightsError, match=r"b\.pth is a compressed archive"):
        read_state(tmp_path / "b.pth")
    assert read_state(tmp_path / "a.pth")["weight"].tolist() == [1, 1]


def test_a_checkpoint_with_objects_of_other_kinds_is_refused(tmp_path: Path) -> None:
    torch.save({"weight": torch.ones(2), "path": Path("a")}, tmp_path / "a.pth")
    with pytest.raises(WeightsError, match=r"it asks for pathlib\.PosixPath"):
        read_state(tmp_path / "a.pth")
    # numpy's own scalar would follow pointers that are written in the file.
    torch.save({"weight": torch.ones(2), "best": np.array([{}], object)[0:1]}, tmp_path / "b.pth")
    with pytest.raises(WeightsError):
        read_state(tmp_path / "b.pth")
