"""Windows: refused in a line where there can be none; otherwise frames, and three ways to end."""

from __future__ import annotations

import socket

import cv2
import numpy as np
import pytest

from posepipe.drawing import window
from posepipe.drawing.window import Window, check_window
from posepipe.errors import MissingDependencyError, OptionError

FRAME = np.full((60, 2560, 3), [10, 20, 30], np.uint8)


class Screen:
    """Stands in for OpenCV's windows: what is shown, and what somebody does."""

    def __init__(self):
        self.shown, self.sizes, self.key, self.visible, self.closed = [], [], -1, 1.0, []

    def install(self, monkeypatch):
        monkeypatch.setattr(window, "check_window", lambda: None)
        monkeypatch.setattr(cv2, "namedWindow", lambda *_: None)
        monkeypatch.setattr(cv2, "resizeWindow", lambda _, *size: self.sizes.append(size))
        monkeypatch.setattr(cv2, "imshow", lambda _, pixels: self.shown.append(pixels))
        monkeypatch.setattr(cv2, "waitKey", lambda _: self.key)
        monkeypatch.setattr(cv2, "getWindowProperty", lambda *_: self.visible)
        monkeypatch.setattr(cv2, "destroyWindow", self.closed.append)


@pytest.fixture
def screen(monkeypatch):
    screen = Screen()
    screen.install(monkeypatch)
    return screen


def test_frames_are_shown_in_their_colours_in_a_window_that_fits(screen):
    with Window("video") as window:
        for _ in range(2):
            window.show(FRAME)
    assert screen.sizes == [(1280, 30)]
    assert len(screen.shown) == 2
    assert screen.shown[0][0, 0].tolist() == [30, 20, 10]  # OpenCV wants BGR
    assert screen.closed == ["video"]


@pytest.mark.parametrize("key", [27, ord("q")])
def test_a_key_ends_it(screen, key):
    screen.key = key
    with Window("video") as window, pytest.raises(KeyboardInterrupt):
        window.show(FRAME)


def test_closing_the_window_ends_it(screen):
    with Window("video") as window:
        window.show(FRAME)
        screen.visible = 0.0
        with pytest.raises(KeyboardInterrupt):
            window.show(FRAME)
    assert screen.closed == []  # it is closed already


def test_an_opencv_without_windows_is_one_line(monkeypatch):
    monkeypatch.setattr("sys.platform", "darwin")
    monkeypatch.setattr(cv2, "getBuildInformation", lambda: "\n  GUI:                 NONE\n")
    with pytest.raises(MissingDependencyError, match=r"pip install .*opencv-python"):
        check_window()


@pytest.fixture
def with_windows(monkeypatch):
    monkeypatch.setattr(cv2, "getBuildInformation", lambda: "\n  GUI:                 QT5\n")
    monkeypatch.setattr("sys.platform", "linux")


@pytest.mark.parametrize(
    ("display", "message"),
    [
        ("", "no display"),
        ("nonsense", "no display"),
        (":9876", "the display :9876 does not answer"),
        ("127.0.0.1:1.0", "does not answer"),
    ],
)
def test_no_display_is_one_line(with_windows, monkeypatch, display, message):
    monkeypatch.setenv("DISPLAY", display)
    with pytest.raises(OptionError, match=message) as error:
        check_window()
    assert "--draw" in str(error.value)
    monkeypatch.delenv("DISPLAY")
    with pytest.raises(OptionError, match="no display"):
        check_window()


def test_a_display_that_answers_will_do(with_windows, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("DISPLAY", f"127.0.0.1:{server.getsockname()[1] - 6000}.0")
        check_window()
