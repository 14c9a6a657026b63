"""The one place where array shapes are checked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt


def checked(
    name: str, values: npt.ArrayLike, shape: Sequence[int | str], dtype: npt.DTypeLike
) -> npt.NDArray[Any]:
    """A read-only copy of `values` as `dtype`, after comparing its shape with `shape`.

    Integers in `shape` must match exactly; letters stand for any length. An empty sequence is
    taken as zero rows of whatever the remaining integers say, so ``[]`` is a legal ``(N, 4)``.
    A floating-point result must be finite.

    >>> checked("boxes_xyxy", [[0, 0, 2, 3]], ("N", 4), np.float32).shape
    (1, 4)
    >>> checked("boxes_xyxy", [], ("N", 4), np.float32).shape
    (0, 4)

    Raises:
        ValueError: wrong number of axes, a wrong length, or a value that is not finite.
    """
    array = np.array(values, dtype=dtype)
    no_rows = [0 if isinstance(length, str) else length for length in shape]
    if array.size == 0 and array.ndim < len(shape) and 0 in no_rows:
        array = array.reshape(no_rows)
    fits = array.ndim == len(shape) and all(
        isinstance(wanted, str) or wanted == length
        for wanted, length in zip(shape, array.shape, strict=True)
    )
    if not fits:
        wanted_text = ", ".join(map(str, shape))
        raise ValueError(f"{name} must have shape ({wanted_text}), got {array.shape}")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite, got NaN or infinity")
    array.setflags(write=False)
    return array


def check_same_length(**arrays: npt.NDArray[Any]) -> None:
    """Check that all arrays have equally many rows.

    Raises:
        ValueError: the lengths differ; the message lists them.
    """
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"{name}: {length}" for name, length in lengths.items())
        raise ValueError(f"lengths differ ({listed})")
