"""Accuracy against latency as a picture: our rows beside the paper's, as in its Figure 2."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from dad_edge.bench import paper
from dad_edge.bench.case import UNTRAINED
from dad_edge.bench.table import configuration
from dad_edge.bundle import DENOISER, SEGMENTER
from dad_edge.image.pictures import (
    BLUE,
    GREEN,
    INK,
    LINE,
    MUTED,
    PAPER,
    RED,
    Colour,
    Picture,
    draw_text,
)

WIDTH, HEIGHT = 1240, 770
_LEFT, _RIGHT, _TOP, _BOTTOM = 92, 1200, 122, 660
_COLOURS: dict[str, Colour] = {"nano": BLUE, "edge": GREEN, "paper": RED}
_MARK = 7
_TEXT = 13
_PLACES = ((12, 5), (12, -14), (12, 24), (-12, 5), (-12, -14), (-12, 24), (12, -32), (12, 42))
"""Where a label may lie from its mark; a negative first number means to its left."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """One mark."""

    label: str
    latency_ms: float
    image_auroc: float
    """In percent."""
    colour: Colour
    measured: bool = True
    """Filled; the paper's are hollow."""


_Box = tuple[float, float, float, float]
Accuracies = Mapping[tuple[str, str, str], tuple[float, str]]
"""Digests of denoiser and segmenter, and precision → image AUROC in [0,1] and the data set."""


def accuracies_in(value: Any) -> Iterator[tuple[tuple[str, str, str], tuple[float, str]]]:
    """Every evaluation of a bundle that lies anywhere in decoded JSON.

    Args:
        value: a report of `dad-edge evaluate`, or a result that holds such reports.

    Yields:
        Entries of `Accuracies`.
    """
    if isinstance(value, list):
        for part in value:
            yield from accuracies_in(part)
    if not isinstance(value, dict):
        return
    summary, context = value.get("summary"), value.get("context")
    if isinstance(summary, dict) and isinstance(context, dict) and "bundle" in context:
        digests = context["bundle"]["sha256"]
        auroc, backend = summary.get("image_auroc"), context["backend"]
        precision = next((p for p in ("int8", "fp16", "fp32") if p in backend), "fp32")
        if auroc is not None:
            key = (digests[DENOISER], digests[SEGMENTER], precision)
            yield key, (float(auroc), str(context["data"]["name"]))
    for part in value.values():
        yield from accuracies_in(part)


def points_of(result: dict[str, Any], accuracies: Accuracies) -> tuple[list[Point], list[str]]:
    """The marks of a bench result, and why its other rows have none.

    Args:
        result: what `run_study` returned.
        accuracies: image AUROC of bundles.
    """
    points, left_out = [], []
    digests = result["bundle"]["sha256"]
    for row in result["rows"]:
        if (row["batch"], row["cameras"], row["decode"]) != (1, 1, False):
            continue
        if row["weights"] == UNTRAINED:
            left_out.append(f"{row['name']}: untrained, so it has no accuracy")
            continue
        key = (digests[DENOISER], digests[SEGMENTER], row["precision"])
        if key not in accuracies:
            left_out.append(
                f"{row['name']}: no evaluation of this bundle in {row['precision']} was given"
            )
            continue
        auroc, data = accuracies[key]
        points.append(
            Point(
                label=f"{row['size']} {configuration(row)}, {data}",
                latency_ms=row["latency_ms"]["p50"],
                image_auroc=100 * auroc,
                colour=_COLOURS[row["size"]],
            )
        )
    return points, left_out


def paper_points() -> list[Point]:
    """The rows that the paper reports, a frame's time from its frames per second."""
    seen = {}
    for row in paper.FPS_ROWS:
        steps = ", ".join(map(str, row.lambdas))
        name = f"{row.method}{f' lambda {steps}' if steps else ''}"
        seen[name] = Point(
            label=name,
            latency_ms=1e3 / row.fps,
            image_auroc=row.image_auroc,
            colour=MUTED,
            measured=False,
        )
    return list(seen.values())


def draw_plot(points: Sequence[Point], device: str) -> Picture:
    """Draw accuracy against latency.

    Args:
        points: ours and the paper's.
        device: where ours were measured.

    Returns:
        (HEIGHT, WIDTH, 3) uint8 BGR.
    """
    picture = np.full((HEIGHT, WIDTH, 3), PAPER, np.uint8)
    draw_text(picture, "Accuracy against latency", (_LEFT, 42), 22, INK, bold=True, room=WIDTH)
    ours = f"filled: measured on {device}, one frame at a time, frame in hand to verdict (median)"
    theirs = "hollow: the paper's figures on VisA, four data sets for norm-guided; it does not name"
    draw_text(picture, ours, (_LEFT, 64), _TEXT, MUTED, room=WIDTH)
    draw_text(picture, f"{theirs} its GPU", (_LEFT, 82), _TEXT, MUTED, room=WIDTH)
    to_x, to_y = _axes(picture, points)
    taken: list[_Box] = []
    for point in points:
        x, y = to_x(point.latency_ms), to_y(point.image_auroc)
        taken.append((x - _MARK, y - _MARK, x + _MARK, y + _MARK))
    for point in sorted(points, key=lambda point: not point.measured):
        x, y = to_x(point.latency_ms), to_y(point.image_auroc)
        centre = (round(x), round(y))
        cv2.circle(picture, centre, _MARK, point.colour, -1, cv2.LINE_AA)
        if not point.measured:
            cv2.circle(picture, centre, _MARK - 3, PAPER, -1, cv2.LINE_AA)
        _label(picture, point, x, y, taken)
    return picture


def _axes(picture: Picture, points: Sequence[Point]) -> tuple[Any, Any]:
    """Draw grid and numbers; returns the places of a latency and of an AUROC."""
    latencies = [point.latency_ms for point in points]
    low = math.log10(min(latencies)) - 0.15
    high = math.log10(max(latencies)) + 0.55
    worst = min(point.image_auroc for point in points)
    bottom, top = math.floor(worst / 5) * 5.0, 100.5

    def to_x(ms: float) -> float:
        return _LEFT + (math.log10(ms) - low) / (high - low) * (_RIGHT - _LEFT)

    def to_y(auroc: float) -> float:
        return _BOTTOM - (auroc - bottom) / (top - bottom) * (_BOTTOM - _TOP)

    for power in range(-2, 6):
        for digit in (1, 2, 5):
            ms = digit * 10.0**power
            if low <= math.log10(ms) <= high:
                x = round(to_x(ms))
                cv2.line(picture, (x, _TOP), (x, _BOTTOM), LINE, 1)
                draw_text(picture, f"{ms:g}", (x - 4 * len(f"{ms:g}"), _BOTTOM + 22), _TEXT, INK)
                fps = f"{1e3 / ms:.3g}"
                draw_text(picture, fps, (x - 4 * len(fps), _BOTTOM + 62), _TEXT, MUTED)
    for tick in np.arange(bottom, 100.1, 5 if top - bottom > 12 else 1):
        y = round(to_y(float(tick)))
        cv2.line(picture, (_LEFT, y), (_RIGHT, y), LINE, 1)
        draw_text(picture, f"{tick:.0f}", (_LEFT - 34, y + 5), _TEXT, INK)
    room = _RIGHT - _LEFT
    middle = (_LEFT + _RIGHT) // 2 - 90
    draw_text(picture, "milliseconds a frame (log)", (middle, _BOTTOM + 42), _TEXT, INK, room=room)
    draw_text(picture, "frames/s, one at a time", (middle, _BOTTOM + 82), _TEXT, MUTED, room=room)
    draw_text(picture, "image AUROC, %", (12, _TOP - 14), _TEXT, INK)
    return to_x, to_y


def _label(picture: Picture, point: Point, x: float, y: float, taken: list[_Box]) -> None:
    """Write a mark's label where it hides nothing, if there is such a place.

    A line leads to the mark where the label does not lie beside it.
    """
    scratch = np.zeros((64, WIDTH, 3), np.uint8)
    width = draw_text(scratch, point.label, (0, 40), _TEXT, INK, room=WIDTH)
    boxes: list[_Box] = []
    for right, down in _PLACES:
        left = x + right if right > 0 else x + right - width
        boxes.append((left, y + down - _TEXT, left + width, y + down + 4))
    inside = [box for box in boxes if box[0] >= _LEFT and box[2] <= WIDTH - 8]
    free = [box for box in inside if not any(_meet(box, other) for other in taken)]
    box = (free or inside or boxes)[0]
    taken.append(box)
    near = min(max(x, box[0]), box[2]), min(max(y, box[1]), box[3])
    if math.dist(near, (x, y)) > 2 * _MARK:
        start, end = (round(x), round(y)), (round(near[0]), round(near[1]))
        cv2.line(picture, start, end, point.colour, 1, cv2.LINE_AA)
    origin = (round(box[0]), round(box[3]) - 4)
    draw_text(picture, point.label, origin, _TEXT, point.colour, room=WIDTH)


def _meet(one: _Box, other: _Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
