"""Where a box will be: a Kalman filter of constant velocity over centre, width and height.

As in SORT (Bewley et al. 2016) and its followers, noise is proportional to the box's height; as
frames may come at any time, it grows with the seconds between them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

# Standard deviations as shares of the box's height: of a measurement (px), and of what velocity
# gains in a second (px/s).
_MEASURED = 0.05
_FIRST_VELOCITY = 1.0
_VELOCITY_PER_SECOND = 1.5
_LEAST_SIDE = 1.0


@dataclass(frozen=True, eq=False)
class Motion:
    """What is known about a moving box.

    Attributes:
        mean: (8,) centre x and y, width, height in pixels, then how fast each of them changes, in
            pixels a second.
        covariance: (8, 8) of it.
    """

    mean: FloatArray
    covariance: FloatArray

    @classmethod
    def seen(cls, box_xyxy: npt.ArrayLike) -> Motion:
        """A box that is seen for the first time: it stands still, as far as is known."""
        measured = _centre_and_size(box_xyxy)
        height = measured[3]
        deviation = np.repeat([_MEASURED * height, _FIRST_VELOCITY * height], 4)
        return cls(np.concatenate([measured, np.zeros(4)]), np.diag(deviation**2))

    @property
    def box_xyxy(self) -> FloatArray:
        """(4,) where the box is, in pixels; at least a pixel wide and high."""
        half = np.maximum(self.mean[2:4], _LEAST_SIDE) / 2
        return np.concatenate([self.mean[:2] - half, self.mean[:2] + half])

    def after(self, seconds: float) -> Motion:
        """The box some seconds later, if it moves on as it did."""
        step = np.eye(8)
        step[:4, 4:] = seconds * np.eye(4)
        # Velocity wanders: white noise of acceleration, integrated over the time.
        strength = (_VELOCITY_PER_SECOND * max(self.mean[3], _LEAST_SIDE)) ** 2
        noise = np.zeros((8, 8))
        noise[:4, :4] = seconds**3 / 3 * np.eye(4)
        noise[:4, 4:] = noise[4:, :4] = seconds**2 / 2 * np.eye(4)
        noise[4:, 4:] = seconds * np.eye(4)
        return Motion(step @ self.mean, step @ self.covariance @ step.T + strength * noise)

    def corrected(self, box_xyxy: npt.ArrayLike) -> Motion:
        """What is known once the box has been seen here."""
        measured = _centre_and_size(box_xyxy)
        noise = (_MEASURED * measured[3]) ** 2 * np.eye(4)
        gain = np.linalg.solve(self.covariance[:4, :4] + noise, self.covariance[:4]).T
        mean = self.mean + gain @ (measured - self.mean[:4])
        covariance = self.covariance - gain @ self.covariance[:4]
        return Motion(mean, (covariance + covariance.T) / 2)


def _centre_and_size(box_xyxy: npt.ArrayLike) -> FloatArray:
    low, high = np.asarray(box_xyxy, np.float64).reshape(2, 2)
    return np.concatenate([(low + high) / 2, np.maximum(high - low, _LEAST_SIDE)])
