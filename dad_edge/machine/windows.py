"""Whether the installed OpenCV can open windows, and how to install one that can."""

from __future__ import annotations

import importlib
import re
from typing import Any

INSTALL = "pip install 'dad-edge[window]' && pip install --force-reinstall --no-deps opencv-python"
"""Puts the OpenCV that has windows over the one that has none; both own the module `cv2`."""


def window_toolkit() -> str | None:
    """Name of the toolkit that OpenCV opens windows with; None where it was built without one."""
    cv2: Any = importlib.import_module("cv2")
    match = re.search(r"^\s*GUI:\s*(\S+)", cv2.getBuildInformation(), re.MULTILINE)
    return match.group(1) if match and match.group(1) != "NONE" else None
