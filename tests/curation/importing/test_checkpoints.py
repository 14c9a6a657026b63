"""Files are told apart by what is in them, and opened without running what is in them."""

from __future__ import annotations

import os
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from code_bases import FakeReader, save_pytorch
from safetensors.torch import save_file

from posepipe.curation.importing import checkpoints
from posepipe.curation.importing.checkpoints import open_checkpoint, tensorflow_checkpoint
from posepipe.errors import MissingDependencyError, WeightsError

TABLE_END = bytes.fromhex("57fb808b247547db")
WEIGHTS = {"module.b": np.zeros((2, 3), np.float32), "module.a": np.ones(4, np.float32)}


def error_of(path: Path) -> str:
    with pytest.raises(WeightsError) as caught:
        open_checkpoint(path)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(str(path)) or message.endswith(str(path))
    return message


@pytest.mark.parametrize("legacy", [True, False])
@pytest.mark.parametrize("name", ["CPN50_256x192.pth.tar", "model", "weights.index"])
def test_a_pytorch_file_under_any_name(name: str, legacy: bool, tmp_path: Path) -> None:
    path = save_pytorch(tmp_path / name, WEIGHTS, legacy=legacy)
    checkpoint = open_checkpoint(path)
    assert checkpoint.kind == "torch"
    assert list(checkpoint.shapes.items()) == [("b", (2, 3)), ("a", (4,))]
    assert checkpoint.read("a").tolist() == [1, 1, 1, 1]
    assert checkpoint.files == (path,)


def test_weights_that_lie_at_the_top_of_a_file(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(2)}, tmp_path / "plain.pth")
    save_file({"a": torch.zeros(2)}, tmp_path / "plain.safetensors")
    for name in ("plain.pth", "plain.safetensors"):
        assert open_checkpoint(tmp_path / name).shapes == {"a": (2,)}


@pytest.mark.parametrize("legacy", [True, False])
def test_a_truncated_file_is_an_error(legacy: bool, tmp_path: Path) -> None:
    path = save_pytorch(tmp_path / "cut.pth.tar", WEIGHTS, legacy=legacy)
    whole = path.read_bytes()
    for length in (len(whole) - 9, len(whole) // 2, 40):
        path.write_bytes(whole[:length])
        assert "cannot be read as weights" in error_of(path)


@pytest.mark.parametrize("content", [b"", b"PK", b"version https://git-lfs", b"\x00" * 4096])
def test_a_file_that_is_something_else_is_an_error(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "other.pth").write_bytes(content)
    assert "is not a checkpoint" in error_of(tmp_path / "other.pth")


def test_a_missing_file_and_a_folder_are_errors(tmp_path: Path) -> None:
    assert error_of(tmp_path / "absent.ckpt").startswith("no checkpoint file")
    assert "is a folder" in error_of(tmp_path)


class Harmful:
    """An object that would run a command as it is read."""

    def __reduce__(self):
        return os.system, ("touch harm",)


def test_nothing_in_a_file_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = save_pytorch(tmp_path / "evil.pth.tar", WEIGHTS, harm=Harmful())
    message = error_of(path)
    assert "damaged or holds more than weights: it asks for" in message
    assert "system" in message
    (tmp_path / "evil.pkl").write_bytes(pickle.dumps(Harmful()))
    assert "more than weights: it asks for" in error_of(tmp_path / "evil.pkl")
    assert not (tmp_path / "harm").exists()


def test_a_file_of_something_but_arrays_is_an_error(tmp_path: Path) -> None:
    torch.save([1, 2], tmp_path / "list.pth")
    assert "holds a list, not named weights" in error_of(tmp_path / "list.pth")
    torch.save({"epoch": 3}, tmp_path / "epoch.pth")
    assert "'epoch' is a int, not an array of numbers" in error_of(tmp_path / "epoch.pth")


def tensorflow_files(folder: Path) -> Path:
    """Files that look like a TensorFlow checkpoint from outside; the prefix of their names."""
    (folder / "snapshot_3.ckpt.index").write_bytes(b"\x00" * 40 + TABLE_END)
    (folder / "snapshot_3.ckpt.data-00000-of-00001").write_bytes(b"\x00" * 8)
    (folder / "snapshot_3.ckpt.meta").write_bytes(b"\x0a")
    (folder / "snapshot_30.ckpt.index").write_bytes(b"")
    return folder / "snapshot_3.ckpt"


@pytest.mark.parametrize("ending", ["", ".index", ".data-00000-of-00001", ".meta"])
def test_a_tensorflow_checkpoint_by_any_of_its_files(
    ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prefix = tensorflow_files(tmp_path)
    opened = []

    def reader(path: Path) -> FakeReader:
        opened.append(path)
        return FakeReader({"b": np.zeros((1, 2), np.float32), "a": np.ones(3, np.float32)})

    monkeypatch.setattr(checkpoints, "_tensorflow_reader", reader)
    checkpoint = open_checkpoint(prefix.with_name(prefix.name + ending))
    assert opened == [prefix]
    assert checkpoint.kind == "tensorflow"
    assert list(checkpoint.shapes.items()) == [("a", (3,)), ("b", (1, 2))]
    assert [file.name for file in checkpoint.files] == [
        "snapshot_3.ckpt.data-00000-of-00001",
        "snapshot_3.ckpt.index",
    ]


@pytest.mark.parametrize("name", ["snapshot_9.ckpt", "weights"])
def test_a_tensorflow_checkpoint_of_a_single_file(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / name
    file.write_bytes(b"\x00" * 40 + TABLE_END)
    monkeypatch.setattr(checkpoints, "_tensorflow_reader", lambda _: FakeReader({}))
    checkpoint = open_checkpoint(file)
    assert (checkpoint.kind, checkpoint.files) == ("tensorflow", (file,))


def test_without_tensorflow_a_line_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'posepipe\[tensorflow\]'"):
        open_checkpoint(tensorflow_files(tmp_path))


def test_a_damaged_tensorflow_checkpoint_is_an_error(tmp_path: Path) -> None:
    pytest.importorskip("tensorflow", reason="needs tensorflow")
    with pytest.raises(WeightsError, match="cannot be read as weights") as caught:
        open_checkpoint(tensorflow_files(tmp_path))
    assert "\n" not in str(caught.value)


def test_truncated_numbers_of_tensorflow_are_an_error(tmp_path: Path) -> None:
    tf = pytest.importorskip("tensorflow", reason="needs tensorflow")
    prefix = tmp_path / "small.ckpt"
    value = tf.constant(np.arange(1000, dtype=np.float32))
    tf.raw_ops.SaveV2(
        prefix=str(prefix), tensor_names=["a"], shape_and_slices=[""], tensors=[value]
    )
    checkpoint = open_checkpoint(prefix)
    assert checkpoint.read("a").sum() == 499500
    [data] = tmp_path.glob("*.data-*")
    data.write_bytes(data.read_bytes()[:1000])
    with pytest.raises(WeightsError, match="cannot be read as weights") as caught:
        open_checkpoint(prefix).read("a")
    assert "\n" not in str(caught.value)


def test_a_variable_of_text_is_an_error(tmp_path: Path) -> None:
    reader = FakeReader({"words": np.array([b"text"], dtype=object)})
    checkpoint = tensorflow_checkpoint(tmp_path / "x", tmp_path / "x", reader)
    with pytest.raises(WeightsError, match="'words' is of type object, not of numbers"):
        checkpoint.read("words")
