from __future__ import annotations

import os
from itertools import pairwise

import numpy as np
import pytest

from dad_edge.bench.measure import (
    FEWEST_CALLS,
    FEWEST_SLOW_CALLS,
    Samples,
    measure,
    median_interval,
    summary,
    why_unsteady,
)
from dad_edge.bench.pace import PRODUCTS, Pace, Task, handover, product


class Machine:
    """A clock of its own, and work that takes twice as long while the machine is slowed."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, slowed_share: float = 0.0, reading_s: float = 0.0
    ) -> None:
        """
        Args:
            monkeypatch: puts this clock in the place of the real one.
            slowed_share: of every four seconds.
            reading_s: what it costs to read the clock.
        """
        self.now, self.slowed_s, self.reading_s = 0.0, 4 * slowed_share, reading_s
        for module in ("measure", "pace"):
            monkeypatch.setattr(f"dad_edge.bench.{module}.time", self)

    def perf_counter(self) -> float:
        self.now += self.reading_s
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def work(self, seconds: float) -> dict[str, float]:
        self.now += seconds * (2 if self.now % 4 >= 4 - self.slowed_s else 1)
        return {}


def test_every_call_is_counted_after_a_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    machine, seen = Machine(monkeypatch), []

    def call(index: int) -> dict[str, float]:
        seen.append(index)
        machine.work(0.001)
        return {"network": 1.0}

    samples = measure(call, 0.05)
    assert samples.slowed_share is None  # nothing watched the machine
    assert samples.warm_up_calls >= FEWEST_CALLS
    assert len(seen) == samples.warm_up_calls + len(samples.latency_ms)
    assert len(samples.stage_ms) == len(samples.latency_ms) >= FEWEST_CALLS
    assert sum(samples.latency_ms) / 1e3 == pytest.approx(samples.wall_s)


def test_a_slow_call_is_made_three_times_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch)
    samples = measure(lambda index: machine.work(0.06), 0.1)
    assert samples.warm_up_calls == 1
    assert len(samples.latency_ms) == FEWEST_SLOW_CALLS
    assert summary(samples, 1).unstable == "only 2 calls were measured"


def test_a_run_that_is_not_steady_goes_on_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    machine, told = Machine(monkeypatch), []
    samples = measure(
        lambda index: machine.work(0.004 if index % 2 else 0.001),
        1.05,
        lambda done, total, note="": told.append(note),
    )
    assert 3 <= samples.wall_s < 4
    assert "not steady yet, measuring on" in told


def test_time_between_the_calls_is_told_and_the_bench_spends_little(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    quick = Machine(monkeypatch)
    assert summary(measure(lambda index: quick.work(0.001), 0.2), 1).overhead_share < 1e-5
    slow_clock = Machine(monkeypatch, reading_s=1e-6)
    share = summary(measure(lambda index: slow_clock.work(0.001), 0.2), 1).overhead_share
    assert 0.001 < share < 0.003  # two or three readings of the clock lie between two calls


def test_a_summary_counts_frames_not_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch)
    found = summary(measure(lambda index: machine.work(0.001 * (1 + index % 3)), 0.05), 4)
    assert found.frames % 4 == 0
    assert found.fps == pytest.approx(found.frames / found.wall_s, rel=1e-4)
    latency = found.latency_ms
    assert latency.p50 < latency.p90 <= latency.p95 <= latency.p99 == pytest.approx(3)


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


def pace_of(machine: Machine) -> Pace:
    """One whose task takes a millisecond at full speed."""

    def task() -> float:
        start = machine.now
        machine.work(0.001)
        return machine.now - start

    return Pace([Task("work", 0.9, task)])


def measured_on(machine: Machine) -> Samples:
    return measure(lambda index: machine.work(0.01), 3.0, pace=pace_of(machine))


def test_times_in_which_the_machine_was_slowed_are_left_out_and_made_up_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    samples = measured_on(Machine(monkeypatch, 0.4))
    assert samples.latency_ms == pytest.approx([10.0] * len(samples.latency_ms))
    assert samples.wall_s == pytest.approx(sum(samples.latency_ms) / 1e3)
    assert samples.wall_s >= 3
    assert samples.slowed_share is not None
    assert 0.3 < samples.slowed_share < 0.6
    assert samples.speed == pytest.approx((1000,))
    assert summary(samples, 1).unstable is None
    assert summary(samples, 1).fps == pytest.approx(100)


def test_a_machine_that_is_slowed_nearly_always_is_measured_as_it_is_and_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    samples = measured_on(Machine(monkeypatch, 0.85))
    assert 9 < samples.wall_s < 10
    assert np.median(samples.latency_ms) == pytest.approx(20)
    said = summary(samples, 1).unstable
    assert str(said).startswith("the machine itself was slowed for 9")


def test_calls_of_earlier_visits_count_and_must_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    machine, blocks = Machine(monkeypatch), []
    first = measure(lambda index: machine.work(0.01), 1.0, blocks=blocks)
    both = measure(lambda index: machine.work(0.01), 1.0, blocks=blocks)
    assert len(both.latency_ms) == pytest.approx(2 * len(first.latency_ms), abs=2)
    assert both.wall_s == pytest.approx(2, abs=0.1)
    assert summary(both, 1).unstable is None
    slower = measure(lambda index: machine.work(0.012), 1.0, blocks=blocks[:4])
    assert summary(slower, 1).unstable == "the median is known to ±20.0% only"


def test_an_undisturbed_machine_leaves_nothing_out(monkeypatch: pytest.MonkeyPatch) -> None:
    samples = measured_on(Machine(monkeypatch))
    assert samples.slowed_share == 0
    assert 3 <= samples.wall_s < 3.5


def test_a_machine_is_slowed_if_one_task_is_below_its_own_share() -> None:
    first, second = iter([0.001, 0.001, 0.001, 0.00125]), iter([0.01, 0.01, 0.0125, 0.01])
    tasks = [Task("first", 0.9, lambda: next(first)), Task("second", 0.7, lambda: next(second))]
    pace = Pace(tasks)
    assert pace.shares(pace.read()) == pytest.approx({"first": 1, "second": 1})
    pace.read()
    reading = pace.read()
    assert pace.shares(reading) == pytest.approx({"first": 1, "second": 0.8})
    assert not pace.slowed(reading)
    assert pace.slowed(pace.read())


def test_a_product_is_the_median_after_one_that_does_not_count(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    machine = Machine(monkeypatch)
    times = iter([0.09, 0.05, *[0.01] * (PRODUCTS - 1)])
    monkeypatch.setattr(
        "dad_edge.bench.pace.onnx_gemm", lambda *given: lambda: machine.work(next(times))
    )
    assert product()() == pytest.approx(0.01)


def test_threads_that_spin_after_a_call_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch)
    pace = pace_of(machine)
    machine.now, machine.slowed_s = 3.995, 0.005  # slow for another five milliseconds
    assert pace.read() == pytest.approx((1000,))


def test_the_real_tasks_leave_the_process_on_its_cores() -> None:
    cores = os.sched_getaffinity(0)
    pace = Pace()
    for _ in range(2):
        product_speed, handover_speed = pace.read()
        assert product_speed > 0
        assert handover_speed > 0
    assert os.sched_getaffinity(0) == cores


@pytest.mark.parametrize(("usable", "taken"), [(1, 1), (2, 2), (8, 8), (12, 6), (64, 8)])
def test_a_handover_takes_no_more_than_eight_cores(
    monkeypatch: pytest.MonkeyPatch, usable: int, taken: int
) -> None:
    pinned: set[int] = set()
    monkeypatch.setattr("os.sched_getaffinity", lambda process: set(range(usable)))
    monkeypatch.setattr("os.sched_setaffinity", lambda process, cores: pinned.update(cores))
    assert handover()() > 0
    assert len(pinned) == taken


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
