"""``posepipe models import``, from a checkpoint to poses."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from code_bases import save_pytorch
from commands import boxes_file, content, error_of, lines, photo, posepipe

from posepipe.curation.importing import pytorch_cpn
from posepipe.curation.importing.source import DECODING, preprocessing
from posepipe.pose.crops import PreprocessingTable
from posepipe.pose.heatmaps import DecodingTable
from posepipe.pose.networks.cpn import CPN, CPNTable
from posepipe.zoo.recipe import load_recipe


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pytorch-cpn file of generation (c) with random weights, as torch 0.4 wrote it."""
    torch.manual_seed(1)
    state = CPN(CPNTable(backbone="resnet50")).state_dict()
    names = pytorch_cpn.recognise(["module.global_net."], input_size_wh=(192, 256))
    assert names is not None
    arrays = {
        names.name_of(key): tensor.numpy()
        for key, tensor in state.items()
        if not key.endswith("num_batches_tracked")
    }
    return save_pytorch(tmp_path_factory.mktemp("checkpoint") / "best.pth.tar", arrays)


@pytest.fixture(scope="module")
def said(checkpoint: Path) -> list[str]:
    """What the import says; the model folder is `mine` beside the checkpoint."""
    result = posepipe("models", "import", checkpoint, "-o", checkpoint.parent / "mine")
    assert result.exit_code == 0, result.output
    assert lines(result) == []
    return result.stdout.splitlines()


@pytest.fixture
def model(checkpoint: Path, said: list[str]) -> Path:
    return checkpoint.parent / "mine"


def test_the_import_says_what_it_recognised_and_why(said: list[str], checkpoint: Path) -> None:
    assert said[0] == f"{checkpoint}: pytorch-cpn, generation (c), ResNet-50"
    assert "keys begin with 'resnet.', 'global_net.' and 'refine_net.'" in said[1]
    assert "generation (c), since 2018-09-06" in said[2]
    assert "256x192 is assumed (--input-size 384x288 if" in said[3]
    assert said[4].startswith(f"{checkpoint.parent / 'mine'}: written")
    assert len(said) == 5


def test_the_folder_is_a_model_with_its_card_and_golden_numbers(model: Path) -> None:
    names = {"README.md", "golden.safetensors", "recipe.toml", "weights.safetensors"}
    assert {path.name for path in model.iterdir()} == names
    assert (model / "golden.safetensors").stat().st_size < 100_000
    recipe = load_recipe(model)
    assert recipe.table("preprocessing", PreprocessingTable) == preprocessing((192, 256))
    assert recipe.table("decoding", DecodingTable) == DECODING
    assert recipe.table("network", CPNTable).shortcut == "projection"
    card = (model / "README.md").read_text(encoding="utf-8")
    assert "best.pth.tar, SHA-256 " in card
    assert "imported from pytorch-cpn, generation (c)" in card
    result = posepipe("models", "verify", model)
    assert result.exit_code == 0
    assert result.stdout.startswith("mine: ok: largest difference ")


def test_an_imported_model_estimates_poses(model: Path, tmp_path: Path) -> None:
    photo(tmp_path / "pictures" / "a.jpg")
    boxes = boxes_file(tmp_path / "boxes.json")
    result = posepipe("pose", boxes, "--model", model, "-o", tmp_path / "kps.json")
    assert result.exit_code == 0, result.output
    [person] = content(tmp_path / "kps.json")
    confidences = person["keypoints"][2::3]
    # Random heatmaps are near zero, and the code bases add 0.5.
    assert confidences == pytest.approx([0.5] * 17, abs=0.3)
    assert person["score"] == pytest.approx(0.9 * sum(confidences) / 17, abs=1e-3)


def test_a_folder_that_is_in_use_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("mine", encoding="utf-8")
    result = posepipe("models", "import", tmp_path / "absent", "-o", tmp_path / "full")
    assert "full already exists and is not empty" in error_of(result)


def test_files_that_are_no_checkpoints_are_one_line(tmp_path: Path) -> None:
    photo(tmp_path / "a.pth.tar.jpg")
    torch.save({"state_dict": {"conv1.weight": torch.zeros(1)}}, tmp_path / "other.pth")
    for name, says in (
        ("absent.pth.tar", "no checkpoint file"),
        ("a.pth.tar.jpg", "is not a checkpoint"),
        ("other.pth", "its first key is 'conv1.weight'"),
    ):
        result = posepipe("models", "import", tmp_path / name, "-o", tmp_path / "model")
        assert says in error_of(result)
        assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("eps", ["-1", "nan", "1"])
def test_an_epsilon_is_small_and_positive(eps: str, tmp_path: Path) -> None:
    result = posepipe("models", "import", "x", "-o", tmp_path / "model", "--batch-norm-eps", eps)
    assert "--batch-norm-eps takes a number in [0, 1)" in error_of(result)


def test_settings_of_the_command_reach_the_recipe() -> None:
    names = dict.fromkeys(["resnet.conv1.weight", "global_net.x"])
    found = pytorch_cpn.recognise(names, input_size_wh=(288, 384), batch_norm_eps=1e-4)
    assert found is not None
    assert found.network.batch_norm_eps == 1e-4
    assert found.preprocessing.input_size_wh == (288, 384)
