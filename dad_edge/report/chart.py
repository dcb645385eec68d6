"""The score histogram of a test set, as inline SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_WIDTH, _PANEL, _TOP, _BETWEEN = 1016, 96, 30, 14
_LEFT, _RIGHT = 116, 992
_BINS = 72
_REACH = 6.0
_TICKS = (0.000001, 0.00001, 0.0001, 0.001, 0.01, 0.1, 0.5, 0.9, 0.99, 0.999, 0.9999, 0.99999)


def score_histogram(good: Sequence[float], defect: Sequence[float], threshold: float) -> str:
    """Draw how good and defective parts score, one panel each, with a bin edge at the threshold.

    The axis is the log odds of the score, because sigmoid scores crowd at 0 and 1; scores within
    one millionth of either end are drawn at that end.

    Args:
        good: image scores of good parts, in [0,1].
        defect: image scores of defective parts, in [0,1].
        threshold: image threshold, in [0,1].

    Returns:
        One ``<svg>`` element.
    """
    places = _log_odds([*good, *defect, threshold])
    start, end = math.floor(places.min() - 0.15), math.ceil(places.max() + 0.15)
    width = (end - start) / _BINS
    below = math.ceil((places[-1] - start) / width)
    edges = places[-1] + width * np.arange(-below, _BINS + 2 - below)
    low, high = float(edges[0]), float(edges[-1])

    def x_of(place: float) -> float:
        return _LEFT + (place - low) / (high - low) * (_RIGHT - _LEFT)

    bottom = _TOP + 2 * _PANEL + _BETWEEN
    line_x = x_of(float(places[-1]))
    parts = [
        f'<svg viewBox="0 0 {_WIDTH} {bottom + 44}" role="img" '
        f'aria-label="Histogram of image scores of good and defective parts">',
        f'<rect x="{line_x:.1f}" y="{_TOP}" width="{_RIGHT - line_x:.1f}" '
        f'height="{bottom - _TOP}" fill="#fef2f2"/>',
    ]
    for row, (name, scores, colour) in enumerate(
        (("Good", good, "#15803d"), ("Defective", defect, "#b91c1c"))
    ):
        base = _TOP + _PANEL + row * (_PANEL + _BETWEEN)
        # Mirrored, so that a bin holds its upper edge: a score at the threshold is not rejected.
        counts = np.histogram(-_log_odds(scores), bins=-edges[::-1])[0][::-1]
        parts.append(_bars(counts, [x_of(float(edge)) for edge in edges], base, colour))
        parts.append(
            f'<line x1="{_LEFT}" x2="{_RIGHT}" y1="{base}" y2="{base}" stroke="#cbd5e1"/>'
            f'<text x="0" y="{base - _PANEL / 2}" style="fill:#0f172a;font-weight:600">'
            f"{name}</text>"
            f'<text x="0" y="{base - _PANEL / 2 + 17}">{len(scores)} parts</text>'
            f'<text x="{_LEFT - 8}" y="{base - _PANEL + 10}" text-anchor="end">'
            f"{int(counts.max())}</text>"
        )
    for tick in _TICKS:
        place = float(_log_odds([tick])[0])
        if low <= place <= high:
            parts.append(
                f'<text x="{x_of(place):.1f}" y="{bottom + 18}" text-anchor="middle">'
                f"{tick:g}</text>"
            )
    anchor, shift = ("end", -6) if line_x > _WIDTH * 0.7 else ("start", 6)
    parts.append(
        f'<line x1="{line_x:.1f}" x2="{line_x:.1f}" y1="12" y2="{bottom}" '
        f'stroke="#0f172a" stroke-width="1.5" stroke-dasharray="4 3"/>'
        f'<text x="{line_x + shift:.1f}" y="20" text-anchor="{anchor}" style="fill:#0f172a">'
        f"threshold {threshold:.4g}: rejected to the right</text>"
        f'<text x="{(_LEFT + _RIGHT) / 2}" y="{bottom + 38}" text-anchor="middle">'
        "image score (log-odds axis)</text></svg>"
    )
    return "".join(parts)


def _bars(counts: NDArray[np.int64], edges: Sequence[float], base: float, colour: str) -> str:
    unit = (_PANEL - 12) / max(int(counts.max()), 1)
    return "".join(
        f'<rect x="{edges[i] + 0.75:.1f}" y="{base - count * unit:.1f}" '
        f'width="{edges[i + 1] - edges[i] - 1.5:.1f}" height="{count * unit:.1f}" fill="{colour}"/>'
        for i, count in enumerate(counts.tolist())
        if count
    )


def _log_odds(scores: Sequence[float]) -> NDArray[np.float64]:
    inside = np.clip(np.asarray(scores, dtype=np.float64), 10**-_REACH, 1 - 10**-_REACH)
    return np.log10(inside / (1 - inside))
