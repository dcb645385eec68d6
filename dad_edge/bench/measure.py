"""One measured run: warm-up, samples until they are steady, and what can be said of them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

WARM_UP_SHARE = 0.1
"""Share of the asked time that is run before anything is counted, on top of three calls."""
ROUNDS = 3
"""A run that is not steady goes on for up to this many times the asked time."""
STEADY = 0.02
"""Steady: the median's confidence interval reaches at most this share to either side of it, and
the medians of the run's two halves differ by at most twice that."""
FEWEST_CALLS = 3
FEWEST_SLOW_CALLS = 2
"""Where one call takes longer than a third of the asked time; its warm-up is one call."""

Progress = Callable[[str, float], None]
"""Called about once a second with what is being done and the share that is done."""
Call = Callable[[int], dict[str, float]]
"""Runs the n-th batch and returns the milliseconds of its stages."""


@dataclass(slots=True)
class Samples:
    """One measured run."""

    wall_s: float = 0.0
    warm_up_calls: int = 0
    latency_ms: list[float] = field(default_factory=list)
    """Of every call, in order."""
    stage_ms: list[dict[str, float]] = field(default_factory=list)


def measure(call: Call, seconds: float, progress: Progress = lambda what, share: None) -> Samples:
    """Call again and again until the time is over and the figures are steady."""
    samples = Samples()
    started = time.perf_counter()
    call(0)
    samples.warm_up_calls = 1
    slow = time.perf_counter() - started > seconds / 3
    while not slow and (
        samples.warm_up_calls < FEWEST_CALLS
        or time.perf_counter() < started + seconds * WARM_UP_SHARE
    ):
        call(samples.warm_up_calls)
        samples.warm_up_calls += 1
    fewest = FEWEST_SLOW_CALLS if slow else FEWEST_CALLS
    begin = shown = time.perf_counter()
    for round_number in range(1, (1 if slow else ROUNDS) + 1):
        what = "measuring" if round_number == 1 else "not steady yet, measuring on"
        end = begin + round_number * seconds
        while (now := time.perf_counter()) < end or len(samples.latency_ms) < fewest:
            if now - shown > 1:
                shown = now
                progress(what, min(1 - (end - now) / seconds, 1.0))
            start = time.perf_counter()
            stages = call(len(samples.latency_ms))
            samples.latency_ms.append((time.perf_counter() - start) * 1e3)
            samples.stage_ms.append(stages)
        samples.wall_s = time.perf_counter() - begin
        if why_unsteady(samples.latency_ms) is None:
            break
    return samples


def median_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """95 % confidence interval of a median from order statistics, without assuming a distribution.

    Returns:
        Lower and upper end, or None for fewer than six values, which cannot give one.
    """
    count = len(values)
    if count < 6:
        return None
    reach = 1.96 * math.sqrt(count) / 2
    ordered = sorted(values)
    low = max(math.floor(count / 2 - reach), 0)
    high = min(math.ceil(count / 2 + reach), count - 1)
    return ordered[low], ordered[high]


def why_unsteady(latency_ms: Sequence[float]) -> str | None:
    """Why these latencies, in order, cannot be quoted as one figure; None when they can."""
    interval = median_interval(latency_ms)
    if interval is None:
        return f"only {len(latency_ms)} calls were measured"
    median = float(np.median(latency_ms))
    reach = max(interval[1] - median, median - interval[0]) / median
    if reach > STEADY:
        return f"the median is known to ±{reach:.1%} only"
    middle = len(latency_ms) // 2
    drift = float(np.median(latency_ms[middle:])) / float(np.median(latency_ms[:middle])) - 1
    if abs(drift) > 2 * STEADY:
        return (
            f"the second half of the run was {abs(drift):.0%} {'slower' if drift > 0 else 'faster'}"
        )
    return None


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """p50, p90, p95 and p99."""
    found = np.percentile(values, (50, 90, 95, 99))
    return {
        name: round(float(value), 4)
        for name, value in zip(("p50", "p90", "p95", "p99"), found, strict=True)
    }


def rounded(value: float | None) -> float | None:
    """Six significant digits, for JSON."""
    return None if value is None else float(f"{value:.6g}")


def summary(samples: Samples, frames: int) -> dict[str, Any]:
    """A run as plain values for JSON.

    Args:
        samples: the run.
        frames: frames that one call inspects.
    """
    interval = median_interval(samples.latency_ms)
    total_ms = sum(samples.latency_ms)
    return {
        "frames": frames * len(samples.latency_ms),
        "warm_up_calls": samples.warm_up_calls,
        "wall_s": round(samples.wall_s, 3),
        "fps": rounded(frames * len(samples.latency_ms) / samples.wall_s),
        "latency_ms": percentiles(samples.latency_ms),
        "median_interval_ms": [round(v, 4) for v in interval] if interval else None,
        "unstable": why_unsteady(samples.latency_ms),
        "overhead_share": round(1 - total_ms / 1e3 / samples.wall_s, 5),
    }
