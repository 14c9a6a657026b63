"""Laws of every codec: what is encoded is decoded, mirrored and averaged as it should be."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from posepipe.core.skeleton import COCO_PERSON
from posepipe.errors import RecipeError
from posepipe.pose.codecs.argmax import (
    ArgmaxCodec,
    ArgmaxTable,
    _at_peaks,
    _at_peaks_on_device,
)
from posepipe.pose.codecs.base import Codec
from posepipe.pose.codecs.choose import CODECS, codec_of, decoding_table
from posepipe.pose.codecs.simcc import SimCCCodec, SimCCTable
from posepipe.pose.heatmaps import DecodingTable
from posepipe.zoo.recipe import Recipe

SIZE_WH = (48, 64)
# The codec, and how far a decoded keypoint may be from an encoded one, in pixels.
CASES: dict[str, tuple[Codec, float]] = {
    "cpn": (codec_of(DecodingTable(blur_kernel=1)), 2.0),
    "argmax": (codec_of(ArgmaxTable()), 1.01),
    "argmax-plain": (codec_of(ArgmaxTable(quarter_offset=False)), 2.01),
    "argmax-points": (codec_of(ArgmaxTable(cells="points")), 1.01),
    "dark": (codec_of(ArgmaxTable(codec="dark", blur_kernel=1)), 1e-3),
    "dark-smoothed": (codec_of(ArgmaxTable(codec="dark")), 0.4),
    "dark-corners": (codec_of(ArgmaxTable(codec="dark", cells="corners", blur_kernel=1)), 1e-3),
    "simcc": (codec_of(SimCCTable()), 0.26),
    "simcc-fine": (codec_of(SimCCTable(bins_per_pixel=4)), 0.13),
}
each = pytest.mark.parametrize("name", CASES)


def points(count: int = 40) -> torch.Tensor:
    """(1, count, 2) places well inside the crop."""
    generator = torch.Generator().manual_seed(3)
    width, height = SIZE_WH
    spread = torch.rand(1, count, 2, generator=generator)
    return 12 + spread * torch.tensor([width - 25.0, height - 25.0])


@each
def test_what_is_encoded_is_decoded(name: str) -> None:
    codec, tolerance = CASES[name]
    response = codec.encode(points(), SIZE_WH)
    assert codec.check(response, 40, SIZE_WH) == ""
    found = codec.decode(response, SIZE_WH)
    assert (found.points_xy - points()).abs().max() <= tolerance
    assert found.confidences.min() > 0.8
    assert found.confidences.max() <= 1


@each
def test_the_mirror_images_response_is_the_images_own_when_flipped_back(name: str) -> None:
    codec, tolerance = CASES[name]
    ours = points(len(COCO_PERSON))
    width = SIZE_WH[0]
    theirs = ours[:, list(COCO_PERSON.mirrored)] * torch.tensor([-1.0, 1.0])
    theirs = theirs + torch.tensor([width - 1.0, 0.0])
    back = codec.flip(codec.encode(theirs, SIZE_WH), COCO_PERSON.mirrored)
    exact = codec.encode(ours, SIZE_WH)
    found = codec.decode(codec.average([exact, back], [codec, codec]), SIZE_WH).points_xy
    # Of "points" the code bases move the mirror image by a whole cell, where 3/4 is exact.
    slack = 0.5 if "points" in name else 0.0
    assert (found - ours).abs().max() <= tolerance + slack
    if not slack:
        for one, other in zip(exact, back, strict=True):
            torch.testing.assert_close(one[..., :-4], other[..., :-4], atol=1e-4, rtol=0)


@each
def test_nobody_is_a_legal_answer(name: str) -> None:
    codec, _ = CASES[name]
    response = codec.encode(torch.zeros(0, 17, 2), SIZE_WH)
    found = codec.decode(response, SIZE_WH)
    assert found.points_xy.shape == (0, 17, 2)
    assert found.confidences.shape == (0, 17)


@each
def test_a_response_of_another_shape_is_named(name: str) -> None:
    codec, _ = CASES[name]
    response = codec.encode(points(5), SIZE_WH)
    assert "are expected" in codec.check(response, 6, SIZE_WH)
    assert "are expected" in codec.check(response, 5, (96, 64))
    assert "are expected" in codec.check((*response, response[0]), 5, SIZE_WH)


@pytest.mark.parametrize("table", [ArgmaxTable(), ArgmaxTable(codec="dark")])
def test_a_peak_at_the_border_stays_there(table: ArgmaxTable) -> None:
    maps = torch.zeros(1, 2, 16, 12)
    maps[0, 0, 0, 0] = maps[0, 1, 15, 11] = 1
    found = ArgmaxCodec(table).decode((maps,), SIZE_WH)
    assert found.points_xy.min() >= 0
    assert (found.points_xy <= torch.tensor([47.0, 63.0])).all()


def test_simccs_confidence_is_the_lower_peak() -> None:
    x, y = torch.zeros(1, 1, 96), torch.zeros(1, 1, 128)
    x[0, 0, 21], y[0, 0, 90] = 0.9, 0.4
    found = SimCCCodec(SimCCTable()).decode((x, y), SIZE_WH)
    assert found.points_xy.tolist() == [[[10.5, 45.0]]]
    assert found.confidences.item() == pytest.approx(0.4)


@pytest.mark.parametrize("name", CODECS)
def test_a_recipe_names_its_codec(name: str, tmp_path: Path) -> None:
    assert decoding_table(Recipe("r", tmp_path, {"decoding": {"codec": name}})).codec == name


def test_the_codec_is_cpns_unless_a_recipe_says_otherwise(tmp_path: Path) -> None:
    assert decoding_table(Recipe("r", tmp_path, {})) == DecodingTable()
    with pytest.raises(RecipeError, match="no codec 'simc'; there are: cpn, argmax, dark, simcc"):
        decoding_table(Recipe("r", tmp_path, {"decoding": {"codec": "simc"}}))
    with pytest.raises(RecipeError, match="there is no field 'amplitude'"):
        decoding_table(Recipe("r", tmp_path, {"decoding": {"codec": "dark", "amplitude": 1.0}}))


def test_the_host_measures_what_a_device_would():
    maps = torch.rand(3, 17, 8, 6)
    maps[0, 0], maps[0, 1, 0, 0], maps[0, 2, -1, -1] = 0.0, 2.0, 2.0  # no peak, and at the corners
    smooth = maps.sqrt()
    for count in (3, 1, 0):
        flat, about = maps[:count].flatten(2), smooth[:count].flatten(2)
        on_device = _at_peaks_on_device(flat, about, 6)
        assert on_device.shape == (count, 17, 11)
        assert torch.equal(torch.from_numpy(_at_peaks(flat.numpy(), about.numpy(), 6)), on_device)
