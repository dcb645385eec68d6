"""An alarm when the scores of accepted parts move against calibration.

The calibration left quantiles of the scores of n good parts. If nothing changed, the number of w
new scores that lie below one of them follows a beta-binomial distribution, whatever the scores are
distributed like: the share of parts below the r-th smallest of n scores is Beta(r, n + 1 - r). A
window of w accepted parts is compared at every quantile on both sides. The probabilities are
corrected for their number (Bonferroni), so that a window of unchanged parts raises the alarm with
at most the probability that was asked for, on average over calibrations. The distribution is that
of SciPy.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dad_edge.bundle import Thresholds
from dad_edge.errors import require

FEWEST_PARTS = 20
"""A calibration on fewer parts says too little."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What a window of accepted parts showed."""

    alarm: bool
    probability: float
    """Of a window that differs at least as much where nothing changed, corrected."""
    message: str
    """In words."""


class DriftWatch:
    """Watches the scores of accepted parts of one camera, window by window."""

    def __init__(self, false_alarms: float, parts: int) -> None:
        """
        Args:
            false_alarms: largest probability that a window of unchanged parts raises the alarm.
            parts: accepted parts in a window.

        Raises:
            MissingDependency: SciPy is not installed.
        """
        stats = require("scipy.stats", "line", "watch for drift")
        self._betabinom = stats.betabinom
        self._false_alarms = false_alarms
        self._parts = parts
        self._scores: list[float] = []

    def next(self, score: float, thresholds: Thresholds, threshold: float) -> Finding | None:
        """Take the score of an accepted part; what the window shows once it is full.

        Args:
            score: at most `threshold`.
            thresholds: what was calibrated.
            threshold: that accepts parts; the calibration is looked at only up to it.
        """
        self._scores.append(score)
        if len(self._scores) < self._parts:
            return None
        scores, self._scores = np.array(self._scores), []
        return self._compare(scores, thresholds, threshold)

    def forget(self) -> None:
        """Begin a new window, as after a change of the threshold."""
        self._scores = []

    def _compare(
        self, scores: NDArray[np.float64], thresholds: Thresholds, threshold: float
    ) -> Finding | None:
        n = thresholds.normal_images
        shares, values = _quantiles(thresholds)
        below = values < threshold
        if n < FEWEST_PARTS or not below.any():
            return None
        accepted = float(np.interp(threshold, values, shares)) if threshold < values[-1] else 1.0
        # Of the n parts, those above the threshold are left out, as they are on the line.
        kept = max(1.0, accepted * n)
        smallest, at, high = 1.0, 0, True
        places = np.flatnonzero(below)
        for place in places:
            rank = min(shares[place] * (n - 1) + 1, kept)
            count = int((scores <= values[place]).sum())
            law = self._betabinom(len(scores), rank, kept + 1 - rank)
            fewer, more = float(law.cdf(count)), float(law.sf(count - 1))
            if min(fewer, more) < smallest:
                smallest, at, high = min(fewer, more), int(place), fewer < more
        probability = min(1.0, smallest * 2 * len(places))
        share = float((scores <= values[at]).mean())
        expected = min(1.0, shares[at] / accepted)
        return Finding(
            probability < self._false_alarms,
            probability,
            f"scores of accepted parts moved {'up' if high else 'down'}: {share:.0%} of the latest "
            f"{len(scores)} lie below {values[at]:.3g}, of the calibration it was {expected:.0%}",
        )


def _quantiles(thresholds: Thresholds) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Shares and the scores at them, ascending."""
    pairs = sorted((float(q), score) for q, score in thresholds.normal_score_quantiles.items())
    return np.array([q for q, _ in pairs]), np.array([score for _, score in pairs])


@dataclass(slots=True)
class DriftAlarm:
    """The alarm of one camera: it is raised once, and ends with the first window without it."""

    watch: DriftWatch
    tell: Callable[[str, Finding], None]
    """Told when the alarm is raised and when it ends."""
    message: str = ""
    """What the alarm says; empty where it is silent."""

    def next(self, score: float, thresholds: Thresholds, threshold: float) -> None:
        """Take the score of an accepted part."""
        finding = self.watch.next(score, thresholds, threshold)
        if finding is None:
            return
        if finding.alarm:
            raised, self.message = not self.message, finding.message
            if raised:
                self.tell(finding.message, finding)
        elif self.message:
            self.message = ""
            self.tell("scores of accepted parts are as in calibration again", finding)
