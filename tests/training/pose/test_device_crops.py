"""Crops from the device: those of the CPU engine, within the interpolation's error."""

from __future__ import annotations

from dataclasses import replace

import cv2
import msgspec
import numpy as np
import pytest
import torch
from builders import save_image
from training_crops import NO_AUGMENTATION, in_memory

from posepipe.core.skeleton import COCO_PERSON
from posepipe.errors import ImageError
from posepipe.io.images import ImageFile
from posepipe.training.images import TrainingImage
from posepipe.training.pose.augment import AugmentTable, crop_pixels, draw_augmentation
from posepipe.training.pose.device_crops import DeviceCrops
from posepipe.training.samples import PoseSample

SIZE_WH, FILL = (96, 128), (123, 116, 103)
CPU = torch.device("cpu")
NO_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU here")
DEVICES = [CPU, pytest.param(torch.device("cuda"), marks=[pytest.mark.gpu, NO_GPU])]


def photo(seed=0, size_wh=(300, 400)):
    """Structure of all sizes: blurred noise upon blurred noise, as in a photograph."""
    random = np.random.default_rng(seed)
    width, height = size_wh
    layers = [
        cv2.resize(random.normal(size=(height // cell + 2, width // cell + 2, 3)), size_wh)
        for cell in (64, 16, 4)
    ]
    return np.clip(128 + 40 * sum(layers), 0, 255).astype(np.uint8)


def person(seed=0, size_wh=(300, 400), share=0.5):
    """Somebody who takes up a share of an image's sides."""
    size = np.array(size_wh)
    box = np.concatenate([size * (1 - share) / 2, size * (1 + share) / 2])
    points = np.random.default_rng(seed).uniform(box[:2], box[2:], (17, 2))
    image = in_memory(photo(seed, size_wh))
    return PoseSample(image, box, points, np.ones(17), np.full(17, 2), area=1e4)


def drawn(samples, table, seed=0):
    return [
        draw_augmentation(
            sample,
            table,
            size_wh=SIZE_WH,
            margins_xy=(0.1, 0.15),
            skeleton=COCO_PERSON,
            generator=np.random.default_rng([seed, number]),
        )
        for number, sample in enumerate(samples)
    ]


def by_cpu(samples, augmentations):
    return np.stack(
        [
            crop_pixels(sample.read(), augmentation, size_wh=SIZE_WH, fill=FILL)
            for sample, augmentation in zip(samples, augmentations, strict=True)
        ]
    )


def by_device(samples, augmentations, device=CPU, **options):
    return DeviceCrops(device, size_wh=SIZE_WH, fill=FILL, **options)(samples, augmentations)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    "table",
    [
        NO_AUGMENTATION,
        msgspec.structs.replace(NO_AUGMENTATION, rotation=1, scale=(0.4, 1.5)),
        AugmentTable(rotation=1, shift=0.5, cutout=0.7, cutouts=3),
    ],
    ids=["plain", "turned", "everything"],
)
def test_both_engines_make_the_same_crops(table, device):
    # Images of different sizes; persons enlarged, reduced by 2 and more, and partly outside.
    samples = [
        person(0),
        person(1, (90, 70)),
        person(2, (1000, 1300), share=0.9),
        person(3, (640, 427), share=0.95),
        person(4, share=1.3),
        person(5, (401, 777), share=0.8),
    ]
    augmentations = drawn(samples, table)
    plans = [
        one.to_crop.plan(sample.read().shape[1::-1], SIZE_WH, antialias=True)
        for one, sample in zip(augmentations, samples, strict=True)
    ]
    kinds = {plan.reduced_wh[0] < plan.window[2] - plan.window[0] for plan in plans}
    assert kinds == {True, False}  # both with and without averaging
    crops = by_device(samples, augmentations, device)
    assert crops.dtype == torch.uint8
    assert crops.device.type == device.type
    difference = np.abs(crops.cpu().numpy().astype(int) - by_cpu(samples, augmentations))
    # In levels of 255. OpenCV may round places to 1/32 pixel; steps here are about 30 a pixel.
    assert difference.max() <= 4
    assert difference.mean() < 0.3


def test_a_crop_wholly_outside_its_image_is_fill_in_both_engines():
    samples = [replace(person(), box_xyxy=np.array([-900.0, -900, -800, -800])), person(1)]
    augmentations = drawn(samples, NO_AUGMENTATION)
    crops = by_device(samples, augmentations).numpy()
    assert (crops[0] == FILL).all()
    assert np.array_equal(by_cpu(samples, augmentations)[0], crops[0])
    assert (crops[1] != FILL).any()


def test_the_crops_of_images_that_find_no_room_are_the_cpus():
    samples = [person(0), person(1), person(0)]
    samples[2] = replace(samples[2], image=samples[0].image)
    augmentations = drawn(samples, AugmentTable())
    maker = DeviceCrops(
        CPU, size_wh=SIZE_WH, fill=FILL, limit_bytes=samples[0].read().nbytes + 1000
    )
    crops = maker(samples, augmentations).numpy()
    everything = by_device(samples, augmentations).numpy()
    assert maker.used_bytes == samples[0].read().nbytes
    assert np.array_equal(crops[[0, 2]], everything[[0, 2]])
    assert np.array_equal(crops[1], by_cpu(samples, augmentations)[1])
    nothing = by_device(samples, augmentations, limit_bytes=0).numpy()
    assert np.array_equal(nothing, by_cpu(samples, augmentations))


def test_an_image_is_read_once(tmp_path):
    path = save_image(tmp_path / "one.png", 60, 80)
    image = TrainingImage(ImageFile(1, path, "one.png"))
    sample = replace(person(size_wh=(60, 80)), image=image)
    maker = DeviceCrops(CPU, size_wh=SIZE_WH, fill=FILL)
    augmentations = drawn([sample], AugmentTable())
    crops = maker([sample], augmentations)
    path.unlink()
    assert torch.equal(maker([sample], augmentations), crops)


def test_a_missing_image_is_an_error(tmp_path):
    gone = TrainingImage(ImageFile(1, tmp_path / "gone.png", "gone.png"))
    sample = replace(person(), image=gone)
    with pytest.raises(ImageError, match=r"gone\.png"):
        by_device([sample], drawn([sample], NO_AUGMENTATION))
