"""Affine maps between two images, and the pixel convention of the whole project.

**Points** are (x, y); integer coordinates are pixel *centres*: the top left pixel is (0, 0).
**Box edges** are continuous: the box of the top left pixel is [0, 0, 1, 1], so an image of
width W spans 0…W. The two differ by half a pixel: the centre of the top left pixel lies at
(0.5, 0.5) in box coordinates. COCO's keypoints and boxes follow the same convention, and so do
`cv2.warpAffine` (points) and `cv2.resize` (edges). Every other library's convention is converted
in that library's adapter, nowhere else.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
import numpy.typing as npt

from posepipe.core.shapes import checked


class Affine:
    """An affine map from the points of a source image to those of a target image.

    Args:
        matrix: (2, 3); target (x, y) = matrix[:, :2] @ source (x, y) + matrix[:, 2].

    >>> double = Affine.from_box([0, 0, 4, 4], size_wh=(8, 8))   # a 4x4 image drawn twice as big
    >>> double.apply([[0, 0]])                     # the first pixel covers target pixels 0 and 1
    array([[0.5, 0.5]])
    """

    def __init__(self, matrix: npt.ArrayLike) -> None:
        self.__dict__["matrix"] = checked("matrix", matrix, (2, 3), np.float64)

    @classmethod
    def _of(cls, *numbers: float) -> Affine:
        """The map with these six numbers, row by row; they are made of checked ones."""
        made = object.__new__(cls)
        made.__dict__["numbers"] = numbers
        return made

    @cached_property
    def matrix(self) -> npt.NDArray[np.float64]:
        """(2, 3) float64, not to be written to."""
        matrix = np.array(self.numbers, np.float64).reshape(2, 3)
        matrix.setflags(write=False)
        return matrix

    @cached_property
    def numbers(self) -> tuple[float, float, float, float, float, float]:
        """The matrix, row by row. A single map's arithmetic costs numpy more than Python."""
        return tuple(self.matrix.ravel().tolist())  # type: ignore[return-value]

    @classmethod
    def identity(cls) -> Affine:
        """The map that changes nothing."""
        return cls(np.eye(2, 3))

    @classmethod
    def from_box(cls, box_xyxy: npt.ArrayLike, size_wh: tuple[int, int]) -> Affine:
        """The map that stretches a box of the source over a whole target canvas.

        Args:
            box_xyxy: (4,) x1, y1, x2, y2 in source pixels, continuous edges, of positive area.
            size_wh: width and height of the target canvas in pixels.

        Raises:
            ValueError: the box has no area.
        """
        x1, y1, x2, y2 = checked("box_xyxy", box_xyxy, (4,), np.float64).tolist()
        if not (x2 > x1 and y2 > y1):
            raise ValueError(f"a box of positive area is needed, got {[x1, y1, x2, y2]}")
        scale_x, scale_y = size_wh[0] / (x2 - x1), size_wh[1] / (y2 - y1)
        shift_x, shift_y = (0.5 - x1) * scale_x - 0.5, (0.5 - y1) * scale_y - 0.5
        return cls._of(scale_x, 0.0, shift_x, 0.0, scale_y, shift_y)

    @classmethod
    def rotation(cls, angle_deg: float, centre_xy: Sequence[float], scale: float = 1.0) -> Affine:
        """The map that turns and scales about a fixed point; positive angles look clockwise.

        Args:
            angle_deg: angle in degrees; y points down, so +90 moves a point right of the centre
                to below it.
            centre_xy: the point that stays where it is.
            scale: factor of all distances from the centre.
        """
        cos = scale * math.cos(math.radians(angle_deg))
        sin = scale * math.sin(math.radians(angle_deg))
        x, y = centre_xy
        return cls(
            np.array([[cos, -sin, x - cos * x + sin * y], [sin, cos, y - sin * x - cos * y]])
        )

    @classmethod
    def mirror(cls, width: int) -> Affine:
        """The map that exchanges left and right in an image `width` pixels wide."""
        return cls(np.array([[-1.0, 0.0, width - 1.0], [0.0, 1.0, 0.0]]))

    @property
    def _area_factor(self) -> float:
        """How many times as large an area becomes."""
        a, b, _, c, d, _ = self.numbers
        return abs(a * d - b * c)

    @cached_property
    def inverse(self) -> Affine:
        """The map back, from target to source.

        Raises:
            ValueError: the map flattens the plane and cannot be undone.
        """
        if self._area_factor < 1e-12:
            raise ValueError(f"this map has no inverse: {self.matrix.tolist()}")
        a, b, x, c, d, y = self.numbers
        if b == c == 0:  # upright
            across, down = 1 / a, 1 / d
            return Affine._of(across, 0.0, -across * x, 0.0, down, -down * y)
        back = np.linalg.inv(self.matrix[:, :2])
        return Affine(np.column_stack([back, -back @ self.matrix[:, 2]]))

    def then(self, after: Affine) -> Affine:
        """This map followed by `after`, as one map.

        >>> Affine.mirror(10).then(Affine.mirror(10)).apply([[3, 4]])
        array([[3., 4.]])
        """
        linear = after.matrix[:, :2] @ self.matrix[:, :2]
        shift = after.matrix[:, :2] @ self.matrix[:, 2] + after.matrix[:, 2]
        return Affine(np.column_stack([linear, shift]))

    def apply(self, points_xy: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Where points of the source lie in the target.

        Args:
            points_xy: (..., 2) x, y in source pixels; any number of leading axes, also zero points.

        Returns:
            (..., 2) float64 x, y in target pixels.
        """
        points = np.asarray(points_xy, dtype=np.float64)
        return points @ self.matrix[:, :2].T + self.matrix[:, 2]

    def warp(
        self,
        image: npt.NDArray[np.uint8],
        size_wh: tuple[int, int],
        *,
        fill: Sequence[int] = (0, 0, 0),
        antialias: bool = False,
        out: npt.NDArray[np.uint8] | None = None,
    ) -> npt.NDArray[np.uint8]:
        """The target image: bilinear samples of `image`, `fill` outside of it.

        Args:
            image: (H, W, C) uint8 source, in any colour order.
            size_wh: width and height of the target in pixels.
            fill: the colour outside the source, in the order of `image`'s channels.
            antialias: where the map shrinks by 2 or more, average blocks of source pixels first,
                so that a person of 2,000 pixels in a crop of 256 does not shimmer. Off, the result
                is what `cv2.resize` gives for an upright box, as both public CPN code bases do, but
                for the outermost pixels: there it blends in what lies beyond the box's edge.

            out: (h, w, C) uint8, contiguous, to be overwritten; None: a new array.

        Returns:
            (h, w, C) uint8; all `fill` where the target lies wholly outside the source.
        """
        width, height = size_wh
        if out is None:
            out = np.empty((height, width, image.shape[2]), np.uint8)
        plan = self.plan((image.shape[1], image.shape[0]), size_wh, antialias=antialias)
        if plan is None:
            out[:] = fill
            return out
        left, top, right, bottom = plan.window
        source = image[top:bottom, left:right]
        if plan.reduced_wh != (right - left, bottom - top):
            reduced = cv2.resize(source, plan.reduced_wh, interpolation=cv2.INTER_AREA)
            source = reduced.astype(np.uint8, copy=False)
        # OpenCV 5 takes twice as long for three channels as for four.
        in_colour = image.shape[2] == 3
        warped = cv2.warpAffine(
            cv2.cvtColor(source, cv2.COLOR_RGB2RGBA) if in_colour else source,
            plan.to_target.matrix,
            size_wh,
            dst=None if in_colour else out,
            flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_CONSTANT,
            borderValue=tuple(float(value) for value in fill),
        )
        if in_colour:
            cv2.cvtColor(warped, cv2.COLOR_RGBA2RGB, dst=out)
        return out

    def plan(
        self, source_wh: tuple[int, int], size_wh: tuple[int, int], *, antialias: bool = False
    ) -> WarpPlan | None:
        """How `warp` proceeds; None where the target lies wholly outside the source.

        Args:
            source_wh: width and height of the source in pixels.
            size_wh: width and height of the target in pixels.
            antialias: as in `warp`.
        """
        sides = self._source_sides(*source_wh, size_wh)
        if sides is None:
            return None
        shrink = 1
        if antialias:  # a hair more, lest a factor of 8 come out as 7.999…
            shrink = max(1, int(1.0 / max(math.sqrt(self._area_factor), 1e-6) + 1e-6))
        (left, right), (top, bottom) = (
            _in_blocks(*side, shrink, length) for side, length in zip(sides, source_wh, strict=True)
        )
        width, height = right - left, bottom - top
        reduced_wh = (max(1, width // shrink), max(1, height // shrink))
        across, down = width / reduced_wh[0], height / reduced_wh[1]
        # Where the reduced window's first pixel is.
        first_x, first_y = left + (across - 1) / 2, top + (down - 1) / 2
        a, b, x, c, d, y = self.numbers
        shift_x, shift_y = a * first_x + b * first_y + x, c * first_x + d * first_y + y
        to_target = Affine._of(a * across, b * down, shift_x, c * across, d * down, shift_y)
        return WarpPlan((left, top, right, bottom), reduced_wh, to_target)

    def _source_sides(
        self, width: int, height: int, size_wh: tuple[int, int]
    ) -> tuple[tuple[int, int], tuple[int, int]] | None:
        """The columns and rows of the source that the target shows, as (from, to); None if none.

        OpenCV cannot warp images of 32,768 pixels and more, and area averaging a whole photograph
        for one small person would be a waste.
        """
        right, bottom = size_wh[0] - 0.5, size_wh[1] - 0.5
        a, b, x, c, d, y = self.inverse.numbers
        if b == c == 0:  # upright
            columns = [a * -0.5 + x, a * right + x]
            rows = [d * -0.5 + y, d * bottom + y]
        else:
            corners = [(-0.5, -0.5), (right, -0.5), (-0.5, bottom), (right, bottom)]
            columns = [a * u + b * v + x for u, v in corners]
            rows = [c * u + d * v + y for u, v in corners]
        left, top = max(0, math.floor(min(columns)) - 1), max(0, math.floor(min(rows)) - 1)
        right_px = min(width, math.ceil(max(columns)) + 2)
        bottom_px = min(height, math.ceil(max(rows)) + 2)
        if left >= right_px or top >= bottom_px:
            return None
        return (left, right_px), (top, bottom_px)


def _in_blocks(begin: int, end: int, block: int, length: int) -> tuple[int, int]:
    """A stretch of a line, longer by what makes it whole blocks, where the line has room for that.

    OpenCV averages whole blocks of pixels ten times as fast as blocks of 2.004.
    """
    longer = -(-(end - begin) // block) * block
    if longer > length:
        return begin, end
    end = min(begin + longer, length)
    return end - longer, end


@dataclass(frozen=True, eq=False)
class WarpPlan:
    """The steps of a warp: cut a window out, average it down, take bilinear samples of it.

    Attributes:
        window: the part of the source that the target shows: left, top, right, bottom in pixels,
            right and bottom exclusive.
        reduced_wh: size that the window is averaged down to; its own where nothing is averaged.
        to_target: from the pixels of the reduced window to those of the target.
    """

    window: tuple[int, int, int, int]
    reduced_wh: tuple[int, int]
    to_target: Affine
