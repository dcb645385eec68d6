from __future__ import annotations

import time
from itertools import pairwise

import numpy as np
import pytest

from dad_edge.bench.measure import (
    FEWEST_CALLS,
    FEWEST_SLOW_CALLS,
    measure,
    median_interval,
    summary,
    why_unsteady,
)


def test_every_call_is_counted_after_a_warm_up() -> None:
    seen: list[int] = []

    def call(index: int) -> dict[str, float]:
        seen.append(index)
        time.sleep(0.001)
        return {"network": 1.0}

    samples = measure(call, 0.05)
    assert samples.warm_up_calls >= FEWEST_CALLS
    assert len(seen) == samples.warm_up_calls + len(samples.latency_ms)
    assert len(samples.stage_ms) == len(samples.latency_ms) >= FEWEST_CALLS
    assert sum(samples.latency_ms) / 1e3 <= samples.wall_s


def test_a_slow_call_is_made_three_times_and_no_more() -> None:
    calls = []

    def call(index: int) -> dict[str, float]:
        calls.append(index)
        time.sleep(0.06)
        return {}

    samples = measure(call, 0.1)
    assert samples.warm_up_calls == 1
    assert len(samples.latency_ms) == FEWEST_SLOW_CALLS
    assert summary(samples, 1)["unstable"] == "only 2 calls were measured"


def test_a_run_that_is_not_steady_goes_on_and_says_so() -> None:
    told: list[str] = []
    waits = iter([0.001, 0.004] * 2000)

    def call(index: int) -> dict[str, float]:
        time.sleep(next(waits))
        return {}

    samples = measure(call, 1.05, lambda what, share: told.append(what))
    assert samples.wall_s > 2
    assert "not steady yet, measuring on" in told


def test_the_bench_itself_costs_less_than_a_hundredth() -> None:
    def call(index: int) -> dict[str, float]:
        end = time.perf_counter() + 0.001
        while time.perf_counter() < end:
            pass
        return {"denoise": 0.5, "segment": 0.5}

    best = min(summary(measure(call, 0.2), 1)["overhead_share"] for _ in range(3))
    assert 0 <= best < 0.01


def test_a_summary_counts_frames_not_calls() -> None:
    found = summary(measure(lambda index: time.sleep(0.001) or {}, 0.05), 4)
    assert found["frames"] % 4 == 0
    assert found["fps"] == pytest.approx(found["frames"] / found["wall_s"], rel=0.02)
    latency = found["latency_ms"]
    assert latency["p50"] <= latency["p90"] <= latency["p95"] <= latency["p99"]


def test_the_median_interval_covers_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(400):
        interval = median_interval(rng.exponential(size=60).tolist())
        assert interval is not None
        covered += interval[0] <= np.log(2) <= interval[1]
    assert 0.92 <= covered / 400 <= 0.99


def test_more_frames_narrow_the_median_interval() -> None:
    values = np.random.default_rng(1).normal(10, 1, 3000).tolist()
    widths = []
    for count in (30, 300, 3000):
        interval = median_interval(values[:count])
        assert interval is not None
        widths.append(interval[1] - interval[0])
    assert all(b < a for a, b in pairwise(widths))


@pytest.mark.parametrize(
    ("latency_ms", "why"),
    [
        ([10.0] * 3, "only 3 calls were measured"),
        ([5.0, 15.0] * 50, "the median is known to ±50.0% only"),
        (np.linspace(9.5, 10.5, 2000).tolist(), "the second half of the run was 5% slower"),
        (np.linspace(10.5, 9.5, 2000).tolist(), "the second half of the run was 5% faster"),
        ([10.0] * 50, None),
    ],
)
def test_only_steady_figures_can_be_quoted(latency_ms: list[float], why: str | None) -> None:
    assert why_unsteady(latency_ms) == why
