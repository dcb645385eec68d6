"""Cost against what is varied: a straight line, or the reason why there is none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from dad_edge.bench.measure import rounded
from dad_edge.bench.result import Row, Sweep, SweepPoint

STRAIGHT = 0.99
"""Smallest R² that is called a straight line."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """A straight line through points."""

    slope: float
    intercept: float
    r2: float

    def at(self, x: float) -> float:
        """Its height at a place."""
        return self.slope * x + self.intercept


def fit_sweep(axis: str, places: Sequence[tuple[float, Row]], missing: Sequence[str]) -> Sweep:
    """Fit a line through the median times of the rows of one sweep.

    Args:
        axis: what is varied.
        places: place on the axis and the row that was measured there.
        missing: names of rows that were not measured.
    """
    points = tuple(
        SweepPoint(x=x, ms=row.latency_ms.p50, fps=row.fps, gflop=row.gflop, name=row.name)
        for x, row in places
    )
    sweep = Sweep(axis=axis, points=points, missing=tuple(missing))
    if len(points) < 3:
        return replace(sweep, reason=f"{len(points)} points do not tell a line from a curve")
    line = fit_line([point.x for point in points], [point.ms for point in points])
    straight = line.r2 >= STRAIGHT
    return replace(
        sweep,
        slope_ms=line.slope,
        intercept_ms=line.intercept,
        r2=line.r2,
        straight=straight,
        reason=None if straight else _why(places, line),
    )


def fit_line(x: Sequence[float], y: Sequence[float]) -> Line:
    """Least squares of y over x."""
    slope, intercept = np.polyfit(x, y, 1)
    left = np.asarray(y) - (slope * np.asarray(x) + intercept)
    spread = float(((np.asarray(y) - np.mean(y)) ** 2).sum())
    return Line(
        slope=rounded(float(slope)),
        intercept=rounded(float(intercept)),
        r2=rounded(1 - float((left**2).sum()) / spread if spread else 1.0),
    )


def _why(places: Sequence[tuple[float, Row]], line: Line) -> str:
    """Why these rows do not lie on their line."""
    if shaky := sum(row.unstable is not None for _, row in places):
        return f"{shaky} of {len(places)} points are not steady"
    times_ms = [row.latency_ms.p50 for _, row in places]
    offsets = [row.latency_ms.p50 - line.at(x) for x, row in places]
    worst = int(np.argmax(np.abs(offsets)))
    said = (
        f"at {places[worst][0]:g} it takes {abs(offsets[worst]) / times_ms[worst]:.0%} "
        f"{'more' if offsets[worst] > 0 else 'less'} than the line"
    )
    gflop = [(row.gflop or 0) * row.frames_a_call for _, row in places]
    if min(gflop) <= 0:
        return said
    if fit_line(gflop, times_ms).r2 >= STRAIGHT:
        return f"{said}; the time follows the arithmetic, which is itself no straight line"
    rates = [work / ms for work, ms in zip(gflop, times_ms, strict=True)]
    return (
        f"{said}; the rate changes from {rates[0] * 1e3:.0f} to {rates[-1] * 1e3:.0f} GFLOP/s "
        "along the way"
    )
