"""The study of CPU runtimes measures what it says, and a row that fails costs itself only."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import pytest
from small_networks import make_network_bundle

from benchmarks import cpu_speed


def test_a_row_tells_speed_threads_and_the_share_around_the_networks(tmp_path: Path) -> None:
    bundle = make_network_bundle(tmp_path / "bundle").path
    options = argparse.Namespace(bundle=bundle, seconds=0.1)
    row = cpu_speed.run_row("ONNX Runtime", "fp32", 1, options)
    assert row["backend"].endswith("CPU fp32, 1 threads")
    assert row["fps"] > 0
    assert 0 < row["share_around_networks"] < 1
    assert row["cpu_ms_per_frame"] > 0
    assert row["resident_mib"] > row["growth_mib"] > 0


def test_rows_that_fail_are_in_the_result_with_their_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cpu_speed, "ROWS", (("ONNX Runtime", "fp32"),))
    arguments = ["--bundle", str(tmp_path / "absent"), "--threads", "1", "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["cpu_speed.py", *arguments])
    cpu_speed.main()
    (path,) = tmp_path.glob("cpu-speed_*.json")
    (row,) = json.loads(path.read_text())["rows"]
    assert "absent" in row["error"]
    assert row["threads"] == 1
