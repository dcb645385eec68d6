from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from dad_edge.machine.load import Load, LoadWatch

CLOCK = os.sysconf("SC_CLK_TCK")


def _stat(root: Path, busy_s: float, stolen_s: float) -> None:
    (root / "proc").mkdir(exist_ok=True)
    busy, stolen = int(busy_s * CLOCK), int(stolen_s * CLOCK)
    (root / "proc/stat").write_text(f"cpu  {busy} 0 0 900 5 0 0 {stolen} 0 0\ncpu0 0 0 0\n")


def test_work_of_others_is_told_from_ones_own(tmp_path: Path) -> None:
    _stat(tmp_path, 100, 0)
    with LoadWatch(tmp_path) as watch:
        own = time.process_time()
        while time.process_time() < own + 0.2:
            pass
        _stat(tmp_path, 100 + 0.2 + 5, 0)
    assert watch.load.other_cores is not None
    assert watch.load.other_cores > 1
    assert watch.load.loaded


def test_ones_own_work_is_not_load(tmp_path: Path) -> None:
    _stat(tmp_path, 100, 0)
    with LoadWatch(tmp_path) as watch:
        own = time.process_time()
        while time.process_time() < own + 0.2:
            pass
        _stat(tmp_path, 100.2, 0)
    assert watch.load.other_cores == pytest.approx(0, abs=0.1)


def test_a_host_that_withholds_time_counts_as_load(tmp_path: Path) -> None:
    _stat(tmp_path, 100, 0)
    with LoadWatch(tmp_path) as watch:
        time.sleep(0.05)
        _stat(tmp_path, 100, 50)
    assert watch.load.loaded
    assert (watch.load.stolen_share or 0) > 0.01


def test_unreadable_counters_are_unknown_not_idle(tmp_path: Path) -> None:
    with LoadWatch(tmp_path) as watch:
        pass
    assert watch.load.other_cores is None
    assert not Load(None, None, (0.0, 0.0, 0.0), 2).loaded
