"""Score cards as text and as JSON."""

from __future__ import annotations

import dataclasses
import json

from posepipe.scoring.scorecard import BoxScoreCard, KeypointScore, ScoreCard

CARD = ScoreCard(
    ap=0.7214,
    ap50=0.914,
    ap75=0.8,
    ap_medium=None,
    ap_large=0.77251,
    ar=0.785,
    ar50=1.0,
    ar75=0.0,
    ar_medium=0.742,
    ar_large=0.843,
    split="minival",
    images=5000,
    people=6352,
    poses=104125,
    per_keypoint=(
        KeypointScore("nose", 0.5),
        KeypointScore("left_eye", 0.25),
        KeypointScore("right_eye", None),
    ),
    warnings=("a warning",),
)


def test_the_table_shows_per_cent_in_the_paper_s_order():
    assert CARD.as_table().splitlines() == [
        "minival: 5000 images, 6352 people, 104125 poses",
        "",
        "   AP   AP.5  AP.75   AP M   AP L     AR   AR.5  AR.75   AR M   AR L",
        " 72.1   91.4   80.0      –   77.3   78.5  100.0    0.0   74.2   84.3",
        "",
        "AP of       left  right",
        "nose        50.0",
        "eye         25.0      –",
    ]


def test_json_has_every_field_under_its_name():
    card = json.loads(json.dumps(CARD.as_json()))
    assert card["ap"] == 0.7214
    assert card["ap_medium"] is None
    assert card["per_keypoint"] == {"nose": 0.5, "left_eye": 0.25, "right_eye": None}
    assert card["warnings"] == ["a warning"]
    assert card.keys() == ScoreCard.__dataclass_fields__.keys()


def test_a_box_card_shows_sizes_and_counts():
    card = BoxScoreCard(
        **dict.fromkeys(("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large"), 0.5),
        **dict.fromkeys(("ar", "ar_small", "ar_medium", "ar_large"), 0.25),
        split="",
        images=1,
        people=2,
        boxes=3,
    )
    table = card.as_table().splitlines()
    assert table[0] == "1 images, 2 people, 3 boxes"
    assert table[2].split("  ")[-1] == " AR L"
    assert table[3].split() == ["50.0"] * 6 + ["25.0"] * 4
    assert card.as_json()["ar_small"] == 0.25


def test_keypoints_of_any_names_are_paired_by_their_sides():
    names = ("nose", "L_F_Paw", "R_F_Paw", "the_root_of_the_tail", "left_horn")
    scores = tuple(KeypointScore(name, n / 10) for n, name in enumerate(names))
    table = dataclasses.replace(CARD, per_keypoint=scores).as_table()
    assert table.splitlines()[-5:] == [
        "AP of                  left  right",
        "nose                    0.0",
        "f_paw                  10.0   20.0",
        "the_root_of_the_tail   30.0",
        "left_horn              40.0",
    ]
