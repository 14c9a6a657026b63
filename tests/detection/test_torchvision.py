from __future__ import annotations

import numpy as np
import pytest
import torch
import torchvision
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import MultiScaleRoIAlign

from posepipe.core.suppression import Suppression, suppress
from posepipe.detection.candidates import Origin
from posepipe.detection.loading import load_detector
from posepipe.detection.networks import NetworkTable, build_network
from posepipe.detection.torchvision import Preprocessing, TorchvisionDetector, final_size_wh
from posepipe.networks.folding import fold_batch_norms

ORIGIN = Origin("small", "torchvision", "")


def as_tensor(image: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(image).permute(2, 0, 1).float() / 255


def own_transform(settings: Preprocessing) -> GeneralizedRCNNTransform:
    return GeneralizedRCNNTransform(
        settings.short_side, settings.long_side, list(settings.mean), list(settings.std)
    )


def test_nms_afterwards_gives_torchvisions_own_boxes_to_the_last_bit(
    random_network, an_image, small
) -> None:
    # The same memory layout and folding on both sides: others add up in another order.
    network = random_network().eval().to(memory_format=torch.channels_last)
    fold_batch_norms(network)
    network.transform = own_transform(small)
    detector = TorchvisionDetector(random_network(), origin=ORIGIN, preprocessing=small)
    for seed in range(3):
        image = an_image(128, 96, seed)
        with torch.inference_mode():
            own = network([as_tensor(image)])[0]
        [candidates] = detector([detector.prepare(image)])
        picks = suppress(
            candidates.boxes_xyxy,
            candidates.scores,
            candidates.classes,
            Suppression(method="hard", threshold=0.5, min_score=0.0),
        )
        assert 10 < len(picks) < len(candidates)
        assert len(set(candidates.classes[picks.indices].tolist())) > 1
        np.testing.assert_array_equal(candidates.boxes_xyxy[picks.indices], own["boxes"])
        np.testing.assert_array_equal(picks.scores, own["scores"])
        np.testing.assert_array_equal(candidates.classes[picks.indices], own["labels"])


def test_boxes_come_back_in_the_pixels_of_the_given_image(random_network, an_image, small) -> None:
    detector = TorchvisionDetector(random_network(), origin=ORIGIN, preprocessing=small)
    ready = detector.prepare(an_image(300, 200, seed=2))  # one without equal scores
    assert ready.pixels.shape == (96, 144, 3)
    network = random_network()
    network.transform = own_transform(small)
    network.roi_heads.nms_thresh, network.roi_heads.detections_per_img = 1.0, 10**6
    with torch.inference_mode():
        own = network([as_tensor(ready.pixels)])[0]
    [candidates] = detector([ready])
    assert len(candidates) > 10
    expected = own["boxes"].numpy() * [300 / 144, 200 / 96, 300 / 144, 200 / 96]
    np.testing.assert_allclose(candidates.boxes_xyxy, expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(
    "size_wh", [(640, 480), (427, 640), (1920, 1080), (97, 61), (96, 96), (2000, 300), (33, 1999)]
)
def test_the_image_gets_the_size_that_torchvision_gives_it(size_wh) -> None:
    settings = Preprocessing()
    width, height = size_wh
    resized, _ = own_transform(settings).eval().resize(torch.zeros(3, height, width))
    assert final_size_wh(size_wh, settings) == (resized.shape[2], resized.shape[1])


@pytest.mark.parametrize("size_wh", [(211, 150), (60, 40), (500, 333)])
def test_resized_bytes_differ_from_torchvisions_floats_by_rounding_only(
    random_network, an_image, small, size_wh
) -> None:
    image = an_image(*size_wh)
    detector = TorchvisionDetector(random_network(), origin=ORIGIN, preprocessing=small)
    theirs, _ = own_transform(small).eval().resize(as_tensor(image))
    ours = as_tensor(detector.prepare(image).pixels)
    assert (ours - theirs).abs().max() <= 1.01 / 255
    assert (ours - theirs).mean().abs() < 0.1 / 255


def test_a_batch_of_one_and_a_batch_of_many_give_the_same_boxes(
    random_network, an_image, small
) -> None:
    detector = TorchvisionDetector(random_network(), origin=ORIGIN, preprocessing=small)
    sizes = [(128, 96), (96, 128), (128, 96), (150, 90), (100, 100)]
    ready = [detector.prepare(an_image(*size, seed)) for seed, size in enumerate(sizes)]
    for together, alone in zip(detector(ready), [detector([one])[0] for one in ready], strict=True):
        assert len(alone) > 10
        np.testing.assert_allclose(together.scores, alone.scores, atol=1e-4)
        np.testing.assert_allclose(together.boxes_xyxy, alone.boxes_xyxy, atol=0.02)
        np.testing.assert_array_equal(together.classes, alone.classes)


def test_an_image_has_the_same_boxes_alone_first_last_and_in_every_batch(
    random_network, an_image
) -> None:
    # Padding more than doubles the narrow ones: of one of them torchvision would get wrong strides.
    settings = Preprocessing(short_side=96, long_side=96)
    sizes = [(90, 12), (96, 64), (11, 96), (64, 96)]
    images = [an_image(*size, seed) for seed, size in enumerate(sizes)]

    def boxes(order: list[int], batch: int) -> dict[int, np.ndarray]:
        detector = TorchvisionDetector(random_network(), origin=ORIGIN, preprocessing=settings)
        found = {}
        for start in range(0, len(order), batch):
            part = order[start : start + batch]
            for place, candidates in zip(
                part, detector([detector.prepare(images[i]) for i in part]), strict=True
            ):
                found[place] = candidates.boxes_xyxy
        return found

    alone = {place: boxes([place], 1)[place] for place in range(len(sizes))}
    assert all(len(found) > 5 for found in alone.values())
    for order in ([0, 1, 2, 3], [3, 2, 1, 0], [1, 3, 0, 2]):
        for batch in (1, 2, 4):
            found = boxes(order, batch)
            for place, expected in alone.items():
                np.testing.assert_allclose(found[place], expected, atol=0.02)


@pytest.mark.parametrize(
    ("architecture", "strides"),
    [
        ("fasterrcnn_cspnext_fpn", [8, 16, 32]),
        ("fasterrcnn_mobilenet_v2_fpn", [8, 16, 32]),
        ("fasterrcnn_mobilenet_v3_large_fpn", [32, 32]),
        ("fasterrcnn_resnet50_fpn", [4, 8, 16, 32]),
    ],
)
def test_roi_align_knows_the_pyramids_strides_before_any_image(architecture, strides) -> None:
    network = build_network(NetworkTable(architecture=architecture, classes=2, channels=64))
    pool = network.roi_heads.box_roi_pool
    assert [1 / scale for scale in pool.scales] == strides
    assert (pool.map_levels.k_min, pool.map_levels.k_max) == tuple(
        int(np.log2(stride)) for stride in (strides[0], strides[-1])
    )
    assert network.backbone.training


def test_an_empty_batch_gives_nothing(random_network, small) -> None:
    assert TorchvisionDetector(random_network(), origin=ORIGIN, preprocessing=small)([]) == []


def test_scale_changes_the_networks_input_and_not_the_boxes_pixels(
    random_network, an_image, small
) -> None:
    detector = TorchvisionDetector(random_network(), origin=ORIGIN, preprocessing=small)
    ready = detector.prepare(an_image(150, 100), scale=2.0)
    assert ready.pixels.shape == (192, 288, 3)
    [candidates] = detector([ready])
    assert candidates.boxes_xyxy[:, 2].max() <= 150
    assert candidates.boxes_xyxy[:, 3].max() <= 100


def test_a_score_below_the_recipes_is_not_handed_over(random_network, an_image, small) -> None:
    image = an_image(128, 96)
    many, few = (
        TorchvisionDetector(
            random_network(), origin=ORIGIN, preprocessing=small, min_score=min_score
        )
        for min_score in (0.05, 0.21)
    )
    [low], [high] = many([many.prepare(image)]), few([few.prepare(image)])
    assert 0 < len(high) < len(low)
    assert high.scores.min() > 0.21


def test_bf16_changes_scores_little_and_keeps_box_arithmetic_in_float32(
    random_network, an_image, small
) -> None:
    exact, fast = (
        TorchvisionDetector(random_network(), origin=ORIGIN, preprocessing=small, dtype=dtype)
        for dtype in (torch.float32, torch.bfloat16)
    )
    seen = []
    fast.network.rpn.head.register_forward_hook(lambda module, args, out: seen.append(out))
    ready = exact.prepare(an_image(128, 96))
    [precise], [rough] = exact([ready]), fast([ready])
    assert all(tensor.dtype == torch.float32 for group in seen[0] for tensor in group)
    strongest = np.sort(precise.scores)[-20:], np.sort(rough.scores)[-20:]
    np.testing.assert_allclose(*strongest, atol=0.05)
    assert not np.array_equal(*strongest)


def test_a_mask_head_is_not_run(random_network, an_image, small) -> None:
    network = random_network()
    masked = MaskRCNN(
        network.backbone,
        num_classes=5,
        rpn_anchor_generator=network.rpn.anchor_generator,
        box_roi_pool=network.roi_heads.box_roi_pool,
        mask_roi_pool=MultiScaleRoIAlign(["0", "1", "2"], output_size=14, sampling_ratio=2),
        box_head=network.roi_heads.box_head,
    )
    masked.rpn, masked.roi_heads.box_predictor = network.rpn, network.roi_heads.box_predictor
    calls = []
    masked.roi_heads.mask_head.register_forward_hook(lambda *_: calls.append(1))
    detector = TorchvisionDetector(masked, origin=ORIGIN, preprocessing=small)
    [candidates] = detector([detector.prepare(an_image(128, 96))])
    assert len(candidates) > 0
    assert not calls


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fasterrcnn", "maskrcnn"])
def test_the_recipes_take_files_laid_out_like_torchvisions_published_ones(
    name: str, tmp_path, an_image
) -> None:
    theirs = torchvision.models.get_model(
        f"{name}_resnet50_fpn", weights=None, weights_backbone=None
    )
    theirs.backbone.body.bn1.running_var.mul_(1e-3)  # so that an epsilon would be seen
    # Published ones come from frozen batch normalisation, which has no counter.
    state = {k: v for k, v in theirs.state_dict().items() if "num_batches" not in k}
    assert any("mask_head" in key for key in state) == (name == "maskrcnn")
    torch.save(state, tmp_path / "published.pth")
    detector = load_detector(
        f"{name}-resnet50-fpn", weights=tmp_path / "published.pth", device="cpu", precision="fp32"
    )
    norms = [m for m in detector.network.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert not norms  # CUDA's own refuses an epsilon of 0, which the recipe has
    body, scale = detector.network.backbone.body, 1e-3**-0.5
    torch.testing.assert_close(body.conv1.weight, scale * theirs.backbone.body.conv1.weight)
    detector([detector.prepare(an_image(120, 160), scale=0.2)])
