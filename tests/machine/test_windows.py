from __future__ import annotations

import cv2
import pytest

from dad_edge.machine.windows import window_toolkit


@pytest.mark.parametrize(
    ("line", "toolkit"),
    [("  GUI:                           QT5", "QT5"), ("  GUI:     NONE", None), ("", None)],
)
def test_the_toolkit_is_read_from_how_opencv_was_built(
    monkeypatch: pytest.MonkeyPatch, line: str, toolkit: str | None
) -> None:
    text = f"General configuration for OpenCV\n{line}\n    QT:   YES (ver 5.15.18)\n"
    monkeypatch.setattr(cv2, "getBuildInformation", lambda: text)
    assert window_toolkit() == toolkit
