"""The queue of a server: where it must agree with arithmetic, and what a result has to hold."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import fleet
from benchmarks.fleet import Service, between, most_cameras, simulate

STEADY = Service(between({1: 0.010}), 0.0)


def test_times_between_measured_ones_lie_on_a_line() -> None:
    seconds_of = between({1: 0.010, 4: 0.016, 8: 0.020})
    assert [seconds_of(n) for n in (1, 2, 4, 6, 8)] == pytest.approx(
        [0.010, 0.012, 0.016, 0.018, 0.020]
    )
    assert between({1: 0.010})(3) == pytest.approx(0.030)


def test_clients_that_ask_again_at_once_share_the_server() -> None:
    for clients in (1, 4, 8):
        found = simulate(STEADY, clients, None, wait_s=0.0)
        assert np.median(found) == pytest.approx(10.0 * clients, rel=0.01)
        assert len(found) == pytest.approx(100 * (fleet.SECONDS - fleet.WARM_UP_S), rel=0.02)


def test_a_lone_camera_waits_for_others_that_do_not_come() -> None:
    found = simulate(STEADY, 1, 0.1, wait_s=0.003)
    np.testing.assert_allclose(found, 13.0)


def test_a_server_carries_what_it_can_compute_and_no_more() -> None:
    assert most_cameras(STEADY, 10.0, 1000.0) == 10  # 100 frames/s
    together = Service(between({1: 0.010, 8: 0.020}), 0.0)
    assert 36 <= most_cameras(together, 10.0, 250.0) <= 40  # 400 frames/s
    assert most_cameras(STEADY, 10.0, 5.0) == 0
    unsteady = Service(between({1: 0.010}), 0.5)
    assert 0 < most_cameras(unsteady, 10.0, 100.0) < 10


def test_the_result_names_where_its_times_come_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleet, "SECONDS", 8.0)
    monkeypatch.setattr(sys, "argv", ["fleet", "--out", str(tmp_path)])
    fleet.main()
    [path] = tmp_path.iterdir()
    result = json.loads(path.read_text())
    assert {row["from"].partition("_")[0] for row in result["rows"]} == {"fused", "triton-load"}
    for row in result["checked_against"]:
        assert row["simulated_p50_ms"] == pytest.approx(row["measured_p50_ms"], rel=0.25)
