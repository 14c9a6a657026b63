"""People's numbers and the lines behind them."""

from __future__ import annotations

import numpy as np

from posepipe.core.poses import Poses
from posepipe.drawing.draw import draw_poses
from posepipe.drawing.style import DrawStyle, person_colour
from posepipe.drawing.trails import Trails

GROUND = np.full((100, 200, 3), 60, np.uint8)


def person(x: float, number: int | None) -> Poses:
    box = np.array([[x - 10.0, 20, x + 10, 80]])
    track_ids = None if number is None else np.array([number])
    return Poses(1, np.zeros((1, 17, 3)), np.ones(1), box, np.ones(1), track_ids=track_ids)


def test_a_trail_leads_to_where_the_person_stands_and_fades() -> None:
    trails = Trails(1.0)
    for place in range(10):
        drawn = trails(GROUND, person(20.0 + 15 * place, 3), place / 10)
    change = np.abs(drawn.astype(int) - 60).sum(axis=2)
    assert change[80, 25] < change[80, 80] < change[80, 150]
    assert change[80, 165:].max() == change[:70].max() == 0
    assert np.abs(drawn[80, 150].astype(int) - person_colour(3)).max() <= 2
    later = trails(GROUND, person(155.0, None), 3.0)
    assert (later == GROUND).all()


def test_a_box_has_its_persons_colour() -> None:
    style = DrawStyle(ids=True, scores=False)
    same, other = (draw_poses(GROUND, person(100.0, number), style=style) for number in (1, 2))
    plain = draw_poses(GROUND, person(100.0, 1), style=DrawStyle(scores=False))
    assert (same != other).any()
    assert (same != plain).any()
    unnumbered = draw_poses(GROUND, person(100.0, None), style=style)
    assert (unnumbered == plain).all()
