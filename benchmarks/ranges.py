"""Three ways to read an activation range from a histogram; the product takes `min-max`.

Histograms have a fixed number of bins, so memory does not grow with the number of images. Their bin
edges do not depend on what came first, so the order of the images does not matter.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dad_edge.deploy.ranges import MinMax

RangeMethod = Literal["min-max", "percentile", "entropy"]

BINS = 4096
LEVELS = 128
"""Magnitudes that symmetric INT8 tells apart: 0..127."""
PERCENTILE = 99.99
"""Share of the magnitudes, in percent, that the method `percentile` does not clip."""
_ENTROPY_STEP = 16


class Histogram(MinMax):
    """Magnitudes of all values that a tensor had, in `BINS` bins from 0 to a power of two."""

    def __init__(self) -> None:
        super().__init__()
        self.top = 0.0
        """Upper edge of the last bin."""
        self.counts = np.zeros(BINS, np.int64)

    def add(self, values: NDArray[np.float32]) -> None:
        """Count values of any shape.

        Raises:
            ModelError: one is not a finite number.
        """
        super().add(values)
        self._grow(max(-float(values.min()), float(values.max())))
        if self.top == 0:
            self.counts[0] += values.size
            return
        bins = (np.abs(values.ravel()) * np.float32(BINS / self.top)).astype(np.int64)
        self.counts += np.bincount(np.minimum(bins, BINS - 1), minlength=BINS)

    def _grow(self, peak: float) -> None:
        """Move the upper edge to the power of two above `peak`, joining bins in pairs."""
        needed = 2.0 ** math.ceil(math.log2(peak)) if peak > 0 else 0.0
        if self.top == 0:
            self.top = needed
        while self.top < needed:
            self.top *= 2
            halves = self.counts.reshape(-1, 2).sum(axis=1)
            self.counts = np.concatenate([halves, np.zeros_like(halves)])

    def range(self, method: RangeMethod) -> tuple[float, float]:
        """Smallest and largest value that INT8 should still tell apart.

        Args:
            method: `min-max` clips nothing; `percentile` clips the largest magnitudes, one in
                10,000; `entropy` clips where the distribution of 128 levels diverges least from
                that of the values (Kullback-Leibler), as TensorRT's entropy calibrator did.
        """
        if method == "min-max" or self.top == 0:
            return self.low, self.high
        bins = _percentile(self.counts) if method == "percentile" else _entropy(self.counts)
        limit = self.top * bins / BINS
        return max(self.low, -limit), min(self.high, limit)


def _percentile(counts: NDArray[np.int64]) -> int:
    """Number of lowest bins that hold `PERCENTILE` percent of the values."""
    needed = counts.sum() * (PERCENTILE / 100)
    return int(np.searchsorted(np.cumsum(counts), needed)) + 1


def _entropy(counts: NDArray[np.int64]) -> int:
    """Number of lowest bins whose 128 levels diverge least from their values; the most at a tie.

    Values near 0 are left out, as is usual: after a ReLU they would outweigh all the others, and
    they cost nothing at any range.
    """
    used = int(np.flatnonzero(counts)[-1]) + 1
    counts = counts.copy()
    counts[0] = min(counts[0], counts[1])
    tail = np.concatenate([np.cumsum(counts[::-1])[::-1], [0]])
    best, fewest = math.inf, used
    for bins in (*range(used, LEVELS, -_ENTROPY_STEP), min(used, LEVELS)):
        kept = counts[:bins].astype(np.float64)
        clipped = kept.copy()
        clipped[-1] += tail[bins]
        level = np.arange(bins) * LEVELS // bins
        filled = np.bincount(level, weights=kept > 0, minlength=LEVELS)
        total = np.bincount(level, weights=kept, minlength=LEVELS)
        spread = np.where(kept > 0, (total / np.maximum(filled, 1))[level], 0.0)
        divergence = _divergence(clipped, spread)
        if divergence < best:
            best, fewest = divergence, bins
    return fewest


def _divergence(true: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Kullback-Leibler divergence of two histograms, each scaled to a sum of 1."""
    if not other.sum():
        return math.inf
    p, q = true / true.sum(), other / other.sum()
    # A bin that holds only clipped values has no level of its own; it costs as much as a rare one.
    q = np.maximum(q, 1e-12)
    seen = p > 0
    return float((p[seen] * np.log(p[seen] / q[seen])).sum())
