from __future__ import annotations

import os
from pathlib import Path

import pytest

from dad_edge.machine.load import Load, LoadWatch

CLOCK = os.sysconf("SC_CLK_TCK")


class Machine:
    """Counters of a machine whose time passes only when a test says so."""

    def __init__(self, root: Path) -> None:
        self.root, self.wall_s, self.own_s, self.busy_s, self.stolen_s = root, 0.0, 0.0, 100.0, 0.0
        (root / "proc").mkdir()
        self.pass_time()

    def pass_time(
        self, wall_s: float = 0, *, own_s: float = 0, others_s: float = 0, stolen_s: float = 0
    ) -> None:
        """Let some seconds pass in which this process and others work."""
        self.wall_s += wall_s
        self.own_s += own_s
        self.busy_s += own_s + others_s
        self.stolen_s += stolen_s
        busy, stolen = round(self.busy_s * CLOCK), round(self.stolen_s * CLOCK)
        text = f"cpu  {busy} 0 0 900 5 0 0 {stolen} 0 0\ncpu0 0 0 0\n"
        (self.root / "proc/stat").write_text(text)

    def watch(self) -> LoadWatch:
        return LoadWatch(self.root, wall_s=lambda: self.wall_s, own_s=lambda: self.own_s)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_work_of_others_is_told_from_ones_own(machine: Machine) -> None:
    with machine.watch() as watch:
        machine.pass_time(2, own_s=1.5, others_s=2.5)
    assert watch.load.other_cores == pytest.approx(1.25)
    assert watch.load.stolen_share == 0
    assert watch.load.loaded


def test_ones_own_work_is_not_load(machine: Machine) -> None:
    with machine.watch() as watch:
        machine.pass_time(2, own_s=2)
    assert watch.load.other_cores == pytest.approx(0, abs=0.01)
    assert not watch.load.loaded


def test_a_host_that_withholds_time_counts_as_load(machine: Machine) -> None:
    cores = os.cpu_count() or 1
    with machine.watch() as watch:
        machine.pass_time(10, stolen_s=0.2 * cores)
    assert watch.load.stolen_share == pytest.approx(0.02)
    assert watch.load.loaded


def test_unreadable_counters_are_unknown_not_idle(tmp_path: Path) -> None:
    with LoadWatch(tmp_path) as watch:
        pass
    assert watch.load.other_cores is watch.load.stolen_share is None
    assert not watch.load.loaded


def test_the_real_counters_are_read() -> None:
    with LoadWatch() as watch:
        sum(range(10**6))
    assert isinstance(watch.load, Load)
    assert (watch.load.other_cores is None) == (not Path("/proc/stat").is_file())
