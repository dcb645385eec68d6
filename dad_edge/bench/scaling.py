"""Cost against what is varied: a straight line, or the reason why it is none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from dad_edge.bench.measure import rounded

STRAIGHT = 0.99
"""Smallest R² that is called a straight line."""


def fit_sweep(
    axis: str, places: Sequence[tuple[float, dict[str, Any]]], missing: Sequence[str]
) -> dict[str, Any]:
    """Fit a line through the median times of the rows of one sweep.

    Args:
        axis: what is varied.
        places: place on the axis and the row that was measured there.
        missing: names of rows that were not measured.

    Returns:
        Plain values for JSON: the points, slope and intercept in milliseconds, R², whether that is
        a straight line, and the reason where it is none.
    """
    x = [place for place, _ in places]
    y = [float(row["latency_ms"]["p50"]) for _, row in places]
    found: dict[str, Any] = {
        "axis": axis,
        "points": [
            {"x": at, "ms": ms, "fps": row["fps"], "gflop": row["gflop"], "name": row["name"]}
            for at, ms, (_, row) in zip(x, y, places, strict=True)
        ],
        "missing": list(missing),
        "slope_ms": None,
        "intercept_ms": None,
        "r2": None,
        "straight": None,
        "reason": None,
    }
    if len(x) < 3:
        return found | {"reason": f"{len(x)} points do not tell a line from a curve"}
    line = fit_line(x, y)
    shaky = [row["name"] for _, row in places if row["unstable"]]
    straight = line["r2"] >= STRAIGHT
    return (
        found
        | line
        | {
            "straight": straight,
            "reason": None if straight else _why(x, y, places, line, shaky),
        }
    )


def fit_line(x: Sequence[float], y: Sequence[float]) -> dict[str, float]:
    """Least squares: slope, intercept and R² of y over x."""
    slope, intercept = np.polyfit(x, y, 1)
    left = np.asarray(y) - (slope * np.asarray(x) + intercept)
    spread = float(((np.asarray(y) - np.mean(y)) ** 2).sum())
    return {
        "slope_ms": rounded(float(slope)) or 0.0,
        "intercept_ms": rounded(float(intercept)) or 0.0,
        "r2": rounded(1 - float((left**2).sum()) / spread if spread else 1.0) or 0.0,
    }


def _why(
    x: Sequence[float],
    y: Sequence[float],
    places: Sequence[tuple[float, dict[str, Any]]],
    line: dict[str, float],
    shaky: Sequence[str],
) -> str:
    if shaky:
        return f"{len(shaky)} of {len(x)} points are not steady"
    offsets = [ms - (line["slope_ms"] * at + line["intercept_ms"]) for at, ms in zip(x, y)]  # noqa: B905
    worst = int(np.argmax(np.abs(offsets)))
    said = (
        f"at {x[worst]:g} it takes {abs(offsets[worst]) / y[worst]:.0%} "
        f"{'more' if offsets[worst] > 0 else 'less'} than the line"
    )
    frames = [row["batch"] * row["cameras"] for _, row in places]
    gflop = [(row["gflop"] or 0) * n for n, (_, row) in zip(frames, places, strict=True)]
    if min(gflop) > 0 and fit_line(gflop, y)["r2"] >= STRAIGHT:
        return f"{said}; the time follows the arithmetic, which is itself no straight line"
    if min(gflop) > 0:
        rates = [work / ms for work, ms in zip(gflop, y, strict=True)]
        return (
            f"{said}; the rate changes from {rates[0] * 1e3:.0f} to {rates[-1] * 1e3:.0f} GFLOP/s "
            "along the way"
        )
    return said
