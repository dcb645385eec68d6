"""Scores and thresholds as texts that agree with the verdict."""

from __future__ import annotations

_MOST_PLACES = 17
"""Decimal places after which the text of a score in [0,1] is the score itself."""


def score_text(score: float, threshold: float, places: int) -> str:
    """A score with `places` decimal places, and with more where rounding would cross the threshold.

    Whoever reads the text and compares it with the threshold comes to the verdict that was given:
    a score of 0.13868555 beside a threshold of 0.13868559 is not written as 0.138686.

    Args:
        score: in [0,1], or not a finite number.
        threshold: scores above it are rejected.
        places: as many as are wanted.
    """
    for count in range(places, _MOST_PLACES):
        text = f"{score:.{count}f}"
        if (float(text) > threshold) == (score > threshold):
            return text
    return repr(score)


def side_by_side(score: float, threshold: float, places: int) -> tuple[str, str]:
    """Score and threshold with `places` decimal places, or with as many as tell them apart.

    Args:
        score: in [0,1], or not a finite number.
        threshold: scores above it are rejected.
        places: as many as are wanted.
    """
    for count in range(places, _MOST_PLACES):
        texts = f"{score:.{count}f}", f"{threshold:.{count}f}"
        if (float(texts[0]) > float(texts[1])) == (score > threshold):
            return texts
    return repr(score), repr(threshold)


def threshold_text(threshold: float) -> str:
    """A threshold with all digits that can decide: a score, a 32-bit number, has nine."""
    return f"{threshold:.9g}"
