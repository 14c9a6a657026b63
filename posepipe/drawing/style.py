"""How poses are drawn: colours, thresholds and line widths."""

from __future__ import annotations

from dataclasses import dataclass

from posepipe.errors import OptionError

Colour = tuple[int, int, int]
# Neither of them is the orange or the blue of the body's sides.
_OF_PEOPLE: tuple[Colour, ...] = (
    (64, 224, 128),
    (255, 105, 180),
    (255, 236, 70),
    (170, 120, 255),
    (90, 235, 235),
    (255, 90, 80),
    (190, 255, 60),
    (255, 190, 150),
)


def person_colour(number: int) -> Colour:
    """The colour of a person who is followed, the same in every frame; the ninth has the first's.

    >>> person_colour(1) == person_colour(9), person_colour(1) == person_colour(2)
    (True, False)
    """
    return _OF_PEOPLE[(number - 1) % len(_OF_PEOPLE)]


@dataclass(frozen=True, kw_only=True)
class DrawStyle:
    """Options of a drawing; colours are RGB, 0…255.

    The three default colours differ in hue and lightness, so that they can be told apart by
    colour-blind people and in greyscale (brighter versions of Okabe and Ito's blue and orange).

    Attributes:
        left: colour of keypoints and limbs on the body's own left side.
        right: colour of those on the right side.
        middle: colour of keypoints without a side, such as the nose, and of limbs between the
            sides.
        box: colour of boxes.
        min_confidence: keypoints below it, and their limbs, are not drawn.
        min_score: people with a lower pose score are not drawn; 0: draw everybody.
        skeletons: draw limbs and keypoints.
        boxes: draw boxes.
        scores: draw pose scores.
        ids: draw the number of tracked people, and their box in a colour of its own.
        limb_width: in pixels; None: by the size of the image and the person.
        opacity: of limbs and keypoints; 1 is opaque.

    Raises:
        OptionError: a colour, width or opacity out of range.
    """

    left: Colour = (255, 138, 20)
    right: Colour = (30, 144, 255)
    middle: Colour = (240, 240, 200)
    box: Colour = (255, 255, 255)
    min_confidence: float = 0.2
    min_score: float = 0.1
    skeletons: bool = True
    boxes: bool = True
    scores: bool = True
    ids: bool = False
    limb_width: float | None = None
    opacity: float = 0.9

    def __post_init__(self) -> None:
        for name in ("left", "right", "middle", "box"):
            colour = getattr(self, name)
            if len(colour) != 3 or not all(0 <= value <= 255 for value in colour):
                raise OptionError(f"{name} must be red, green, blue in 0…255, got {colour}")
        if self.limb_width is not None and not 0 < self.limb_width <= 1000:
            raise OptionError(f"limb_width must lie in 0…1000 pixels, got {self.limb_width}")
        if not 0 < self.opacity <= 1:
            raise OptionError(f"opacity must lie above 0 and be at most 1, got {self.opacity}")
