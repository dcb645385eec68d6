"""One inspected frame as a picture for people: outline, heat map and verdict side by side."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from dad_edge.image.pictures import (
    GREEN,
    INK,
    MUTED,
    PAPER,
    RED,
    Colour,
    Picture,
    draw_badge,
    draw_text,
    heat_overlay,
)
from dad_edge.scores import side_by_side
from dad_edge.stream.results import Result

_PANEL_HEIGHT = 384
_PANEL_WIDTHS = (384, 768)
_BANNER = 56
_GAP = 8
_OUTLINE: Colour = (0, 0, 255)


class Annotator:
    """Draws frames of any size into pictures of one size, which the first frame decides."""

    def __init__(self, threshold: float, pixel_threshold: float) -> None:
        self._threshold = threshold
        self._pixel_threshold = pixel_threshold
        self._panel: tuple[int, int] | None = None

    def draw(self, result: Result) -> Picture:
        """(H,W,3) uint8 BGR with even sides: the outlined frame and the heat map under a banner."""
        frame, inspection = result.frame, result.inspection
        self._panel = self._panel or _panel_size(frame.image)
        width, height = self._panel
        canvas = np.full((_BANNER + height, 2 * width + _GAP, 3), 255, np.uint8)
        picture = _fit(frame.image, self._panel)
        score_map = inspection.score_map
        views = (
            outline(picture, score_map, self._pixel_threshold),
            heat_overlay(picture, inspection.heat),
        )
        for number, view in enumerate(views):
            y = _BANNER + (height - view.shape[0]) // 2
            x = number * (width + _GAP) + (width - view.shape[1]) // 2
            canvas[y : y + view.shape[0], x : x + view.shape[1]] = view
        self._draw_banner(canvas, result)
        return canvas

    def _draw_banner(self, canvas: Picture, result: Result) -> None:
        inspection, frame = result.inspection, result.frame
        good = inspection.verdict == "good"
        cv2.rectangle(canvas, (0, 0), (7, _BANNER - 1), GREEN if good else RED, -1)
        draw_badge(canvas, not good, (20, 15))
        room = canvas.shape[1] // 2 - 136
        draw_text(canvas, frame.name, (124, 25), 15, INK, bold=True, room=room)
        score, threshold = side_by_side(inspection.score, self._threshold, 3)
        detail = f"score {score}, rejected above {threshold}"
        if inspection.reason is not None:
            detail = inspection.reason
        draw_text(canvas, detail, (124, 45), 12, MUTED, room=room)
        x = canvas.shape[1] // 2 + _GAP
        draw_text(canvas, "Heat map", (x, 25), 15, INK, bold=True)
        timing = f"{result.latency_ms:.0f} ms"
        truth = f"{timing}, truth: {frame.kind.replace('_', ' ')}" if frame.kind else timing
        draw_text(canvas, truth, (x, 45), 12, MUTED)


def outline(picture: Picture, score_map: NDArray[np.float32], threshold: float) -> Picture:
    """Outline the pixels whose score is above a threshold.

    Args:
        picture: (H,W,3) uint8 BGR.
        score_map: (S,S) float32 in [0,1]; resized to the picture. What is not a number counts
            as above.
        threshold: pixels with scores above it are outlined.

    Returns:
        (H,W,3) uint8 BGR, a new picture.
    """
    height, width = picture.shape[:2]
    scores = cv2.resize(
        np.nan_to_num(score_map, nan=1.0), (width, height), interpolation=cv2.INTER_LINEAR
    )
    marked = picture.copy()
    contours, _ = cv2.findContours(
        (scores > threshold).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE
    )
    cv2.drawContours(marked, contours, -1, PAPER, 4, cv2.LINE_AA)
    cv2.drawContours(marked, contours, -1, _OUTLINE, 2, cv2.LINE_AA)
    return marked


def _panel_size(image: Picture) -> tuple[int, int]:
    """Width and height of one panel: the frame's shape within limits, even numbers."""
    width = round(_PANEL_HEIGHT * image.shape[1] / image.shape[0])
    width = min(max(width, _PANEL_WIDTHS[0]), _PANEL_WIDTHS[1])
    return width + width % 2, _PANEL_HEIGHT


def _fit(image: Picture, panel: tuple[int, int]) -> Picture:
    """The frame as large as fits into a panel, in its own shape."""
    scale = min(panel[0] / image.shape[1], panel[1] / image.shape[0])
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, size, interpolation=method), np.uint8)
