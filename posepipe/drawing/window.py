"""A window that shows frames as they come, where there is a display and an OpenCV with windows."""

from __future__ import annotations

import os
import re
import socket
import sys
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np
import numpy.typing as npt

from posepipe.errors import MissingDependencyError, OptionError

MOST_PIXELS_WIDE = 1280
_QUIT = (27, ord("q"))  # Escape
_SECONDS = 2.0  # that a display may take to answer


def check_window() -> None:
    """Check that a window can be opened.

    Raises:
        OptionError: there is no display, or none that answers.
        MissingDependencyError: OpenCV has no windows, as `opencv-python-headless` has none.
    """
    if sys.platform == "linux":  # elsewhere there is no telling
        _check_display(os.environ.get("DISPLAY", ""))
    if re.search(r"^ *GUI: *NONE", cv2.getBuildInformation(), re.MULTILINE):
        raise MissingDependencyError(
            "this OpenCV opens no windows: pip install --force-reinstall --no-deps opencv-python "
            "puts one that does in its place; or draw a video with --draw"
        )


def _check_display(display: str) -> None:
    """Raise unless an X server answers: without, OpenCV's windows would end the process."""
    instead = "draw a video with --draw instead"
    found = re.fullmatch(r"(.*):(\d+)(\.\d+)?", display)
    if found is None:
        raise OptionError(f"there is no display for a window here, DISPLAY is not set: {instead}")
    host, number = found[1].removeprefix("unix"), int(found[2])
    try:
        if host or not Path(f"/tmp/.X11-unix/X{number}").exists():  # noqa: S108  # X11's place
            socket.create_connection((host or "127.0.0.1", 6000 + number), _SECONDS).close()
    except OSError:
        raise OptionError(f"the display {display} does not answer: {instead}") from None


class Window:
    """A window that can be made larger and smaller; use it in a ``with`` block.

    Args:
        title: of the window.

    Raises:
        PosepipeError: see `check_window`.
    """

    def __init__(self, title: str) -> None:
        check_window()
        self._title = title
        self._is_open = False

    def show(self, pixels: npt.NDArray[np.uint8]) -> None:
        """Show a frame.

        Args:
            pixels: (H, W, 3) uint8 RGB.

        Raises:
            KeyboardInterrupt: somebody pressed q or Escape, or closed the window.
        """
        if not self._is_open:
            self._open(pixels.shape[1], pixels.shape[0])
        elif cv2.getWindowProperty(self._title, cv2.WND_PROP_VISIBLE) < 1:
            raise KeyboardInterrupt
        cv2.imshow(self._title, cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
        if cv2.waitKey(1) & 0xFF in _QUIT:
            raise KeyboardInterrupt

    def _open(self, width: int, height: int) -> None:
        cv2.namedWindow(self._title, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO)
        share = min(1.0, MOST_PIXELS_WIDE / width)
        cv2.resizeWindow(self._title, round(share * width), round(share * height))
        self._is_open = True

    def __enter__(self) -> Window:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._is_open and cv2.getWindowProperty(self._title, cv2.WND_PROP_VISIBLE) >= 1:
            cv2.destroyWindow(self._title)
