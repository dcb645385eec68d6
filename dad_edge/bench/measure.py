"""One measured run: warm-up, samples until they are steady, and the figures that follow."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import overload

import numpy as np

from dad_edge.bench.pace import Pace, Reading
from dad_edge.bench.result import Percentiles
from dad_edge.progress import Progress, silent

WARM_UP_SHARE = 0.1
"""Before anything is counted, three calls and this share of the asked time are run."""
ROUNDS = 3
"""A run that is not steady goes on for up to this many times the asked time."""
STEADY = 0.02
"""A run is steady if the median's confidence interval reaches at most this share to either side and
the medians of the run's two halves differ by at most twice that."""
BLOCK_S = 0.25
"""After so many seconds of calls the machine's own speed is read again."""
FEWEST_CALLS = 3
FEWEST_STEADY = 6
"""With fewer calls there is no confidence interval, and the run is never called steady."""
FEWEST_SLOW_CALLS = 2
"""As many calls are enough where one takes longer than a third of the time; one more warms up."""

Call = Callable[[int], dict[str, float]]
"""Runs the n-th batch and returns the milliseconds of its stages."""


@dataclass(slots=True)
class Block:
    """Calls in a row, with readings of the machine's speed before and after them."""

    wall_s: float = 0.0
    latency_ms: list[float] = field(default_factory=list)
    """Of every call, in order."""
    stage_ms: list[dict[str, float]] = field(default_factory=list)
    speed: Reading = ()
    """The lower of the two readings; empty where none is taken."""


@dataclass(slots=True)
class Samples:
    """One measured run: the calls that count."""

    wall_s: float
    warm_up_calls: int
    latency_ms: list[float]
    """Of every call, in order."""
    stage_ms: list[dict[str, float]]
    slowed_share: float | None
    """Share of the time in which the machine itself was slowed; None if nothing watched it."""
    slowed_counts: bool
    """Whether that time counts in the figures, because too little is left without it."""
    speed: Reading | None
    """Median of the machine's speed while they were made."""


def measure(
    call: Call,
    seconds: float,
    progress: Progress = silent,
    pace: Pace | None = None,
    blocks: list[Block] | None = None,
) -> Samples:
    """Call again and again until the time is over and the figures are steady.

    Args:
        call: what is measured.
        seconds: how long.
        progress: told about once a second how far it is.
        pace: watches the machine's own speed. Times in which it was slowed are left out, and made
            up for, as long as there are others.
        blocks: blocks of earlier visits to the same row, which count too; new ones are added.

    Returns:
        The calls of all visits that count.
    """
    started = time.perf_counter()
    call(0)
    warm_up_calls = 1
    slow = time.perf_counter() - started > seconds / 3
    while not slow and (
        warm_up_calls < FEWEST_CALLS or time.perf_counter() < started + seconds * WARM_UP_SHARE
    ):
        call(warm_up_calls)
        warm_up_calls += 1
    fewest = FEWEST_SLOW_CALLS if slow else FEWEST_CALLS
    limit_s = seconds if slow else seconds * ROUNDS
    visit: list[Block] = []
    calls, measured_s, goal_s, shown = 0, 0.0, seconds, time.perf_counter()
    before = pace.read() if pace else ()
    while calls < fewest or measured_s < limit_s:
        block = _block(call, calls, min(BLOCK_S, seconds))
        after = pace.read() if pace else ()
        block.speed, before = tuple(map(min, before, after)), after
        visit.append(block)
        calls += len(block.latency_ms)
        measured_s += block.wall_s
        quiet = at_full_speed(visit, pace)
        if calls >= fewest and sum(b.wall_s for b in quiet) >= goal_s:
            if why_unsteady([ms for b in quiet for ms in b.latency_ms]) is None:
                break
            goal_s += seconds
        if time.perf_counter() - shown > 1:
            shown = time.perf_counter()
            note = "measuring" if measured_s < seconds else "not steady yet, measuring on"
            progress(min(measured_s / seconds, 1.0), 1.0, note)
    blocks = [] if blocks is None else blocks
    blocks.extend(visit)
    return _gather(blocks, warm_up_calls, seconds, pace)


def _block(call: Call, first: int, seconds: float) -> Block:
    block = Block()
    begin = time.perf_counter()
    while not block.latency_ms or time.perf_counter() < begin + seconds:
        start = time.perf_counter()
        stages = call(first + len(block.latency_ms))
        block.latency_ms.append((time.perf_counter() - start) * 1e3)
        block.stage_ms.append(stages)
    block.wall_s = time.perf_counter() - begin
    return block


def at_full_speed(blocks: Sequence[Block], pace: Pace | None) -> list[Block]:
    """The blocks in which the machine was not slowed; all of them where nothing watched it."""
    return [b for b in blocks if pace is None or not pace.slowed(b.speed)]


def _gather(
    blocks: Sequence[Block], warm_up_calls: int, seconds: float, pace: Pace | None
) -> Samples:
    """The calls made at full speed, or all of them where those are too few."""
    quiet = at_full_speed(blocks, pace)
    quiet_s, all_s = sum(b.wall_s for b in quiet), sum(b.wall_s for b in blocks)
    too_few = quiet_s < seconds / 2 or sum(len(b.latency_ms) for b in quiet) < FEWEST_STEADY
    slowed_counts = len(quiet) < len(blocks) and too_few
    counted = blocks if slowed_counts else quiet
    return Samples(
        wall_s=all_s if slowed_counts else quiet_s,
        warm_up_calls=warm_up_calls,
        latency_ms=[ms for b in counted for ms in b.latency_ms],
        stage_ms=[stages for b in counted for stages in b.stage_ms],
        slowed_share=None if pace is None else 1 - quiet_s / all_s,
        slowed_counts=slowed_counts,
        speed=tuple(np.median([b.speed for b in counted], axis=0).tolist()) if pace else None,
    )


def median_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """95 % confidence interval of a median from order statistics, without assuming a distribution.

    Returns:
        Lower and upper end, or None for fewer than six values, which cannot give one.
    """
    count = len(values)
    if count < FEWEST_STEADY:
        return None
    reach = 1.96 * math.sqrt(count) / 2
    ordered = sorted(values)
    low = max(math.floor(count / 2 - reach), 0)
    high = min(math.ceil(count / 2 + reach), count - 1)
    return ordered[low], ordered[high]


def why_unsteady(latency_ms: Sequence[float]) -> str | None:
    """Why latencies, in the order of calls, cannot be quoted as one figure; None if they can."""
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


def percentiles(values: Sequence[float]) -> Percentiles:
    """p50, p90, p95 and p99 of times in milliseconds."""
    levels = np.percentile(values, (50, 90, 95, 99))
    p50, p90, p95, p99 = (round(float(value), 4) for value in levels)
    return Percentiles(p50=p50, p90=p90, p95=p95, p99=p99)


@overload
def rounded(value: float) -> float: ...
@overload
def rounded(value: float | None) -> float | None: ...
def rounded(value: float | None) -> float | None:
    """Six significant digits, for JSON."""
    return None if value is None else float(f"{value:.6g}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """A run in figures; `Row` has the same fields."""

    frames: int
    warm_up_calls: int
    wall_s: float
    fps: float
    latency_ms: Percentiles
    median_interval_ms: tuple[float, float] | None
    unstable: str | None
    slowed_share: float | None
    overhead_share: float


def summary(samples: Samples, frames: int) -> Summary:
    """The figures of a run.

    Args:
        samples: the run.
        frames: frames that one call inspects.
    """
    interval = median_interval(samples.latency_ms)
    unstable = why_unsteady(samples.latency_ms)
    if samples.slowed_counts:
        unstable = (
            f"the machine itself was slowed for {samples.slowed_share:.0%} of the time, "
            "and too little is left without it"
        )
    inspected = frames * len(samples.latency_ms)
    return Summary(
        frames=inspected,
        warm_up_calls=samples.warm_up_calls,
        wall_s=rounded(samples.wall_s),
        fps=rounded(inspected / samples.wall_s),
        latency_ms=percentiles(samples.latency_ms),
        median_interval_ms=(round(interval[0], 4), round(interval[1], 4)) if interval else None,
        unstable=unstable,
        slowed_share=rounded(samples.slowed_share),
        overhead_share=round(1 - sum(samples.latency_ms) / 1e3 / samples.wall_s, 5),
    )
