"""A network with its recipe: loading, normalising, the flip average."""

from __future__ import annotations

import dataclasses
from collections import Counter

import pytest
import torch
from norms import used
from safetensors.torch import load_file, save_file

from posepipe.core.skeleton import COCO_PERSON
from posepipe.errors import OptionError, RecipeError, WeightsError
from posepipe.networks.backbones.lite_hrnet import ShuffleBlock, ShufflePair
from posepipe.networks.devices import resolve_precision
from posepipe.networks.runtimes.export import to_onnx
from posepipe.pose.heatmaps import mirror_back
from posepipe.pose.loading import _make_ready, load_pose_stage
from posepipe.pose.model import build_pose_network, exportable, load_pose_model, pose_model
from posepipe.pose.networks.quicken import quicken
from posepipe.zoo.recipe import Recipe, list_recipes, load_recipe

RECIPE = """
[model]
stage = "pose"
summary = "a small one for tests"

[network]
backbone = "mobilenet_v2"
channels = 16

[preprocessing]
input_size_wh = [64, 64]
"""


def crops(people=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (people, 64, 64, 3), dtype=torch.uint8, generator=generator)


@pytest.fixture
def model_folder(tmp_path, random_cpn):
    """A small pose model's folder, with recipe and weights."""
    folder = tmp_path / "small-cpn"
    folder.mkdir()
    (folder / "recipe.toml").write_text(RECIPE)
    state = {key: value.contiguous() for key, value in random_cpn.state_dict().items()}
    save_file(state, folder / "weights.safetensors")
    return folder


@pytest.mark.parametrize("flip", [False, True])
def test_no_crops_give_no_heatmaps(flip, random_cpn, make_model):
    assert make_model(random_cpn).heatmaps(crops(0), flip=flip).shape == (0, 17, 16, 16)


@pytest.mark.parametrize("flip", [False, True])
def test_a_crop_alone_and_among_others_gives_the_same_heatmaps(flip, random_cpn, make_model):
    model, pixels = make_model(random_cpn), crops(4)
    together = model.heatmaps(pixels, flip=flip)
    assert together.shape == (4, 17, 16, 16)
    assert together.dtype == torch.float32
    for n in range(4):
        alone = model.heatmaps(pixels[n : n + 1], flip=flip)
        assert torch.allclose(alone[0], together[n], atol=1e-5)


def test_the_flip_average_of_a_mirror_image_is_the_mirror_image_of_the_flip_average(
    random_cpn, make_model
):
    model, pixels = make_model(random_cpn), crops()
    plain = model.heatmaps(pixels, flip=True)
    mirrored = model.heatmaps(pixels.flip(2), flip=True)
    assert torch.allclose(mirror_back(mirrored, COCO_PERSON.mirrored), plain, atol=1e-5)
    once = model.heatmaps(pixels, flip=False)
    assert not torch.allclose(once, plain, atol=1e-2)  # so the average did something


def test_the_network_is_given_the_colours_in_its_own_order(colour_network, make_model):
    red = torch.zeros(1, 64, 64, 3, dtype=torch.uint8)
    red[..., 0] = 255
    seen = {
        order: make_model(colour_network, colour_order=order).heatmaps(red, flip=False)[0, :3, 0, 0]
        for order in ("rgb", "bgr")
    }
    assert seen["rgb"].tolist() == [1, 0, 0]
    assert seen["bgr"].tolist() == [0, 0, 1]


def test_bf16_is_close_to_fp32_and_gives_fp32(random_cpn, make_model):
    exact = make_model(random_cpn)
    rough = dataclasses.replace(exact, dtype=torch.bfloat16)
    expected, found = (model.heatmaps(crops(), flip=True) for model in (exact, rough))
    assert found.dtype == torch.float32
    assert (found - expected).abs().mean() < 0.05 * expected.abs().max()


def test_a_model_of_any_folder_is_loaded_with_its_weights(model_folder, random_cpn, make_model):
    model = load_pose_model(model_folder, device="cpu", precision="fp32")
    assert model.name == "small-cpn"
    assert len(model.weights_sha256) == 64
    assert not model.network.training
    normalised = {
        "mean": list(model.preprocessing.mean),
        "std": list(model.preprocessing.std),
    }
    by_hand = make_model(random_cpn, **normalised)
    assert torch.equal(model.heatmaps(crops(), flip=True), by_hand.heatmaps(crops(), flip=True))


@pytest.mark.parametrize("flip", [False, True])
def test_the_head_global_says_what_a_globalnet_with_the_same_weights_says(
    flip, model_folder, tmp_path
):
    alone = tmp_path / "small-globalnet"
    alone.mkdir()
    (alone / "recipe.toml").write_text(
        'extends = "small-cpn"\n'
        '[model]\nsummary = "GlobalNet alone"\n[network]\narchitecture = "globalnet"'
    )
    whole = load_file(model_folder / "weights.safetensors")
    part = {key: value for key, value in whole.items() if not key.startswith("refinenet.")}
    save_file(part, alone / "weights.safetensors")
    fast = load_pose_model(model_folder, head="global", device="cpu", precision="fp32")
    own = load_pose_model(alone, device="cpu", precision="fp32")
    full = load_pose_model(model_folder, device="cpu", precision="fp32")
    assert not hasattr(fast.network, "refinenet")
    assert len(part) < len(whole)
    maps = fast.heatmaps(crops(), flip=flip)
    assert torch.equal(maps, own.heatmaps(crops(), flip=flip))
    assert not torch.allclose(maps, full.heatmaps(crops(), flip=flip))


def test_the_head_global_of_a_globalnet_is_its_own(model_folder):
    (model_folder / "recipe.toml").write_text(
        RECIPE.replace("[network]", '[network]\narchitecture = "globalnet"')
    )
    with pytest.raises(WeightsError, match="of another network: 'refinenet"):
        load_pose_model(model_folder, device="cpu")
    # Asked for, a whole CPN's weights are taken for the part that fits.
    assert load_pose_model(model_folder, head="global", device="cpu").weights_sha256


def test_weights_of_another_network_are_refused(model_folder):
    recipe = model_folder / "recipe.toml"
    recipe.write_text(RECIPE.replace("channels = 16", "channels = 24"))
    with pytest.raises(WeightsError, match="of another network"):
        load_pose_model(model_folder, device="cpu")


def test_a_model_without_weights_says_where_they_belong(model_folder):
    (model_folder / "weights.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"'small-cpn' comes without weights: .*small-cpn"):
        load_pose_model(model_folder, device="cpu")


def test_a_detector_is_no_pose_model():
    with pytest.raises(RecipeError, match="is for detection, not for poses"):
        build_pose_network(load_recipe("person-detector-rtmdet-nano"))


HANDS = {
    "model": {"stage": "pose", "summary": ""},
    "network": {"backbone": "mobilenet_v2", "channels": 8},
    "preprocessing": {"input_size_wh": [64, 64]},
    "skeleton": {"category": "hand", "keypoints": ["wrist", "left_tip", "right_tip"]},
}


@pytest.mark.parametrize(
    ("network", "stride"),
    [
        ({"architecture": "cpn", **HANDS["network"]}, 4),
        ({"architecture": "globalnet", **HANDS["network"]}, 4),
        ({"architecture": "hourglass", "channels": 8}, 4),
        ({"architecture": "resnet", "backbone": "resnet18"}, 32),
    ],
)
def test_a_network_has_as_many_heatmaps_as_the_skeleton_has_keypoints(tmp_path, network, stride):
    tables = {**HANDS, "network": network, "decoding": {"stride": stride}}
    made = build_pose_network(Recipe("hands", tmp_path, tables)).eval()
    assert made(torch.zeros(1, 3, 64, 64)).shape == (1, 3, 64 // stride, 64 // stride)


def test_a_model_s_skeleton_is_its_recipe_s_and_decides_what_a_mirror_image_is(tmp_path):
    recipe = Recipe("hands", tmp_path, HANDS)
    model = pose_model(recipe, build_pose_network(recipe), device="cpu")
    assert model.skeleton.keypoints == ("wrist", "left_tip", "right_tip")
    pixels = crops(1)
    plain, back = (model.heatmaps(p, flip=False) for p in (pixels, pixels.flip(2)))
    expected = (plain + back.flip(-1)[:, [0, 2, 1]]) / 2
    assert torch.allclose(model.heatmaps(pixels, flip=True), expected, atol=1e-5)
    assert model.heatmaps(pixels[:0], flip=False).shape[:2] == (0, 3)


def test_a_number_of_keypoints_that_contradicts_the_skeleton_is_refused(tmp_path):
    tables = {**HANDS, "network": {"backbone": "mobilenet_v2", "keypoints": 14}}
    with pytest.raises(RecipeError, match=r"keypoints is 14, but the skeleton 'hand' has 3"):
        build_pose_network(Recipe("odd", tmp_path, tables))
    tables = {"model": HANDS["model"], "network": {"backbone": "mobilenet_v2", "keypoints": 17}}
    build_pose_network(Recipe("usual", tmp_path, tables))


def test_a_precision_that_the_device_lacks_is_refused(model_folder):
    with pytest.raises(OptionError, match="fp16 needs a GPU"):
        load_pose_model(model_folder, device="cpu", precision="fp16")


@pytest.fixture
def fp16_by_default(monkeypatch):
    """Makes this machine's CPU pass for a GPU that multiplies fp16."""
    monkeypatch.setattr("posepipe.pose.model.multiplies_fp16", lambda device: True)


def test_where_fp16_is_multiplied_it_is_the_default_and_closer_than_bf16(
    model_folder, fp16_by_default
):
    precisions = {"auto": torch.float16, "fp32": torch.float32, "bf16": torch.bfloat16}
    pixels, maps = crops(), {}
    for precision, dtype in precisions.items():
        model = load_pose_model(model_folder, device="cpu", precision=precision, runtime="torch")
        assert model.dtype == dtype
        maps[precision] = model.heatmaps(pixels, flip=True)
    error = {name: (maps[name] - maps["fp32"]).square().mean().sqrt() for name in maps}
    assert 0 < 4 * error["auto"] < error["bf16"]


def test_a_network_whose_numbers_are_too_large_for_fp16_keeps_the_other_default(
    model_folder, fp16_by_default
):
    usual = resolve_precision("auto", torch.device("cpu"))
    path = model_folder / "weights.safetensors"
    state = load_file(path)
    first = next(name for name, weight in state.items() if weight.ndim == 4)
    save_file({**state, first: 1e5 * state[first]}, path)
    assert load_pose_model(model_folder, device="cpu", runtime="torch").dtype == usual


def test_whether_fp16_is_enough_is_asked_of_normalised_crops(
    model_folder, fp16_by_default, monkeypatch
):
    seen = []
    monkeypatch.setattr(
        "posepipe.pose.model.fits_fp16", lambda network, images: seen.append(images)
    )
    load_pose_model(model_folder, device="cpu", runtime="torch")
    [images] = seen
    assert images.shape == (4, 3, 64, 64)
    assert 1 < images.abs().max() < 4
    assert [len(crop.flatten(1).T.unique(dim=0)) for crop in images] == [4096, 256, 16, 1]


def test_other_runtimes_keep_their_own_default(model_folder, fp16_by_default):
    pytest.importorskip("onnxruntime")
    assert load_pose_model(model_folder, device="cpu", runtime="onnxruntime").dtype == torch.float32


@pytest.fixture
def lite_folder(tmp_path):
    """A CPN on Lite-HRNet with random weights and batch normalisations that are used."""
    torch.manual_seed(0)
    folder = tmp_path / "lite"
    folder.mkdir()
    (folder / "recipe.toml").write_text(RECIPE.replace("mobilenet_v2", "lite_hrnet_wider_naive_18"))
    network = used(build_pose_network(load_recipe(folder)))
    save_file(network.state_dict(), folder / "weights.safetensors")
    return folder


def kinds_of(network):
    return {type(module) for module in network.modules()}


def test_a_stage_on_a_cpu_has_a_quicker_network_with_the_same_numbers(lite_folder):
    where = {"device": "cpu", "precision": "fp32", "runtime": "torch"}
    plain = load_pose_model(lite_folder, **where)
    assert not plain.network.refinenet.enlarges_last
    [quick] = load_pose_stage([lite_folder], **where).models
    assert quick.network.globalnet.enlarges_last
    assert quick.network.refinenet.enlarges_last
    kinds = kinds_of(quick.network)
    assert ShufflePair in kinds
    assert not {ShuffleBlock, torch.nn.BatchNorm2d} & kinds
    wanted, found = (one.heatmaps(crops(), flip=False) for one in (plain, quick))
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4 * wanted.abs().max().item())


def test_elsewhere_a_network_is_folded_and_stays_as_it_was_otherwise(lite_folder):
    model = load_pose_model(lite_folder, device="cpu", precision="fp32", runtime="torch")
    _make_ready(dataclasses.replace(model, device=torch.device("cuda")))
    assert not model.network.globalnet.enlarges_last
    assert not model.network.refinenet.enlarges_last
    assert not {ShufflePair, torch.nn.BatchNorm2d} & kinds_of(model.network)


def test_what_is_exported_is_a_quicker_copy(lite_folder):
    onnx = pytest.importorskip("onnx")
    network = used(build_pose_network(load_recipe(lite_folder)))
    before = network.state_dict().keys()
    found = exportable(load_recipe(lite_folder), network)
    quick, plain = (
        Counter(node.op_type for node in onnx.load_from_string(to_onnx(one)).graph.node)
        for one in (found, dataclasses.replace(found, quicken=None))
    )
    assert network.state_dict().keys() == before
    assert not network.refinenet.enlarges_last
    assert quick["Conv"] == plain["Conv"] + 2 * 3  # two convolutions on four levels
    # A shuffle transposes, in 24 pairs of blocks and the stem.
    assert (plain["Transpose"], quick["Transpose"]) == (2 * 24 + 1, 24 + 1)


def test_a_network_that_quickening_spoils_is_not_run_elsewhere(model_folder, monkeypatch, tmp_path):
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    where = {"device": "cpu", "precision": "fp32"}
    plain = load_pose_model(model_folder, runtime="torch", **where)

    def spoil(network):
        quicken(network)
        for module in network.modules():
            if isinstance(module, torch.nn.Conv2d):
                module.weight.data.mul_(1.1)

    monkeypatch.setenv("POSEPIPE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("posepipe.pose.model.quicken", spoil)
    with pytest.raises(OptionError, match="gives other numbers in onnxruntime"):
        load_pose_model(model_folder, runtime="onnxruntime", **where)
    model = load_pose_model(model_folder, runtime="auto", **where)
    assert model.runtime.startswith("torch")
    assert torch.equal(model.heatmaps(crops(), flip=False), plain.heatmaps(crops(), flip=False))


SHIPPED = [
    recipe.name
    for recipe in list_recipes("pose")
    if (recipe.folder / "weights.safetensors").is_file()
]


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_pose_model_loads_and_runs(name):
    model = load_pose_model(name, device="cpu", precision="fp32")
    width, height = model.preprocessing.input_size_wh
    maps = model.heatmaps(torch.zeros(1, height, width, 3, dtype=torch.uint8), flip=False)
    assert maps.shape == (1, 17, height // 4, width // 4)
    assert torch.isfinite(maps).all()
