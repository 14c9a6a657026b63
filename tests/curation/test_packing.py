from __future__ import annotations

import shutil
from pathlib import Path

import msgspec
import pytest
import torch
from commands import error_of, posepipe
from safetensors.torch import load_file, save_file

from posepipe.curation import packing
from posepipe.curation.packing import PackOptions, pack_run
from posepipe.errors import OptionError, TrainingError, WeightsError
from posepipe.io.checksums import sha256_of
from posepipe.pose.model import build_pose_network, load_pose_model
from posepipe.training.checkpoint import Checkpoint, TrainingProgress, save_checkpoint
from posepipe.training.run_folder import DataUsed, RunFolder, RunRecord, sitting
from posepipe.zoo.recipe import load_recipe

METRICS = "samples,minutes,val/AP,val/AP50,val/AR\n12,1,0.25,0.5,0.4\n24,2,0.125,0.25,0.2\n"


@pytest.fixture
def run(tiny_recipe: Path) -> Path:
    """A run folder as training leaves it, without the training."""
    recipe = load_recipe(tiny_recipe)
    torch.manual_seed(0)
    save_file(build_pose_network(recipe).state_dict(), tiny_recipe / "weights.safetensors")
    data = DataUsed(
        use="train",
        annotations="/data/people.json",
        sha256="ab" * 32,
        images="/data",
        weight=0.5,
        image_count=1234,
        image_bytes=99,
        people=40,
        with_keypoints=30,
    )
    now = sitting(0, processes=2, device="cuda")
    record = RunRecord("tiny", 7, [data], {"imagenet.safetensors": "cd" * 32}, [now])
    RunFolder(tiny_recipe).write_record(record)
    (tiny_recipe / "metrics.csv").write_text(METRICS)
    progress = TrainingProgress(samples=24, steps=6, seconds=120.0)
    save_checkpoint(tiny_recipe, Checkpoint(progress, {}, None, {}))
    return tiny_recipe


def test_a_packed_run_is_a_model_in_half_precision(run: Path, tmp_path: Path) -> None:
    packed = pack_run(run, tmp_path / "models" / "mine")
    model = load_pose_model(packed.folder, device="cpu")
    assert model.weights_sha256 == packed.sha256 == sha256_of(packed.folder / "weights.safetensors")
    kept = load_file(packed.folder / "weights.safetensors")
    assert {value.dtype for value in kept.values()} == {torch.float16}
    assert not any(key.endswith("num_batches_tracked") for key in kept)
    trained = load_file(run / "weights.safetensors")
    for key, value in model.network.state_dict().items():
        if not key.endswith("num_batches_tracked"):
            torch.testing.assert_close(value, trained[key], rtol=1e-3, atol=1e-4)


def test_what_killed_processes_left_in_the_models_folder_is_removed(
    run: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "models" / "mine"
    folder.mkdir(parents=True)
    for name in (".weights.safetensors.4711.tmp", ".README.md.77.tmp"):
        (folder / name).write_bytes(b"a part")
    pack_run(run, folder)
    left = [file.name for file in folder.parent.rglob(".*")]
    assert left == []


def test_the_recipe_of_a_packed_model_has_no_paths_of_the_machine(
    run: Path, tmp_path: Path
) -> None:
    text = (run / "recipe.toml").read_text()
    (run / "recipe.toml").write_text(
        text + 'imagenet_weights = "/mine/of/me/imagenet.safetensors"\n'
    )
    packed = pack_run(run, tmp_path / "mine", options=PackOptions(summary="Mine", licence="MIT"))
    recipe = load_recipe(packed.folder)
    assert (recipe.model.summary, recipe.model.licence) == ("Mine", "MIT")
    training = recipe.tables["training"]
    assert (training["data"], training["validate"], training["imagenet_weights"]) == ([], [], "")
    assert training["samples"] == 24
    for file in ("recipe.toml", "README.md"):
        assert "/mine/of/me" not in (packed.folder / file).read_text()
        assert "/data" not in (packed.folder / file).read_text()


def test_the_card_has_the_numbers_the_data_and_how_it_was_trained(
    run: Path, tmp_path: Path
) -> None:
    options = PackOptions(
        measured=("val, own boxes: AP 0.2",), data_terms="Research use.", notes="Not at night."
    )
    card = (pack_run(run, tmp_path / "mine", options=options).folder / "README.md").read_text()
    for words in (
        "# mine",
        "| val | AP | 25.0 |",
        "after 12 samples (the best",
        "- val, own boxes: AP 0.2",
        "24 of 24 samples in 2 minutes, 2 processes on GPU, seed 7",
        "imagenet.safetensors (SHA-256 cdcdcdcdcdcd…)",
        "| people | train | 0.5 | 1,234 | 40 | 30 | abababababab… |",
        "Research use.",
        "Not at night.",
    ):
        assert words in card
    last = PackOptions(weights=run / "weights.safetensors")
    assert (
        "after 12 samples"
        in (pack_run(run, tmp_path / "best", options=last).folder / "README.md").read_text()
    )


def test_a_model_that_is_there_is_replaced_only_when_asked(run: Path, tmp_path: Path) -> None:
    pack_run(run, tmp_path / "mine")
    before = (tmp_path / "mine" / "README.md").read_text()
    with pytest.raises(OptionError, match=r"mine already has a weights.safetensors"):
        pack_run(run, tmp_path / "mine", options=PackOptions(notes="New."))
    assert (tmp_path / "mine" / "README.md").read_text() == before
    pack_run(run, tmp_path / "mine", options=PackOptions(notes="New.", overwrite=True))
    assert (tmp_path / "mine" / "README.md").read_text() != before


def test_a_run_is_never_packed_into_itself(run: Path) -> None:
    with pytest.raises(OptionError, match="is the run's own folder"):
        pack_run(run, run, options=PackOptions(overwrite=True))


def test_large_weights_are_refused_unless_allowed(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packing, "MOST_BYTES", 1_000_000)
    with pytest.raises(OptionError, match="more than the 1 MB of a shipped model"):
        pack_run(run, tmp_path / "mine")
    assert not (tmp_path / "mine").exists()
    pack_run(run, tmp_path / "mine", options=PackOptions(allow_large=True))


def test_weights_too_large_for_half_precision_are_an_error(run: Path, tmp_path: Path) -> None:
    weights = load_file(run / "weights.safetensors")
    key = next(key for key in weights if key.endswith("running_var"))
    weights[key][0] = 1e6
    save_file(weights, run / "weights.safetensors")
    with pytest.raises(WeightsError, match="does not fit into half precision"):
        pack_run(run, tmp_path / "mine")


@pytest.fixture
def other_run(run: Path, tmp_path: Path) -> Path:
    """A second run, with another seed and other data, all of its weights larger by a half."""
    other = shutil.copytree(run, tmp_path / "other")
    trained = load_file(run / "weights.safetensors")
    moved = {k: v + 0.5 if v.is_floating_point() else v for k, v in trained.items()}
    save_file(moved, other / "weights.safetensors")
    record = RunFolder(run).read_record()
    data = [msgspec.structs.replace(record.data[0], annotations="/data/more.json")]
    RunFolder(other).write_record(msgspec.structs.replace(record, seed=8, data=data))
    return other


def test_the_mean_of_several_runs_is_packed_and_the_card_tells_of_all(
    run: Path, other_run: Path, tmp_path: Path
) -> None:
    options = PackOptions(average=(other_run,), measured=("OKS AP 12.3",))
    packed = pack_run(run, tmp_path / "mine", options=options)
    trained = load_file(run / "weights.safetensors")
    for key, value in load_file(packed.folder / "weights.safetensors").items():
        torch.testing.assert_close(value.float(), trained[key] + 0.25, rtol=1e-3, atol=1e-3)
    card = (packed.folder / "README.md").read_text()
    for words in ("averaged over 2 runs", "seed 7", "seed 8", "| people |", "| more |"):
        assert words in card
    assert "OKS AP 12.3" in card
    assert "| val | AP |" not in card  # what the runs measured is not of the mean


def test_files_of_the_same_name_are_averaged(run: Path, other_run: Path, tmp_path: Path) -> None:
    shutil.copy(run / "weights.safetensors", run / "last.safetensors")
    options = PackOptions(weights=run / "last.safetensors", average=(other_run,))
    with pytest.raises(TrainingError, match=r"other/last\.safetensors does not exist"):
        pack_run(run, tmp_path / "mine", options=options)


def test_a_mean_with_another_network_is_refused(run: Path, other_run: Path, tmp_path: Path) -> None:
    save_file({"weight": torch.zeros(2)}, other_run / "weights.safetensors")
    options = PackOptions(average=(other_run,))
    with pytest.raises(WeightsError, match=r"is of another network than .*: see 'backbone"):
        pack_run(run, tmp_path / "mine", options=options)
    assert not (tmp_path / "mine").exists()


def test_weights_of_another_run_do_not_get_this_runs_card(
    run: Path, other_run: Path, tmp_path: Path
) -> None:
    options = PackOptions(weights=other_run / "weights.safetensors")
    with pytest.raises(OptionError, match="is not of the run"):
        pack_run(run, tmp_path / "mine", options=options)


def test_what_is_no_run_is_one_line(tiny_recipe: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"is not a run folder: it has no run.json"):
        pack_run(tiny_recipe, tmp_path / "mine")
    assert "is not a run folder" in error_of(
        posepipe("models", "pack", tiny_recipe, tmp_path / "m")
    )


def test_a_model_without_a_licence_is_not_made(run: Path, tmp_path: Path) -> None:
    text = (run / "recipe.toml").read_text()
    (run / "recipe.toml").write_text(text.replace('licence = "none: for tests"', 'licence = ""'))
    with pytest.raises(OptionError, match="give --licence"):
        pack_run(run, tmp_path / "mine")


def test_the_command_says_what_it_made(run: Path, tmp_path: Path) -> None:
    result = posepipe("models", "pack", run, tmp_path / "mine", "--licence", "MIT")
    assert result.exit_code == 0
    assert result.stdout.startswith(f"{tmp_path / 'mine'}: ")
    assert load_recipe(tmp_path / "mine").model.licence == "MIT"


def test_a_cards_words_are_no_markup(run: Path, tmp_path: Path) -> None:
    words = "mine\n\n# Heading | cell <script>\x1b[2J"
    packed = pack_run(run, tmp_path / "mine", options=PackOptions(summary=words, licence=words))
    card = (packed.folder / "README.md").read_text(encoding="utf-8")
    assert "mine # Heading \\| cell &lt;script>?[2J" in card
    assert "\x1b" not in card
    assert "\n# Heading" not in card
